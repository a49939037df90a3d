"""One table at the end: what was run, what was hit, what was found. A figure of nought proves nothing and fails."""

import platform
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tools.chaos import schedule
from tools.chaos.matrix import Tally
from tools.chaos.storm import Outcome
from tools.dev.devenv import ROOT

LEAST_RUNS = 900
LEAST_ORDERS = 1000


@dataclass
class Report:
    seed: int
    quick: bool
    matrix: Tally | None = None
    storm: Outcome | None = None
    bugs: dict[str, Tally] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def problems(self) -> list[str]:
        return [*self._matrix_problems(), *self._storm_problems(), *self._bug_problems()]

    def table(self) -> str:
        lines = [f"chaos, seed {self.seed}, commit {commit()}{', quick selection' if self.quick else ''}", ""]
        for name, value in self._figures():
            lines.append(f"  {name:<46} {value}")
        for title, counts in self._counts():
            lines += ["", f"  {title}", *(f"    {name:<44} {count:>6}" for name, count in sorted(counts.items()))]
        lines += ["", *(f"FAILED: {problem}" for problem in self.problems[:60])]
        lines.append("Nothing was bought twice, nothing was lost." if not self.problems else "The proof failed.")
        return "\n".join(lines)

    def page(self) -> str:
        """Return the same as a section of docs/proof.md."""
        rows = [f"| {name} | {value} |" for name, value in self._figures()]
        text = [f"Seed {self.seed}, commit `{commit()}`, {platform.python_version()}, {self._minutes()}.", ""]
        text += ["| figure | value |", "|---|---|", *rows]
        for title, counts in self._counts():
            text += ["", f"### {title}", "", "| | hits |", "|---|---:|"]
            text += [f"| {name} | {count} |" for name, count in sorted(counts.items())]
        return "\n".join(text) + "\n"

    def _minutes(self) -> str:
        return f"{(time.monotonic() - self.started) / 60:.1f} minutes"

    def _figures(self) -> Iterable[tuple[str, object]]:
        if run := self.matrix:
            yield "matrix: runs", run.runs
            yield "matrix: of them interrupted at their failpoint", run.interrupted
            yield "matrix: purchases per item, how often", dict(sorted(run.sold.items()))
            yield "matrix: orders ended", dict(run.ends)
            yield "matrix: violations", len(run.wrong)
        if storm := self.storm:
            facts = storm.facts
            yield "random run: orders paid", facts["paid"]
            yield "random run: purchases in the supplier's ledger", facts["sold"]
            yield "random run: double purchases", facts["double"]
            yield "random run: orders ended", facts["orders"]
            yield "random run: held, and for what", facts["held_for"]
            yield "random run: blows", sum(storm.blows.values())
            yield "random run: schedule", schedule.fingerprint(self.seed)
            yield "random run: violations, reconcile included", len(storm.wrong)
            yield "random run: seconds, and to drain", f"{storm.seconds:.0f}, {storm.drained:.0f}"
        if self.bugs:
            caught = sum(bool(tally.wrong) for tally in self.bugs.values())
            yield "seeded bugs caught", f"{caught} of {len(self.bugs)}"

    def _counts(self) -> Iterable[tuple[str, Counter[str] | dict[str, object]]]:
        if run := self.matrix:
            yield "matrix: hits per failpoint", run.failpoints
            yield "matrix: interrupted runs per supplier behaviour", run.behaviours
            yield "matrix: interrupted runs per way of running", run.modes
        if storm := self.storm:
            yield "random run: blows", storm.blows
            yield "random run: faults the providers played", storm.faults
            yield "random run: failpoints that ended or broke a worker", storm.failpoints
        if self.bugs:
            yield (
                "seeded bugs: caught after so many runs",
                {
                    f"{bug}: {tally.wrong[0][1].partition(':')[0] if tally.wrong else 'NOT CAUGHT'}": tally.runs
                    for bug, tally in self.bugs.items()
                },
            )

    def _matrix_problems(self) -> Iterable[str]:
        run = self.matrix
        if run is None:
            return
        yield from (f"{text} ({cell})" for cell, text in run.wrong)
        yield from (f"never hit: {name}" for name in run.never_hit())
        if not self.quick and run.interrupted < LEAST_RUNS:
            yield f"only {run.interrupted} interrupted runs, {LEAST_RUNS} are asked for"

    def _storm_problems(self) -> Iterable[str]:
        run = self.storm
        if run is None:
            return
        yield from run.wrong
        # A short run meets every kind of blow, but not the providers' rarest faults.
        yield from (f"never dealt: {name}" for name in run.never_dealt() if not self.quick or name in schedule.KINDS)
        if not self.quick and run.facts["paid"] < LEAST_ORDERS:
            yield f"only {run.facts['paid']} paid orders, {LEAST_ORDERS} are asked for"

    def _bug_problems(self) -> Iterable[str]:
        yield from (f"bug not caught: {bug}" for bug, tally in self.bugs.items() if not tally.wrong)


def commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"

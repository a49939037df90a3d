"""`make test`: the suite on SQLite with the embedded broker, again on PostgreSQL with Redis, and coverage gates.

The apps and `core` run on both. What stands on them (pages, the admin, operators' commands) runs on PostgreSQL where
that is there, otherwise on SQLite; `make nightly` runs it on both, with the tests that are marked so.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tools.dev.devenv import ROOT
from tools.dev.services import Missing, find_program, throw_away_services

REPORTS = ROOT / "var" / "test-reports"
# Their own tests cover them; others of bitloot/ drive whole stories through them, and tracing would double their time.
MEASURED = ("payments", "fulfillment", "storage", "orders", "webhooks")
CORE = "bitloot/core"
ABOVE = ("bitloot", "sandbox")
GATES = {"payments": 100.0, "fulfillment": 95.0, "storage": 95.0}
# Whole stores as processes, with browsers, kills and DEBUG off.
PROCESSES = "chaos or production or browser"
# Three processes would otherwise import every test there is to find these few.
MARKED_SO = re.compile(r"\bmark\.(chaos|production|browser)\b")
# What says the same on either database is run once.
ONCE = f"{PROCESSES} or nginx or once"
ON_POSTGRES = f"(django_db or postgres or redis) and not ({ONCE})"
PROGRAMS = {"nginx": "nginx-light", "chromium": "chromium", "chromedriver": "chromium-driver", "node": "nodejs"}
MESSAGE_LENGTH = 600  # of what a failed test said, repeated at the end
IS_NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


@dataclass(frozen=True)
class Stage:
    name: str
    slug: str
    marks: str
    where: tuple[str, ...]
    options: tuple[str, ...]
    services: dict[str, str] = field(default_factory=dict)
    aside: bool = False


@dataclass(frozen=True)
class Result:
    stage: Stage
    passed: int
    failed: int
    skipped: int
    seconds: float
    code: int
    failures: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        return f"{self.stage.name}: {counts} in {self.seconds:.0f} s"


def main() -> None:
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    # Always servers of our own: the tests empty what they use, and two runs on one machine must not meet.
    with throw_away_services() as (started, skipped), ThreadPoolExecutor(1) as aside:
        services = {} if skipped else started
        waiting = [aside.submit(_run, stage) for stage in _stages_aside(services)]
        try:
            results = [_run(stage) for stage in _stages(all_on_sqlite=IS_NIGHTLY or not services)]
            for running in waiting:
                results.append(running.result())
                log = (REPORTS / f"{results[-1].stage.slug}.log").read_text()
                print(f"\n=== {results[-1].stage.name}\n{log}", flush=True)
        finally:
            aside.shutdown(cancel_futures=True)  # after Ctrl-C the next one would begin
    gates = _coverage()
    skipped += _missing_programs()
    _report(results, gates, skipped)
    sys.exit(1 if any(result.code for result in results) or _broken(gates) or (skipped and IN_CI) else 0)


def _stages(*, all_on_sqlite: bool) -> Iterator[Stage]:
    """Yield what computes all the time: two tests at once, for the two CPUs that CI has."""
    marks = f"not ({PROCESSES} or postgres or redis)"
    two = ("-n", "2", "--dist", "worksteal")
    measured = (*(f"--cov={package}" for package in MEASURED), "--cov-report=")
    yield Stage("SQLite, embedded broker: the apps and core", "apps", marks, (*MEASURED, CORE), (*two, *measured))
    if not all_on_sqlite:
        marks += f" and not ({ON_POSTGRES})"
    others = (*two, "--no-cov", f"--ignore={CORE}")
    yield Stage("SQLite, embedded broker: what stands on them", "stories", marks, ABOVE, others)


def _stages_aside(services: dict[str, str]) -> Iterator[Stage]:
    """Yield what waits, for other processes or for PostgreSQL: it runs beside the other stages."""
    # Whole files for what starts a store of its own: its tests share it. In their order, not those with most tests
    # first: the longest file has few, and nobody would be left to run beside it.
    by_file = ("-n", "4", "--dist", "loadfile", "--no-loadscope-reorder", "--no-cov")
    name = "Real processes: browsers, kills, the store with DEBUG off"
    yield Stage(name, "processes", PROCESSES, tuple(_files_with_processes()), by_file, aside=True)
    if services:
        any_order = ("-n", "2", "--dist", "worksteal", "--no-cov")
        yield Stage("PostgreSQL, Redis", "postgres", ON_POSTGRES, (), any_order, services, aside=True)


def _run(stage: Stage) -> Result:
    """Run the tests of a stage; what they print goes to a file if they run aside."""
    report = REPORTS / f"{stage.slug}.xml"
    marks = stage.marks if IS_NIGHTLY else f"({stage.marks}) and not nightly"
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-m", marks, f"--junitxml={report}"]
    command += [*stage.options, *(sys.argv[1:] or stage.where)]
    if not stage.aside:
        # With the same priority these end minutes before what runs aside, which then leaves a CPU idle.
        command = ["nice", "-n", "2", *command]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    environment = outside | stage.services | {"COVERAGE_FILE": str(REPORTS / ".coverage")}
    started = time.monotonic()
    with (REPORTS / f"{stage.slug}.log").open("w") if stage.aside else nullcontext() as log:
        if not stage.aside:
            print(f"\n=== {stage.name}", flush=True)
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
    code = done.returncode
    return _counted(stage, report, time.monotonic() - started, 0 if code == 5 else code)  # 5: no test has these marks


def _files_with_processes() -> list[str]:
    files = sorted(file for folder in (*MEASURED, *ABOVE) for file in (ROOT / folder).rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if MARKED_SO.search(file.read_text("utf-8"))]


def _counted(stage: Stage, report: Path, seconds: float, code: int) -> Result:
    if not report.exists():
        return Result(stage, 0, 0, 0, seconds, code or 1)
    suite = next(ElementTree.parse(report).iter("testsuite"))  # noqa: S314 - pytest wrote it
    total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    passed = total - failed - skipped
    return Result(stage, passed, failed, skipped, seconds, code, tuple(_failures(suite)))


def _failures(suite: ElementTree.Element) -> Iterator[str]:
    for case in suite.iter("testcase"):
        for trouble in (*case.iter("failure"), *case.iter("error")):
            yield f"{case.get('classname')}::{case.get('name')}: {str(trouble.get('message'))[:MESSAGE_LENGTH]}"


def _coverage() -> dict[str, float]:
    """Return the covered share of lines and branches, by package."""
    target = REPORTS / "coverage.json"
    environment = os.environ | {"COVERAGE_FILE": str(REPORTS / ".coverage")}
    subprocess.run(
        [sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(target)], cwd=ROOT, env=environment, check=True
    )
    files = json.loads(target.read_text())["files"]
    return {package: _share(files, package) for package in MEASURED}


def _share(files: dict[str, dict], package: str) -> float:
    summaries = [file["summary"] for path, file in files.items() if path.startswith(f"{package}/")]
    everything = sum(summary["num_statements"] + summary["num_branches"] for summary in summaries)
    covered = sum(summary["covered_lines"] + summary["covered_branches"] for summary in summaries)
    return 100.0 * covered / everything if everything else 100.0


def _broken(gates: dict[str, float]) -> list[str]:
    return [package for package, least in GATES.items() if gates[package] < least]


def _missing_programs() -> list[str]:
    missing = []
    for name, package in PROGRAMS.items():
        try:
            find_program(name, package)
        except Missing as err:
            missing.append(f"no {name}: {err}")
    return missing


def _report(results: list[Result], gates: dict[str, float], skipped: list[str]) -> None:
    print("\n=== Summary")
    for package, share in gates.items():
        least = GATES.get(package)
        verdict = "" if least is None else f" (at least {least:g})" + (" TOO LOW" if share < least else "")
        print(f"Coverage of {package}: {share:.1f} %{verdict}")
    if _broken(gates):
        print(f"See what is not covered: COVERAGE_FILE={REPORTS}/.coverage .venv/bin/python -m coverage report -m")
    for reason in skipped:
        print(f"SKIPPED: {reason}" + (": CI requires it" if IN_CI else ""))
    for result in results:
        for failure in result.failures:
            print(f"FAILED on {result.stage.name}: {failure}")
        print(result)
    if not IS_NIGHTLY:
        print("Left to `make nightly`: what is marked so, and SQLite for what ran on PostgreSQL and stands on the apps")


if __name__ == "__main__":
    main()

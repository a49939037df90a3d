"""`make chaos`: prove that one order item is bought at most once and no paid order is lost, no matter what dies."""

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from tools.chaos import matrix, schedule, stage
from tools.chaos.cells import BUGS
from tools.chaos.cells import matrix as all_cells
from tools.chaos.report import Report
from tools.chaos.storm import storm
from tools.dev.services import Postgres

PARTS = ("matrix", "random", "bugs")
# Some customers give up: of so many orders at least 1000 are paid.
ORDERS, QUICK_ORDERS = 1100, 60
# A bug that is not found in so many runs is not found.
RUNS_PER_BUG = 240


def main() -> None:
    options = _options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    report = Report(options.seed, quick=options.quick)
    # That the proof can fail is proven by the full run.
    parts = [options.only] if options.only else [part for part in PARTS if part != "bugs" or not options.quick]
    with stage.folder() as root:
        if "matrix" in parts or "bugs" in parts:
            _run_cells(root, report, options, parts)
        if "random" in parts:
            _run_storm(root, report, options)
    print(report.table())
    if options.write:
        options.write.write_text(report.page())
    sys.exit(1 if report.problems else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed deals the same blows")
    parser.add_argument(
        "--quick", action="store_true", help="a selection of about three minutes, without the seeded bugs"
    )
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--orders", type=int, help=f"of the random run ({ORDERS}, or {QUICK_ORDERS} with --quick)")
    parser.add_argument("--cells", type=int, help="only so many runs of the matrix; proves less, and says so")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table there as well, as Markdown")
    options = parser.parse_args()
    options.orders = options.orders or (QUICK_ORDERS if options.quick else ORDERS)
    return options


def _run_cells(root: Path, report: Report, options: argparse.Namespace, parts: tuple[str, ...] | list[str]) -> None:
    cells = all_cells(options.seed, quick=options.quick)[: options.cells]
    with Postgres(settings=stage.FAST) as postgres, stage.lanes(root, postgres, seed=options.seed) as lanes:
        if "matrix" in parts:
            say(f"Matrix: {len(cells)} runs.")
            stage.fresh_databases(lanes, postgres)
            report.matrix = matrix.run(lanes, cells, told=lambda tally: _tell(tally, len(cells)))
        for bug in BUGS if "bugs" in parts else ():
            stage.fresh_databases(lanes, postgres)
            tally = matrix.run(lanes, all_cells(options.seed, quick=True)[:RUNS_PER_BUG], bug=bug, told=lambda _: None)
            report.bugs[bug] = tally
            say(f"Bug “{bug}”: {'caught' if tally.wrong else 'NOT CAUGHT'} after {tally.runs} runs.")


def _run_storm(root: Path, report: Report, options: argparse.Namespace) -> None:
    say(f"Random run: {options.orders} orders, blows {schedule.fingerprint(options.seed)}.")
    with storm(root, seed=options.seed, orders=options.orders) as run:
        report.storm = run.run(say)


def _tell(tally: matrix.Tally, of: int) -> None:
    if tally.runs % 100 == 0 or tally.runs == of:
        say(f"{tally.runs} of {of} runs, {tally.interrupted} interrupted, {len(tally.wrong)} violations.")


STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # through every `finally`, so that nothing we started stays


if __name__ == "__main__":
    main()

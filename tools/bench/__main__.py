"""`make bench`: rates and costs of the hot paths, as one table. docs/performance.md explains it."""

import argparse
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from tools.bench import crypto, delivery, http, lookups, report
from tools.bench.load import NoAnswer
from tools.bench.stack import Stack, running_stack
from tools.dev.services import Missing
from tools.dev.supervise import StartFailed, wait_until

ORDERS_READ = 200
IDLE_SECONDS = 5
SIZES = [10_000, 1_000_000]
SUPPLIER_MS = (0, 200)
FAILURES = (Missing, StartFailed, NoAnswer, http.WrongAnswers, delivery.NotDelivered, TimeoutError)


def main() -> None:
    options = _options()
    print(report.machine(), flush=True)
    try:
        with running_stack(web_workers=options.web_workers, web_threads=options.web_threads, tcp=options.tcp) as stack:
            lines = list(_measure(stack, options))
            print("\n" + report.table(lines), flush=True)
            if not options.quick and _wanted(options, "lookups and sweeps"):
                print("\n" + report.sizes(lookups.measure(stack, options.sizes)))
    except FAILURES as err:
        sys.exit(f"The measurement stopped: {err}")
    print(report.machine())


def _measure(stack: Stack, options: argparse.Namespace) -> Iterator[list[str]]:
    for row in http.rows(*_orders(stack, 20 if options.quick else ORDERS_READ)):
        if _wanted(options, row.name):
            runs = http.measure(
                stack, row, runs=options.runs, seconds=options.seconds, connections=options.connections
            )  # fmt: skip
            yield _shown(report.http_line(row.name, runs))
    yield from _small_things(stack, options)
    delivery.forget_webhooks(stack)
    with stack.worker():
        yield from _idle(stack, options)
        yield from _deliveries(stack, options)


def _small_things(stack: Stack, options: argparse.Namespace) -> Iterator[list[str]]:
    if _wanted(options, "Idle order page"):
        reads = crypto.reads_per_minute()
        yield _shown([f"Idle order page: {reads:.2f} reads a minute over a day", "", "", "", "", ""])
    if _wanted(options, "sealed, opened, signed"):
        for name, times in crypto.microseconds(stack).items():
            yield _shown(report.time_line(name, times))


def _orders(stack: Stack, count: int) -> tuple[list[dict[str, Any]], ...]:
    """Return orders that were just placed, that are being paid, and that were delivered."""
    placed, paying, delivered = (http.place(stack, count) for _ in range(3))
    with stack.worker():
        wait_until(stack.sells_for_coins, seconds=60, what="the first coins")
        http.start_payments(stack, [*paying, *delivered])
        delivery.deliver(stack, delivered)
    return placed, paying, delivered


def _idle(stack: Stack, options: argparse.Namespace) -> Iterator[list[str]]:
    if _wanted(options, "idle memory"):
        time.sleep(IDLE_SECONDS)
        yield _shown(report.memory_line(stack.idle_memory()))
    if _wanted(options, "IPNs processed"):
        rates = [delivery.process_ipns(stack, count=5 * options.orders) for _ in range(options.runs)]
        yield _shown(report.ipn_line("IPNs processed", rates))


def _deliveries(stack: Stack, options: argparse.Namespace) -> Iterator[list[str]]:
    for supplier_ms in SUPPLIER_MS:
        name = f"Orders delivered, the supplier answers in {supplier_ms} ms"
        if _wanted(options, name):
            bursts = [
                delivery.burst(stack, orders=options.orders, supplier_ms=supplier_ms) for _ in range(options.runs)
            ]
            yield _shown(report.delivery_line(name, bursts))
    name = f"From paid to mailed at {delivery.STEADY_RATE} orders/s"
    if _wanted(options, name):
        mails = [delivery.steady(stack, orders=options.orders, supplier_ms=0) for _ in range(options.runs)]
        yield _shown(report.mail_line(name, mails))


def _shown(line: list[str]) -> list[str]:
    print("  ".join(cell for cell in line if cell), flush=True)
    return line


def _wanted(options: argparse.Namespace, name: str) -> bool:
    return re.search(options.only, name, re.IGNORECASE) is not None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each row; the table shows the median")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run of an HTTP row")
    parser.add_argument("--orders", type=int, default=200, help="of each run of a delivery row")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", default="", metavar="REGEX", help="measure the rows whose name fits")
    parser.add_argument("--quick", action="store_true", help="one short run of each row, and no filling of tables")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="orders in the database for the lookups")
    parser.add_argument("--tcp", action="store_true", help="reach PostgreSQL over TCP instead of its Unix socket")
    parser.add_argument("--web-workers", type=int, default=2, help="granian's processes, as in the Dockerfile")
    parser.add_argument("--web-threads", type=int, default=8, help="granian's threads for each process")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.seconds, options.orders = 1, min(options.seconds, 1.0), min(options.orders, 20)
    return options


if __name__ == "__main__":
    main()

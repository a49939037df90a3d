"""CPU that each part of BitLoot takes for each step of an order: what docs/capacity.md and the simulation count with.

python -m tools.bench.parts [--orders 200] [--supplier-ms 200]
"""

import argparse
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tools.bench import bodies, delivery, http, load, report
from tools.bench.cpu import Meter
from tools.bench.stack import Stack, running_stack

COLUMNS = ("web", "worker", "PostgreSQL", "Redis")
READS = 2000


def main() -> None:
    options = _options()
    print(report.machine())
    print(f"{'CPU ms of each':32}" + "".join(f"{column:>12}" for column in COLUMNS))
    with running_stack(web_workers=2, web_threads=8) as stack, stack.worker():
        measure(stack, options.orders, options.supplier_ms)
    print(report.machine())


def measure(stack: Stack, count: int, supplier_ms: int) -> None:
    http.start_payments(stack, http.place(stack, 20))  # nothing that follows is a process's first time
    with psycopg.connect(stack.postgres.url, autocommit=True) as database:
        delivery._wait_settled(database)
        with _metered(stack, "order placed", count):
            orders = http.place(stack, count)
        with _metered(stack, "payment begun", count):
            http.start_payments(stack, orders)
            delivery._wait_settled(database)
        stack.sandbox("config", {"delay_ms": supplier_ms})
        with _metered(stack, f"paid to mailed ({supplier_ms} ms)", count):
            delivery.deliver(stack, orders)
            delivery._wait_settled(database)
    polls = itertools.islice(bodies.polls(stack, orders, "/api/orders/{}"), READS)
    reads = itertools.islice(bodies.reads(stack, orders, "/api/orders/{}"), READS)
    for name, requests in (("order read, unchanged", polls), ("order read, whole", reads)):
        built = list(requests)
        with _metered(stack, name, READS):
            load.run(built, port=stack.port, connections=16, seconds=120)


@contextmanager
def _metered(stack: Stack, name: str, count: int) -> Iterator[None]:
    web, worker = stack.parts["web"].pid, stack.parts["worker"].pid
    meters = [Meter([pid]) for pid in (web, worker, stack.postgres.process.pid, stack.redis.process.pid)]
    for meter in meters:
        meter.start()
    yield
    print(f"{name:32}" + "".join(f"{meter.used() / count * 1000:12.2f}" for meter in meters), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.parts", description=__doc__)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--supplier-ms", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()

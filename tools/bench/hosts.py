"""How deliveries grow with worker processes, on one host and on two (docs/capacity.md).

python -m tools.bench.hosts [--workers 1 2 4] [--orders 200] [--supplier-ms 0 200] [--second-host]

With `--second-host` every second worker runs in a network namespace, which is another host to all programs: an address
of its own, and nothing of this host but what a wire between the two brings. Wants root and `ip` (Debian: iproute2).
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

import psycopg

from tools.bench import delivery, report
from tools.bench.cpu import Meter
from tools.bench.stack import Stack, running_stack
from tools.dev.supervise import Process, wait_until

HERE, THERE = "10.213.77.1", "10.213.77.2"
_BOUGHT = """
SELECT (SELECT count(*) FROM orders_order WHERE status = 'fulfilled'),
       (SELECT count(*) FROM fulfillment_reservation WHERE status = 'delivered'),
       (SELECT count(DISTINCT external_id) FROM fulfillment_reservation WHERE status = 'delivered')
"""


class SecondHost:
    """A network namespace with a wire to this one."""

    def __init__(self) -> None:
        self.name, self.wire = f"bitloot-{os.getpid()}", f"bl{os.getpid()}"

    def __enter__(self) -> "SecondHost":
        for line in (
            f"netns add {self.name}",
            f"link add {self.wire} type veth peer name eth0 netns {self.name}",
            f"addr add {HERE}/30 dev {self.wire}",
            f"link set {self.wire} up",
            f"-n {self.name} addr add {THERE}/30 dev eth0",
            f"-n {self.name} link set eth0 up",
            f"-n {self.name} link set lo up",
        ):
            subprocess.run(["ip", *line.split()], check=True)
        return self

    def __exit__(self, *error: object) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=False)

    def command(self, command: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]


class Workers:
    """Worker processes, each on one CPU, and every second one on the other host if there is one."""

    def __init__(self, stack: Stack, host: SecondHost | None) -> None:
        self.stack, self.host = stack, host
        self.running: list[Process] = []

    @contextlib.contextmanager
    def start(self, count: int) -> Iterator[None]:
        with self.stack.worker():
            self.running = [self._another(number) for number in range(1, count)]
            try:
                wait_until(lambda: self._are_seen(count), seconds=90, what=f"the start of {count} workers")
                yield
            finally:
                for process in self.running:
                    process.stop()

    def _are_seen(self, count: int) -> bool:
        with psycopg.connect(self.stack.postgres.url) as database:
            seen = database.execute("SELECT count(*) FROM core_workerseen").fetchone()
        return seen == (count,)

    def pids(self) -> list[int]:
        return [self.stack.parts["worker"].pid, *(process.pid for process in self.running)]

    def _another(self, number: int) -> Process:
        first = self.stack.parts["worker"]
        command, env = (
            ["taskset", "-c", str(number % (os.cpu_count() or 1)), *first.command],
            dict(self.stack.store.env),
        )
        if self.host is not None and number % 2:
            command = self.host.command(command)
            env |= {name: env[name].replace("127.0.0.1", HERE) for name in ("DATABASE_URL", "REDIS_URL", "EMAIL_URL")}
        log = first.log.with_name(f"worker-{number}-of-{os.urandom(3).hex()}.log")
        process = Process(f"worker {number}", command, env=env, log=log)
        process.start()
        return process


def measure(stack: Stack, host: SecondHost | None, options: argparse.Namespace) -> None:
    workers = Workers(stack, host)
    for count in options.workers:
        with workers.start(count):
            delivery.burst(stack, orders=20, supplier_ms=0)  # nothing that follows is a process's first time
            for supplier_ms in options.supplier_ms:
                meter = Meter(workers.pids())
                meter.start()
                runs = [
                    delivery.burst(stack, orders=options.orders, supplier_ms=supplier_ms) for _ in range(options.runs)
                ]
                each = meter.used() / (options.orders * options.runs) * 1000
                rate = statistics.median(run.rate for run in runs)
                # Placing the orders and beginning their payments is in the workers' CPU as well.
                print(f"| {count} | {supplier_ms} ms | {rate:.1f} | {each:.1f} ms |", flush=True)
    _demand_each_bought_once(stack)


def _demand_each_bought_once(stack: Stack) -> None:
    with psycopg.connect(stack.postgres.url) as database:
        orders, delivered, different = database.execute(_BOUGHT).fetchone() or (0, 0, 1)
    if not orders == delivered == different:
        sys.exit(f"{orders} orders are fulfilled by {delivered} purchases, {different} of them different")
    print(f"{orders} orders, each bought once.")


@contextlib.contextmanager
def _second_host(stack: Stack) -> Iterator[SecondHost]:
    with SecondHost() as host:
        # Providers without TLS are accepted on loopback only, so the sandbox is there on the other host as well.
        port = str(stack.store.sandbox_port)
        bridge = Process(
            "bridge",
            host.command([sys.executable, "-m", "tools.bench.hosts", "--bridge", port]),
            env=os.environ,
            log=stack.store.var / "logs" / "bridge.log",
        )
        bridge.start()
        try:
            yield host
        finally:
            bridge.stop()


async def _bridge(port: int) -> None:
    """Serve on this host's loopback what the other host serves on that port."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HERE, port)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    server = await asyncio.start_server(connect, "127.0.0.1", port)
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()


def main() -> None:
    options = _options()
    if options.bridge:
        asyncio.run(_bridge(options.bridge))
        return
    print(report.machine())
    print(
        "| workers | the supplier answers in | orders/s | the workers' CPU per order |\n|---|---|---|---|", flush=True
    )
    with contextlib.ExitStack() as opened:
        reached = {"tcp": True, "everywhere": options.second_host}
        stack = opened.enter_context(running_stack(web_workers=2, web_threads=8, **reached))
        host = opened.enter_context(_second_host(stack)) if options.second_host else None
        measure(stack, host, options)
    print(report.machine())


def _options() -> argparse.Namespace:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tools.bench.hosts", description=__doc__, formatter_class=as_written)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--orders", type=int, default=200, help="of each run")
    parser.add_argument("--runs", type=int, default=3, help="of each line; it shows the median")
    parser.add_argument("--supplier-ms", type=int, nargs="+", default=[0, 200])
    parser.add_argument("--second-host", action="store_true", help="every second worker on a host of its own")
    parser.add_argument("--bridge", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()

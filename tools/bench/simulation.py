"""What so many machines carry: a simulation with the costs that `tools.bench.parts` measures (docs/capacity.md).

python -m tools.bench.simulation --rate 10 --one-machine          one machine with everything on it
python -m tools.bench.simulation --rate 100 --web 8 --worker 4    machines for web and worker, one for PostgreSQL
python -m tools.bench.simulation --rate 1000 --fit                the fewest machines for that rate
python -m tools.bench.simulation --table                          the table of docs/capacity.md
"""

import argparse
import math
import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from bitloot.core.providers import Urgency
from bitloot.core.worker import SEATS
from tools.bench.queueing import Budget, Clock, Process, Station

POOL = 4  # database connections of a process, bitloot/settings.py
CALL_THREADS = 8  # of a web process, payments/creation.py
# What one order asks of others: two calls begin a payment, one reads it when it is paid, one an hour later.
BEGIN_CALLS, READ_CALLS, LATER_CALLS, PURCHASE_CALLS, MAILS = 2, 1, 1, 3, 3
# payments/sync.py: how often a payment is read while a customer is likely to be waiting, and when it is overdue.
REREAD_SECONDS, POLLS_LEFT_OUT, FIRST_LONGER_PAUSES = 30, 8, (60, 120, 300, 600)
VISITS = 6  # of a worker between the IPN and the mail: around the read, for each call to the supplier, for the mail
BUSY_AT_MOST = 0.7
TABLE_RATES = (1, 5, 10, 50, 100, 300, 1000)


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds of one step."""

    web: float
    worker: float
    postgresql: float
    redis: float


# Means of the two runs in docs/capacity.md; a page's is the shop window's of docs/performance.md, without parts.
COSTS = {
    "placed": Cost(8.48, 4.22, 2.07, 0.24),
    "begun": Cost(29.90, 5.85, 5.19, 0.79),
    "paid": Cost(3.60, 28.40, 9.68, 0.55),
    "poll": Cost(1.66, 0.0, 0.50, 0.04),
    "page": Cost(17.8, 0.0, 0.0, 0.0),
}


@dataclass(frozen=True)
class Setup:
    """Machines, providers and customers."""

    rate: float
    web: int = 1
    worker: int = 1
    cores: int = 2
    database_cores: int = 2
    redis: int = 1
    one_machine: bool = False
    provider_ms: float = 200
    mail_ms: float = 100
    nowpayments: float = 0
    kinguin: float = 0
    pages: int = 5
    polls: int = 20
    open_minutes: float = 10
    cpu_factor: float = 1.0

    @property
    def web_processes(self) -> int:
        return 2 if self.one_machine else self.web * self.cores

    @property
    def worker_processes(self) -> int:
        return 1 if self.one_machine else self.worker * self.cores

    @property
    def connections(self) -> int:
        return POOL * (self.web_processes + self.worker_processes)

    def times(self, step: str) -> int:
        return {"page": self.pages, "poll": self.polls}.get(step, 1)

    def seconds(self, step: str, part: str) -> float:
        return float(getattr(COSTS[step], part)) / 1000 * self.cpu_factor


@dataclass(frozen=True)
class Answer:
    utilisation: Mapping[str, float]
    p50: float
    p95: float
    refused: float = 0.0  # of the new payments, because our own budget had no room for them

    @property
    def binds(self) -> str:
        return max(self.utilisation, key=self.utilisation.__getitem__)

    @property
    def is_stable(self) -> bool:
        return self.utilisation[self.binds] < 1


def utilisation(setup: Setup) -> dict[str, float]:
    """Return what share of each resource this rate needs, by arithmetic alone: more than 1 cannot be served."""
    cpu = {
        part: setup.rate * sum(setup.times(step) * setup.seconds(step, part) for step in COSTS)
        for part in ("web", "worker", "postgresql", "redis")
    }
    call, mail = setup.provider_ms / 1000, setup.mail_ms / 1000
    seats = {name: count * setup.worker_processes for name, count in SEATS.items()}
    if setup.one_machine:
        busy = {"CPU of the machine": sum(cpu.values()) / setup.cores, "worker process": cpu["worker"]}
    else:
        busy = {
            "web CPU": cpu["web"] / setup.web_processes,
            "worker CPU": cpu["worker"] / setup.worker_processes,
            "PostgreSQL CPU": cpu["postgresql"] / setup.database_cores,
            "Redis CPU": cpu["redis"] / setup.redis,
        }
    busy["threads for payments"] = setup.rate * BEGIN_CALLS * call / (CALL_THREADS * setup.web_processes)
    busy["seats for webhooks"] = setup.rate * READ_CALLS * call / seats["webhooks"]
    busy["seats for purchases"] = setup.rate * PURCHASE_CALLS * call / seats["fulfillment"]
    busy["seats for mails"] = setup.rate * MAILS * mail / seats["orders"]
    if setup.nowpayments:
        busy["NOWPayments budget"] = setup.rate * (BEGIN_CALLS + READ_CALLS + LATER_CALLS) / setup.nowpayments
    if setup.kinguin:
        busy["Kinguin budget"] = setup.rate * PURCHASE_CALLS / setup.kinguin
    return busy


class Shop:
    """The machines as stations, and what an order does at them. CPU times are exponentially distributed."""

    def __init__(self, setup: Setup, seed: int) -> None:
        self.setup, self.clock, self.draw = setup, Clock(), random.Random(seed)  # noqa: S311 - no secret
        machine = Station("CPU of the machine", setup.cores)
        alone = setup.one_machine
        self.cpu = {
            "web": machine if alone else Station("web CPU", setup.web_processes),
            "worker": machine if alone else Station("worker CPU", setup.worker_processes),
            "postgresql": machine if alone else Station("PostgreSQL CPU", setup.database_cores),
            "redis": machine if alone else Station("Redis CPU", setup.redis),
        }
        self.interpreter = Station("worker process", setup.worker_processes)  # one thread of each runs at a time
        self.seats = {name: Station(name, count * setup.worker_processes) for name, count in SEATS.items()}
        self.threads = Station("threads for payments", CALL_THREADS * setup.web_processes)
        self.nowpayments = Budget("NOWPayments budget", setup.nowpayments)
        self.kinguin = Budget("Kinguin budget", setup.kinguin)
        self.waits: list[float] = []
        self.refused = 0

    def run(self, orders: int) -> None:
        at = 0.0
        for _ in range(orders):
            at += self.draw.expovariate(self.setup.rate)
            self.clock.start(self._order(), at=at)
        for step in ("page", "poll"):
            for _ in range(orders * self.setup.times(step)):
                self.clock.start(self._in_web(step), at=self.draw.uniform(0, at))
        self.clock.run()

    def _order(self) -> Process:
        yield from self._in_web("placed")
        self._aside(self._mail())
        self._aside(self._in_worker("placed", 1))
        yield self.threads
        yield from self._in_web("begun")
        yield from self._call(self.nowpayments)
        is_begun = yield from self._quote()
        self.clock.give_back(self.threads)
        if not is_begun:
            return
        self._aside(self._reread())
        self._aside(self._in_worker("begun", 1))
        yield from self._paid()

    def _paid(self) -> Process:
        paid_at = self.clock.now
        yield from self._cpu("web", self.setup.seconds("paid", "web"))
        yield self.seats["webhooks"]
        yield from self._in_worker("paid", VISITS)
        yield from self._call(self.nowpayments)
        yield from self._in_worker("paid", VISITS)
        self.clock.give_back(self.seats["webhooks"])
        self._aside(self._mail())
        for _ in range(PURCHASE_CALLS):
            yield self.seats["fulfillment"]
            yield from self._in_worker("paid", VISITS)
            yield from self._call(self.kinguin)
            self.clock.give_back(self.seats["fulfillment"])
        yield from self._in_worker("paid", VISITS)
        yield from self._mail()
        self.waits.append(self.clock.now - paid_at)
        yield from self._call(self.nowpayments)  # an hour later, but to the budget it is the same

    def _in_web(self, step: str) -> Process:
        yield from self._cpu("web", self.setup.seconds(step, "web"))
        yield from self._cpu("postgresql", self.setup.seconds(step, "postgresql"))
        yield from self._cpu("redis", self.setup.seconds(step, "redis"))

    def _in_worker(self, step: str, visits: int) -> Process:
        yield self.interpreter
        yield from self._cpu("worker", self.setup.seconds(step, "worker") / visits)
        self.clock.give_back(self.interpreter)
        if step == "paid":  # of the other steps, web has taken the whole
            yield from self._cpu("postgresql", self.setup.seconds(step, "postgresql") / visits)
            yield from self._cpu("redis", self.setup.seconds(step, "redis") / visits)

    def _cpu(self, part: str, mean: float) -> Process:
        if mean:
            yield from self.clock.use(self.cpu[part], self.draw.expovariate(1 / mean))

    def _call(self, budget: Budget) -> Process:
        while seconds := budget.take(self.clock.now):
            yield seconds
        yield self.setup.provider_ms / 1000

    def _quote(self) -> Generator[Station | float, None, bool]:
        """Ask for a new payment, for which there has to be more room than for all else; False if there is none."""
        until = self.clock.now + Urgency.QUOTE.patience
        while seconds := self.nowpayments.take(self.clock.now, leaving=Urgency.QUOTE.leaving):
            if self.clock.now + seconds > until:
                self.refused += 1
                return False
            yield seconds
        yield self.setup.provider_ms / 1000
        return True

    def _reread(self) -> Process:
        """Take what the sweep takes of the budget while a payment is open; its CPU time was not measured."""
        until, left_out = self.clock.now + self.setup.open_minutes * 60, 0
        pauses = (REREAD_SECONDS,) * 7 + FIRST_LONGER_PAUSES
        while self.setup.nowpayments:
            yield float(pauses[min(left_out, len(pauses) - 1)])
            if self.clock.now >= until:
                return
            urgency = Urgency.POLL if left_out < POLLS_LEFT_OUT else Urgency.OVERDUE
            is_left_out = self.nowpayments.take(self.clock.now, leaving=urgency.leaving)
            left_out = left_out + 1 if is_left_out else 0

    def _mail(self) -> Process:
        yield from self.clock.use(self.seats["orders"], self.setup.mail_ms / 1000)

    def _aside(self, process: Process) -> None:
        self.clock.start(process, at=self.clock.now)


def answer(setup: Setup, *, orders: int = 5000, seed: int = 1) -> Answer:
    """Simulate that many orders, or ten seconds of them. Times are infinite where a resource cannot follow."""
    busy = utilisation(setup)
    if max(busy.values()) >= 1:
        return Answer(busy, math.inf, math.inf)
    shop = Shop(setup, seed)
    orders = max(orders, int(10 * setup.rate))
    shop.run(orders)
    waits = sorted(shop.waits[len(shop.waits) // 10 :])  # without the beginning, when nobody was there yet
    return Answer(busy, waits[len(waits) // 2], waits[int(len(waits) * 0.95)], shop.refused / orders)


def fit(setup: Setup) -> Setup:
    """Return the setup with the fewest machines, and cores of PostgreSQL, of which none is busier than 70 %."""
    setup = replace(setup, web=1, worker=1, database_cores=1, one_machine=False)
    growing = {
        "web": ("web CPU", "threads for payments"),
        "worker": ("worker CPU", "seats for"),
        "database_cores": ("PostgreSQL CPU",),
    }
    for machine, names in growing.items():
        busiest = max(share for name, share in utilisation(setup).items() if name.startswith(names))
        setup = replace(setup, **{machine: max(1, math.ceil(busiest / BUSY_AT_MOST))})
    return setup


def table(setups: Sequence[Setup], *, orders: int) -> str:
    lines = [
        "| orders/s | machines | busiest | web | worker | PostgreSQL | Redis | connections | paid to mailed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for setup in setups:
        found = answer(setup, orders=orders)
        cpu = [found.utilisation.get(f"{part} CPU") for part in ("web", "worker", "PostgreSQL", "Redis")]
        shares = [f"{share:.0%}" if share is not None else "" for share in cpu]
        cells = [f"{setup.rate:g}", _machines(setup), f"{found.binds}, {found.utilisation[found.binds]:.0%}", *shares]
        lines.append("| " + " | ".join([*cells, str(setup.connections), _times(found)]) + " |")
    return "\n".join(lines)


def _machines(setup: Setup) -> str:
    if setup.one_machine:
        return f"one with {setup.cores} CPUs"
    redis = f", {setup.redis} Redis" if setup.redis > 1 else ""
    return f"{setup.web} web, {setup.worker} worker, PostgreSQL on {setup.database_cores} CPU{redis}"


def _times(found: Answer) -> str:
    return f"{found.p50:.2f} s, {found.p95:.2f} s" if found.is_stable else "the queue only grows"


def _shown(setup: Setup, found: Answer) -> str:
    lines = [f"{setup.rate:g} orders/s on {_machines(setup)}; {setup.connections} connections to PostgreSQL"]
    lines += [
        f"  {name:24}{share:8.1%}" for name, share in sorted(found.utilisation.items(), key=lambda item: -item[1])
    ]
    if found.refused:
        lines.append(
            f"The budget has no room for {found.refused:.1%} of the new payments: re-reads of open ones take it."
        )
    return "\n".join([*lines, f"Binds first: {found.binds}. Paid to mailed, p50 and p95: {_times(found)}."])


def main() -> None:
    options = _options()
    named = {name: value for name, value in vars(options).items() if name in Setup.__dataclass_fields__}
    setup = Setup(**named)
    if options.table:
        alone = [replace(setup, rate=rate, one_machine=True) for rate in (1, 2, 5, 8, 10)]
        grown = [fit(replace(setup, rate=rate)) for rate in TABLE_RATES]
        print(table([*alone, *grown, replace(grown[-1], redis=4)], orders=options.orders))
        return
    setup = fit(setup) if options.fit else setup
    print(_shown(setup, answer(setup, orders=options.orders)))


def _options() -> argparse.Namespace:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m tools.bench.simulation", description=__doc__, formatter_class=as_written
    )
    parser.add_argument("--rate", type=float, default=10, help="orders a second")
    parser.add_argument("--web", type=int, default=1, help="machines for web")
    parser.add_argument("--worker", type=int, default=1, help="machines for the worker, with a process on each core")
    parser.add_argument("--cores", type=int, default=2, help="of each of these machines")
    parser.add_argument("--database-cores", type=int, default=2, help="of PostgreSQL's machine")
    parser.add_argument("--redis", type=int, default=1, help="servers of Redis, if BitLoot could use more than one")
    parser.add_argument("--one-machine", action="store_true", help="all of it on one machine, with one worker process")
    parser.add_argument("--provider-ms", type=float, default=200, help="how long a provider takes to answer")
    parser.add_argument("--mail-ms", type=float, default=100, help="how long the mail server takes for a mail")
    parser.add_argument("--nowpayments", type=float, default=0, help="NOWPAYMENTS_CALLS_PER_SECOND; 0: no limit")
    parser.add_argument("--kinguin", type=float, default=0, help="KINGUIN_CALLS_PER_SECOND; 0: no limit")
    parser.add_argument("--pages", type=int, default=5, help="pages of the shop window for each order")
    parser.add_argument("--polls", type=int, default=20, help="reads of an order's page that bring nothing new")
    parser.add_argument("--open-minutes", type=float, default=10, help="that a payment is open, paid or not")
    parser.add_argument("--cpu-factor", type=float, default=1.0, help="of the measured CPU times, for other hardware")
    parser.add_argument("--orders", type=int, default=5000, help="to simulate, or as many as come in ten seconds")
    parser.add_argument("--fit", action="store_true", help="take the fewest machines that are at most 70 %% busy")
    parser.add_argument("--table", action="store_true", help="the table of docs/capacity.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()

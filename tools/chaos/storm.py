"""A random run: real processes sell while everything they stand on is killed; then every order is checked."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from sandbox.faults import SCRIPTS, draw
from tools.chaos.control import Control
from tools.chaos.schedule import KINDS, Blow, blows
from tools.dev.devenv import ROOT
from tools.dev.services import Postgres, Redis
from tools.dev.supervise import Process, Store, free_port, wait_until

CLOCK_SCALE = 20
LEASE_SECONDS = 120 / CLOCK_SCALE
CUSTOMERS = 8
SCRIPT = "storm"
SLUGS = ("ember-drift", "harbour-of-glass", "tiny-orchard-tycoon", "saltmarsh-signals", "lumen-wallet-card-20")
# Longer than the alert about a purchase that stays unknown needs (15 minutes of BitLoot's clock).
DRAIN_SECONDS = 240
OPENING_SECONDS = 120
CALM = {"script": "calm", "hold_s": 1.0}


@dataclass
class Outcome:
    seed: int
    orders: int = 0
    gave_up: int = 0
    seconds: float = 0.0
    drained: float = 0.0
    blows: Counter[str] = field(default_factory=Counter)
    failpoints: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def never_dealt(self) -> list[str]:
        """Return the kinds of blow and the providers' faults of which this run proves nothing."""
        possible = {f"{op} {name}" for op, table in SCRIPTS[SCRIPT].items() for _, name, _ in table if op in USED}
        return sorted((KINDS - set(self.blows)) | (possible - set(self.faults)))


# What BitLoot calls at the providers, and what they send it.
USED = frozenset({
    "kinguin.product", "kinguin.order.create", "kinguin.order.get", "kinguin.order.keys", "kinguin.order.search",
    "kinguin.delivery", "nowpayments.payment.create", "nowpayments.payment.get", "webhook.kinguin",
    "webhook.nowpayments",
})  # fmt: skip


class Storm:
    def __init__(self, folder: Path, postgres: Postgres, redis: Redis, *, seed: int, orders: int) -> None:
        self.seed, self.orders = seed, orders
        self.postgres, self.redis = postgres, redis
        self.outcome = Outcome(seed)
        self.store = _store(folder / "store", postgres, redis, seed)
        self.control = Control(self.store.sandbox_url)
        self._next = iter(range(orders))
        self._lock = threading.Lock()
        self._hits = folder / "hits"

    def run(self, told: Callable[[str], None]) -> Outcome:
        started = time.monotonic()
        self._open_shop()
        customers = [threading.Thread(target=self._shop, args=(number,), daemon=True) for number in range(CUSTOMERS)]
        for customer in customers:
            customer.start()
        self._strike(customers, told)
        self.outcome.seconds = time.monotonic() - started
        told(f"{self.outcome.orders} orders placed and paid after {self.outcome.seconds:.0f} s; healing and draining")
        self._heal()
        self._drain()
        self._add_up()
        return self.outcome

    def _open_shop(self) -> None:
        self.store.manage("migrate", "--verbosity", "0")
        self.store.seed()
        self.store.start()
        self.control.call("config", {"hold_s": 2.0, "late_s": 8.0})
        wait_until(self._takes_coins, seconds=OPENING_SECONDS, what="the offer to pay in coins")

    def _takes_coins(self) -> bool:
        answer = requests.get(f"{self.store.url}/api/payments/currencies", timeout=20)
        return answer.ok and bool(answer.json()["currencies"])

    def _shop(self, number: int) -> None:
        """One customer after the other orders, pays and leaves; what nobody answers is asked again."""
        while (order := self._take()) is not None:
            try:
                Customer(self.store.url, self.control, random.Random(f"{self.seed}:{order}")).buy()  # noqa: S311
            except (requests.RequestException, GaveUp, OSError):
                with self._lock:
                    self.outcome.gave_up += 1
            else:
                with self._lock:
                    self.outcome.orders += 1

    def _take(self) -> int | None:
        with self._lock:
            return next(self._next, None)

    def _strike(self, customers: list[threading.Thread], told: Callable[[str], None]) -> None:
        for blow in blows(self.seed):
            while self._gone() < blow.at and any(customer.is_alive() for customer in customers):
                self._start_what_died()
                time.sleep(0.05)
            if not any(customer.is_alive() for customer in customers) and not KINDS - set(self.outcome.blows):
                return
            self._deal(blow)
            self.outcome.blows[f"{blow.what} {blow.target}"] += 1
            if sum(self.outcome.blows.values()) % 20 == 0:
                told(f"{self.outcome.orders} of {self.orders} orders paid, {sum(self.outcome.blows.values())} blows")

    def _gone(self) -> int:
        return self.outcome.orders + self.outcome.gave_up

    def _deal(self, blow: Blow) -> None:
        self._start_what_died()
        if blow.what == "armed":
            self.store.parts[blow.target].kill9()
            self._start_armed(self.store.parts[blow.target], blow.failpoint)
        elif blow.what == "pause":
            threading.Thread(target=_pause, args=(self.store.parts[blow.target],), daemon=True).start()
        elif blow.target == "redis":
            self._strike_redis(blow)
        elif blow.target == "postgres":
            self.postgres.process.signal(signal.SIGQUIT)  # what `pg_ctl stop -m immediate` sends
            self.postgres.process._wait(20)
            self.postgres.start()
        else:
            self.store.parts[blow.target].kill9()
            self.store.start_part(blow.target)

    def _start_armed(self, part: Process, plan: str) -> None:
        usual = part.env
        part.env = {**usual, "FAILPOINT": plan, "FAILPOINT_LOG": str(self._hits)}
        part.start()
        part.env = usual

    def _strike_redis(self, blow: Blow) -> None:
        if blow.what == "flushall":
            flush(self.redis.port)
            return
        if blow.what == "kill9":
            self.redis.kill9()
        else:
            self.redis.process.stop()
        time.sleep(blow.seconds)
        self.redis.start()

    def _start_what_died(self) -> None:
        """Do what the supervisor of a real shop does."""
        for part in self.store.ended():
            part.start()

    def _heal(self) -> None:
        for name in ("worker", "worker2"):
            part = self.store.parts[name]
            part.signal(signal.SIGCONT)
            part.kill9()
            part.start()
        self._start_what_died()
        self.store.wait_ready()
        self.control.call("config", CALM)

    def _drain(self) -> None:
        started = time.monotonic()
        while time.monotonic() - started < DRAIN_SECONDS:
            self.outcome.facts = self._ask("facts")
            if self.control.idle() and not self.outcome.facts["unsettled"]:
                break
            time.sleep(2)
        self.outcome.drained = time.monotonic() - started

    def _add_up(self) -> None:
        judged = self._ask("judge")
        self.outcome.wrong, self.outcome.facts = judged["wrong"], judged["facts"]
        try:
            self.store.manage("reconcile", "--ask")
        except Exception as err:  # noqa: BLE001 - its words are the finding
            self.outcome.wrong.append(f"reconcile does not exit 0: {str(err)[-1500:]}")
        if self._hits.exists():
            self.outcome.failpoints = Counter(line.split(":")[0] for line in self._hits.read_text().splitlines())
        self.outcome.faults = played(self.store.var / "sandbox.sqlite3", self.seed)

    def _ask(self, what: str) -> Any:
        command = [sys.executable, "-m", "tools.chaos.ledger", what, self.store.sandbox_url]
        done = subprocess.run(
            command, cwd=ROOT, env=self.store.env, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            raise RuntimeError(f"the books could not be read:\n{done.stderr[-3000:]}")
        return json.loads(done.stdout)


class GaveUp(Exception):
    """A customer went away without paying."""


class Customer:
    """Somebody with a browser: asks again when nobody answers, and pays the address that the shop shows."""

    def __init__(self, url: str, control: Control, chance: random.Random) -> None:
        self.url, self.control, self.chance = url, control, chance
        self.session = requests.Session()
        self.session.trust_env = False
        self.token = ""

    def buy(self) -> None:
        slugs = self.chance.sample(SLUGS, self.chance.choice((1, 1, 1, 2)))
        lines = [{"product": slug, "quantity": self.chance.choice((1, 1, 1, 2))} for slug in slugs]
        name = f"{self.chance.getrandbits(64):x}"
        asked = {"email": f"{name}@customer.example", "items": lines}
        order = self._insist("POST", "/api/orders", asked, {"Idempotency-Key": name})
        self.token = order["access_token"]
        payment = self._payment(order["id"])
        # The network takes the coins once; the sandbox may be down just now.
        for _ in range(100):
            with contextlib.suppress(OSError):
                self.control.call(f"payments/{payment['payment_id']}/pay", {"mode": "exact"})
                return
            time.sleep(0.3)
        raise GaveUp

    def _payment(self, order_id: str) -> Any:
        asked = {"order_id": order_id, "pay_currency": "btc"}
        for _ in range(60):
            payment = self._insist("POST", "/api/payments/create", asked)
            if payment.get("pay_address"):
                return payment
            for _ in range(10):
                time.sleep(0.3)
                shown = self._insist("GET", f"/api/orders/{order_id}")["payment"] or {}
                if shown.get("pay_address"):
                    return shown
        raise GaveUp

    def _insist(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        for _ in range(400):
            with contextlib.suppress(requests.RequestException):
                answer = self.session.request(
                    method, self.url + path, json=body, headers={**sent, **(headers or {})}, timeout=20
                )
                if answer.ok:
                    return answer.json()
            time.sleep(0.3)
        raise GaveUp


def flush(port: int) -> None:
    import redis

    with contextlib.suppress(redis.RedisError):
        redis.Redis(port=port, socket_timeout=2).flushall()


def played(path: Path, seed: int) -> Counter[str]:
    """Return which provider faults were dealt: the sandbox counts its draws, and a draw follows from the seed."""
    counted: Counter[str] = Counter()
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT op, subject, calls FROM draw").fetchall()
    for op, subject, calls in rows:
        for call in range(1, calls + 1):
            name = draw(script=SCRIPT, seed=seed, op=op, subject=subject, call=call).name
            if name != "none":
                counted[f"{op} {name}"] += 1
    return counted


@contextlib.contextmanager
def storm(folder: Path, *, seed: int, orders: int) -> Iterator[Storm]:
    """Set a store up, with a PostgreSQL and a Redis of its own; end all of it with the block."""
    with Postgres(settings=("fsync=off", "max_connections=300")) as postgres, Redis() as redis:
        made = Storm(folder, postgres, redis, seed=seed, orders=orders)
        try:
            yield made
        finally:
            for name in ("worker", "worker2"):
                if made.store.parts[name].alive:
                    made.store.parts[name].signal(signal.SIGCONT)
            made.store.stop()


def _store(var: Path, postgres: Postgres, redis: Redis, seed: int) -> Store:
    options = ("--script", SCRIPT, "--seed", str(seed), "--deliver-after-ms", "100", "--step-ms", "20")
    store = Store(
        var,
        port=free_port(),
        sandbox_port=free_port(),
        sandbox_options=(*options, "--retry-ms", "500", "--no-enforce-external-id"),
        DATABASE_URL=postgres.url,
        REDIS_URL=redis.url,
        CLOCK_SCALE=str(CLOCK_SCALE),
        THROTTLE_SCALE="0",
        LOG_LEVEL="WARNING",
        DEBUG="1",
    )
    worker, beat = store.parts["worker"], store.parts["beat"]
    store.parts["worker2"] = _twin(store, "worker2", [*worker.command, "-n", "second@%h"])
    store.parts["beat2"] = _twin(store, "beat2", [*beat.command, "-s", str(var / "beat2-schedule")])
    return store


def _twin(store: Store, name: str, command: list[str]) -> Process:
    return Process(name, command, env=store.env, log=store.var / "logs" / f"{name}.log")


def _pause(part: Process) -> None:
    """Stop a worker for longer than its leases last, as a stalled virtual machine would."""
    with contextlib.suppress(Exception):
        pid = part.pid
        os.killpg(pid, signal.SIGSTOP)
        time.sleep(LEASE_SECONDS * 1.3)
        os.killpg(pid, signal.SIGCONT)

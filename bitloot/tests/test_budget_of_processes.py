"""The providers' budgets with real processes: two of web and two workers share one, through a rush of payments."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bitloot.tests.services import Postgres, Redis, Sandbox, Store, free_port, wait_until
from bitloot.tests.shopper import Shopper, bearer
from tools.dev.supervise import answers, web_command

pytestmark = [pytest.mark.broker, pytest.mark.replica, pytest.mark.once]
PER_SECOND = 5
HOLDS = 2 * PER_SECOND
# A call that left in time may come late where the processor is busy, and then close to others.
LATE_SECONDS = 2
PAID, NEW = 12, 6


class TwoHosts(Store):
    """A store with a second web at a port of its own and a second worker, as on a second host."""

    def __init__(self, var: Path, **options: str) -> None:
        self.second_port = free_port()
        super().__init__(var, port=free_port(), sandbox_port=free_port(), **options)

    def _commands(self) -> dict[str, list[str]]:
        commands = super()._commands()
        return commands | {"web2": web_command(self.second_port), "worker2": commands["worker"]}

    @property
    def urls(self) -> list[str]:
        return [self.url, f"http://127.0.0.1:{self.second_port}"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TwoHosts]:
    with Postgres() as postgres, Redis() as redis:
        store = TwoHosts(
            tmp_path / "store", DATABASE_URL=postgres.socket_url, REDIS_URL=redis.url, THROTTLE_SCALE="0",
            NOWPAYMENTS_CALLS_PER_SECOND=str(PER_SECOND), KINGUIN_CALLS_PER_SECOND=str(PER_SECOND),
            PAYMENT_QUOTES_PER_HOUR="10000",
        )  # fmt: skip
        store.manage("migrate", "--verbosity", "0")
        store.seed()
        try:
            store.start()
            wait_until(lambda: answers(f"{store.urls[1]}/livez"), seconds=120, what="the second web")
            yield store
        finally:
            store.stop()


def test_a_rush_stays_within_the_budgets_and_each_order_is_delivered_once(store):
    """Fails if each process has a budget of its own, or if a call that found no room is lost."""
    sandbox = Sandbox(store.sandbox_url)
    shoppers = [Shopper(store.urls[number % 2]) for number in range(PAID)]
    newcomers = [Shopper(store.urls[number % 2]) for number in range(NEW)]
    with ThreadPoolExecutor(PAID + NEW) as pool:
        orders = list(pool.map(Shopper.order, shoppers))
        payments = list(pool.map(Shopper.payment, shoppers, orders))
        later = list(pool.map(Shopper.order, newcomers))
        for payment in payments:
            sandbox.pay(payment["payment_id"])
        asked = list(pool.map(choose_coin, newcomers, later))  # in the rush
        list(pool.map(Shopper.wait_fulfilled, shoppers, orders))
        opened = [key for keys in pool.map(Shopper.open_keys, shoppers, orders) for key in keys]

    for answer in asked:
        assert answer.status_code in (201, 202, 503), answer.text
        if answer.status_code == 503:
            assert answer.json()["detail"].startswith(
                "Many customers are choosing a coin right now. Nothing was charged;"
            )
            assert int(answer.headers["Retry-After"]) >= 1
    bought = Counter(line["external_id"] for line in sandbox.ledger("order_received"))
    assert (len(bought), set(bought.values())) == (PAID, {1})
    assert sorted(opened) == sorted(line["serial"].encode() for line in sandbox.sold())
    calls = sandbox.control("calls")["calls"]
    for provider in ("nowpayments", "kinguin"):
        moments = sorted(call["at"] for call in calls if call["path"].startswith(f"/{provider}/"))
        assert len(moments) > 2 * HOLDS, "too few calls for the budget to matter"
        assert beyond_the_budget(moments) == [], provider


def choose_coin(shopper, order):
    asked = {"order_id": order["id"], "pay_currency": "btc"}
    return shopper.send("POST", "/api/payments/create", json=asked, headers=bearer(order))


def beyond_the_budget(moments):
    """Return every window, as its start, its seconds and its calls, in which more came than the budget allows."""
    return [
        (moments[first], moments[last] - moments[first], last - first + 1)
        for first in range(len(moments))
        for last in range(first, len(moments))
        if last - first + 1 > HOLDS + PER_SECOND * (moments[last] - moments[first] + LATE_SECONDS)
    ]

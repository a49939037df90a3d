"""Redis goes away and comes back: nobody waits for it meanwhile, and the same worker continues afterwards."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitloot.tests.services import Redis, Store, own_store
from bitloot.tests.shopper import Shopper

# The versions of celery, kombu and redis are pinned for this (docs/versions.md).
pytestmark = [pytest.mark.chaos, pytest.mark.broker, pytest.mark.timeout(300)]


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path, redis: Redis) -> Iterator[Store]:
    with own_store(tmp_path / "store", REDIS_URL=redis.url, THROTTLE_SCALE="0") as running:
        yield running


def test_worker_goes_on_after_redis_was_killed_and_started_again(store, redis):
    worker = store.parts["worker"].pid
    buy(store)

    redis.kill9()
    started = time.monotonic()
    shopper = Shopper(store.url)
    order = shopper.order()
    payment = shopper.payment(order)
    assert time.monotonic() - started < 10, "the customer waited for the broker"
    shopper.json("POST", f"{store.sandbox_url}/control/payments/{payment['payment_id']}/pay", json={"mode": "exact"})
    time.sleep(5)  # long enough for the worker to have lost its connection and tried again in vain
    redis.start()

    shopper.wait_fulfilled(order, seconds=60)
    buy(store)
    assert store.parts["worker"].alive
    assert store.parts["worker"].pid == worker
    assert store.parts["beat"].alive


def buy(store: Store) -> None:
    shopper = Shopper(store.url)
    order = shopper.order()
    payment = shopper.payment(order)
    shopper.json("POST", f"{store.sandbox_url}/control/payments/{payment['payment_id']}/pay", json={"mode": "exact"})
    shopper.wait_fulfilled(order, seconds=60)

"""Redis behind Sentinel: the master is killed, its replica takes over, and the shop and its counters continue."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from bitloot.core import limits
from bitloot.core.cache import ForgivingRedisCache, redis_client
from bitloot.ops.doctor.services import broker
from bitloot.tests.services import RedisGroup, Store, own_store, wait_until
from bitloot.tests.shopper import Shopper

pytestmark = [pytest.mark.chaos, pytest.mark.broker, pytest.mark.timeout(300)]
LIMIT = "test:sentinel"
OPTIONS = {"socket_connect_timeout": 0.3, "socket_timeout": 0.5, "pool_class": "bitloot.core.cache.MasterPool"}


@pytest.fixture
def group() -> Iterator[RedisGroup]:
    with RedisGroup() as running:
        # A sentinel finds the replica and the other sentinels by what the master passes on.
        wait_until(lambda: broker_findings(running.url) == ["ok"], seconds=60, what="sentinels that know each other")
        yield running


@pytest.fixture
def store(tmp_path: Path, group: RedisGroup) -> Iterator[Store]:
    with own_store(tmp_path / "store", REDIS_URL=group.url, THROTTLE_SCALE="1000") as running:
        yield running


def broker_findings(url):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.REDIS_URL", url)
        return [finding.level for finding in broker()]


def buy(store):
    shopper = Shopper(store.url)
    order = shopper.order()
    payment = shopper.payment(order)
    shopper.json("POST", f"{store.sandbox_url}/control/payments/{payment['payment_id']}/pay", json={"mode": "exact"})
    shopper.wait_fulfilled(order, seconds=60)


def is_master(client):
    # Whoever promotes a server cuts the lines of its clients in the same step.
    with contextlib.suppress(redis.ConnectionError):
        return client.info("replication")["role"] == "master"
    return False


def test_orders_limits_and_wakeups_after_a_failover(store, group):
    worker = store.parts["worker"].pid
    buy(store)

    group.master.kill9()
    started = time.monotonic()
    shopper = Shopper(store.url)
    shopper.order()
    assert time.monotonic() - started < 10, "the customer waited for Redis"
    heir = group.client(group.replica)
    wait_until(lambda: is_master(heir), seconds=60, what="the failover")
    buy(store)
    with heir.monitor() as watched:
        shopper.order()
        assert next(line for line in watched.listen() if ".drain" in line["command"]), "no wake-up was sent"
    heir.lpush("celery", b"{}")
    said = store.parts["worker"].log.read_text
    wait_until(lambda: "not a task" in said(), seconds=60, what="the worker to drop a message that is not a task")
    wait_until(lambda: counts_limits(heir, shopper), seconds=60, what="a limit that the new master counts")
    assert [store.parts["worker"].alive, store.parts["worker"].pid] == [True, worker]
    assert store.parts["beat"].alive
    for part in store.parts.values():
        assert group.PASSWORD not in part.log.read_text()


def counts_limits(heir, shopper):
    with redis.Redis(**heir.get_connection_kwargs() | {"db": 1}) as cache:
        cache.flushdb()
        shopper.get("/api/payments/currencies")
        return any(b"throttle" in key for key in cache.keys("*"))


@pytest.fixture
def silent() -> Iterator[int]:
    """A port at which nobody answers, as on a machine that is off: connections wait until they are given up."""
    with contextlib.ExitStack() as stack:
        listener, *callers = [stack.enter_context(socket.socket()) for _ in range(5)]
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_count_survives_the_failover(group, monkeypatch):
    cache = ForgivingRedisCache([group.url], {"OPTIONS": OPTIONS})
    monkeypatch.setattr(limits, "caches", {"default": cache})
    assert [limits.count(LIMIT, seconds=600) for _ in range(2)] == [1, 2]
    group.client(group.master).wait(1, 5000)

    group.sentinels[0].kill9()
    group.master.kill9()
    wait_until(lambda: is_master(group.client(group.replica)), seconds=60, what="the failover")
    wait_until(lambda: cache.run(limits._COUNT, [LIMIT], 1000), seconds=30, what="the new master to count")
    assert limits.count(LIMIT, seconds=600) > 3


def test_a_silent_sentinel_is_asked_once(group, silent):
    url = group.url.replace("@", f"@127.0.0.1:{silent},")
    started = time.monotonic()
    assert ForgivingRedisCache([url], {"OPTIONS": OPTIONS}).run(limits._COUNT, [LIMIT], 1000)
    assert time.monotonic() - started < 1


def test_the_doctor_names_a_lost_majority(group):
    group.sentinels[0].kill9()
    assert broker_findings(group.url).count("wrong") == 1
    group.sentinels[1].kill9()
    wait_until(lambda: broker_findings(group.url).count("wrong") == 3, seconds=30, what="the last sentinel to notice")
    group.replica.kill9()
    wait_until(lambda: broker_findings(group.url).count("wrong") == 4, seconds=30, what="the master to notice")


def test_a_client_of_its_own_asks_the_sentinels(group):
    with redis_client(group.url, seconds=3) as client:
        assert client.info("server")["tcp_port"] == group.master.port

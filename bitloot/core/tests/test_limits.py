"""Counting and rationing, in Redis and in the database; the same tests for both."""

import threading
import uuid

import pytest
from django.db import connection
from django.db.models import F

from bitloot.core import limits
from bitloot.core.limits import Bucket, Refusals, count, count_each, count_here, reap
from bitloot.core.models import Allowance

LOCAL_MEMORY = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
SLOW = 0.001  # tokens a second: none comes back while a test runs


@pytest.fixture
def name():
    return f"test:{uuid.uuid4()}"


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.redis), "database"])
def kept(request, settings):
    """Where limits are kept."""
    if request.param == "database":
        settings.CACHES = {**settings.CACHES, "default": LOCAL_MEMORY}
    return request.param


def at_once(call, *, threads=8, times=5):
    """Return what the calls of all threads returned, sorted."""
    results, start = [], threading.Barrier(threads)

    def run():
        start.wait()
        try:
            results.extend(call() for _ in range(times))
        finally:
            connection.close()

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sorted(results)


def let_pass(seconds):
    Allowance.objects.update(until=F("until") - seconds)


@pytest.mark.django_db
@pytest.mark.usefixtures("kept")
def test_counting_begins_at_one_for_each_name(name):
    assert [count(name, seconds=60), count(name, seconds=60), count(f"{name}2", seconds=60)] == [1, 2, 1]
    assert count_each([name, f"{name}3"], seconds=60) == [3, 1]


@pytest.mark.django_db
def test_a_counter_is_forgotten_after_its_time_and_not_before(name, settings):
    settings.CACHES = {**settings.CACHES, "default": LOCAL_MEMORY}
    count(name, seconds=60)
    let_pass(55)
    assert count(name, seconds=60) == 2
    let_pass(10)
    assert count(name, seconds=60) == 1


@pytest.mark.redis
def test_a_counter_in_redis_ends_with_its_first_window(name):
    count(name, seconds=60)
    cache = limits.caches["default"]
    place, client = cache.make_and_validate_key(name), cache._cache.get_client(write=True)
    client.pexpire(place, 30_000)
    count(name, seconds=60)
    assert 0 < client.pttl(place) <= 30_000


def test_cheap_counting_needs_neither_redis_nor_the_database(name, settings):
    # No django_db mark: a query would fail this test.
    settings.CACHES = {**settings.CACHES, "default": LOCAL_MEMORY}
    assert [count_here(name, seconds=60) for _ in range(3)] == [1, 2, 3]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("kept")
def test_parallel_counting_is_exact(name):
    assert at_once(lambda: count(name, seconds=60), times=25) == list(range(1, 201))


@pytest.mark.django_db
@pytest.mark.usefixtures("kept")
def test_a_bucket_is_empty_after_as_many_as_it_holds(name):
    bucket = Bucket(name, per_second=SLOW, holds=4)
    taken = [bucket.take() for _ in range(5)]
    assert taken[:4] == [0.0] * 4
    assert 990 < taken[4] <= 1000


@pytest.mark.django_db
@pytest.mark.usefixtures("kept")
def test_who_leaves_a_share_finds_the_bucket_empty_sooner(name):
    bucket = Bucket(name, per_second=SLOW, holds=4)
    assert [bucket.take(leaving=0.5) > 0 for _ in range(3)] == [False, False, True]
    assert [bucket.take(leaving=0.25) > 0 for _ in range(2)] == [False, True]
    assert [bucket.take() > 0 for _ in range(2)] == [False, True]


@pytest.mark.django_db
def test_tokens_come_back_one_by_one_and_never_more_than_it_holds(name, settings):
    settings.CACHES = {**settings.CACHES, "default": LOCAL_MEMORY}
    bucket = Bucket(name, per_second=SLOW, holds=2)
    assert [bucket.take() > 0 for _ in range(3)] == [False, False, True]
    let_pass(1001)
    assert [bucket.take() > 0 for _ in range(2)] == [False, True]
    let_pass(100_000)
    assert [bucket.take() > 0 for _ in range(3)] == [False, False, True]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("kept")
def test_parallel_takers_get_no_more_than_the_bucket_holds(name):
    bucket = Bucket(name, per_second=SLOW, holds=10)
    waits = at_once(bucket.take)
    assert len([wait for wait in waits if not wait]) == 10


@pytest.mark.django_db
def test_rows_that_limit_nobody_any_more_are_deleted(name, settings):
    settings.CACHES = {**settings.CACHES, "default": LOCAL_MEMORY}
    count(name, seconds=60)
    let_pass(120)
    count(f"{name}2", seconds=60)
    assert reap() == 1
    assert Allowance.objects.get().name == f"{name}2"


def test_many_clients_that_are_refused_do_not_set_each_other_free(settings):
    settings.THROTTLE_SCALE = 1
    refusals = Refusals("test", most=1, counted=lambda _name, seconds: 2)
    clients = [f"10.0.{number // 250}.{number % 250}" for number in range(2000)]
    for client in clients:
        refusals.add(client)
    assert all(refusals.are_too_many(client) for client in clients)

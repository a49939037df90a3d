"""The worker answers its own bells with its own threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import redis

from bitloot import celery
from bitloot.core import queue, turns, wakeup
from bitloot.tests.services import wait_until


@pytest.fixture
def work(monkeypatch):
    """Drains that note their queue and end when they are told."""
    done, go_on = [], threading.Semaphore(0)

    def drain(queue):
        assert go_on.acquire(timeout=10)
        done.append(queue)
        if queue == "poison":
            raise ValueError("a bug")

    tasks = {f"{queue}.drain": lambda queue=queue: drain(queue) for queue in ("orders", "payments", "poison")}
    monkeypatch.setattr(celery, "app", type("App", (), {"tasks": tasks}))
    return done, go_on


def test_a_bell_that_finds_no_thread_is_answered_by_the_first_that_ends(work):
    done, go_on = work
    with ThreadPoolExecutor(1) as threads:
        drains = celery._Drains(threads, 1)
        assert drains("orders") is True
        assert [drains("payments"), drains("payments")] == [False, False]
        go_on.release(3)
        wait_until(lambda: done == ["orders", "payments"], seconds=10, what="the second queue")
        wait_until(lambda: drains("orders"), seconds=10, what="a free thread")


def test_a_drain_that_fails_keeps_no_place(work):
    done, go_on = work
    go_on.release(3)
    with ThreadPoolExecutor(1) as threads:
        drains = celery._Drains(threads, 1)
        for count in (1, 2, 3):
            drains("poison")  # at once, or by the thread that is just ending
            wait_until(lambda count=count: len(done) == count, seconds=10, what="the drain")


def test_a_worker_that_stops_leaves_its_bells_to_others(work):
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    drains = celery._Drains(threads, 1)
    assert [drains("orders"), drains("orders")] == [False, False]


def test_a_bell_that_finds_no_turn_is_answered_as_soon_as_one_is_left_over(work, monkeypatch):
    done, go_on = work
    go_on.release(2)
    computed = threading.Event()

    def compute():
        with turns.turn():
            computed.wait(10)

    with ThreadPoolExecutor(turns.TURNS + 2) as threads:
        drains = celery._Drains(threads, 2)
        assert drains.put_off("orders") is False
        monkeypatch.setattr(turns, "_when_spare", drains.answer)
        for _ in range(turns.TURNS):
            threads.submit(compute)
        wait_until(lambda: not turns.spare(), seconds=10, what="the last turn")
        assert [drains("orders"), drains.put_off("payments"), done] == [False, True, []]
        computed.set()
        wait_until(lambda: done == ["orders", "payments"], seconds=10, what="both queues")


def test_a_thread_that_has_a_turn_already_is_not_put_off(work, monkeypatch):
    monkeypatch.setattr(turns, "TURNS", 1)
    drains = celery._Drains(None, 0)
    with turns.turn():
        assert [turns.spare(), drains.put_off("orders")] == [False, False]


def test_a_thread_that_ends_a_drain_goes_on_with_the_queue_that_waited_the_longest(work):
    done, go_on = work
    with ThreadPoolExecutor(1) as threads:
        drains = celery._Drains(threads, 1)
        for queue in ("poison", "orders", "payments", "orders"):
            drains(queue)
        go_on.release(3)
        wait_until(lambda: done == ["poison", "orders", "payments"], seconds=10, what="every queue")


def test_a_drain_makes_room_for_other_queues_and_for_threads_that_wait_for_a_turn(work, monkeypatch):
    _, go_on = work
    with ThreadPoolExecutor(1) as threads:
        drains = celery._Drains(threads, 1)
        assert drains.wants_room("orders") is False
        drains("orders")
        drains("payments")
        assert [drains.wants_room("orders"), drains.wants_room("payments")] == [True, False]
        monkeypatch.setattr(turns, "crowded", lambda: True)
        assert drains.wants_room("payments") is True
        go_on.release(2)


@pytest.mark.parametrize(
    ("name", "slice_seconds", "handled"), [("orders", 0, 1), ("orders", 60, 2), ("payments", 0, 2)]
)
def test_a_drain_makes_room_once_its_slice_is_over(monkeypatch, name, slice_seconds, handled):
    here = SimpleNamespace(put_off=lambda queue: False, wants_room=lambda queue: queue == "orders")
    monkeypatch.setattr(wakeup, "_here", here)
    monkeypatch.setattr(wakeup, "notify_now", lambda queue: None)
    left = [False, True, True]
    rows = SimpleNamespace(claim=lambda limit: [SimpleNamespace(claim_token=1, crashes=0)] if left.pop() else [])
    assert queue.drain(name, rows, lambda row: None, give_up=None, slice_seconds=slice_seconds) == handled


def test_a_drain_for_which_there_is_no_turn_claims_nothing(monkeypatch):
    monkeypatch.setattr(
        wakeup, "_here", SimpleNamespace(put_off=lambda queue: queue == "orders", wants_room=lambda queue: False)
    )
    rows = SimpleNamespace(claim=lambda limit: claimed.append(limit) or [])
    claimed = []
    for name in ("orders", "payments"):
        queue.drain(name, rows, handle=None, give_up=None)
    assert claimed == [1]


@pytest.mark.redis
def test_broker_forgets_a_bell_once_it_was_taken(settings):
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    with celery.app.connection_for_write() as connection:
        celery.app.send_task("orders.drain", connection=connection)
        consumer, taken = celery.app.amqp.TaskConsumer(connection), []
        consumer.register_callback(lambda body, message: taken.append(message))
        consumer.consume()
        connection.drain_events(timeout=5)
        assert [len(taken), client.keys("unacked*")] == [1, []]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_worker_settles_on_one_cpu_unless_it_is_turned_off(monkeypatch, settings, wanted):
    settled = []
    monkeypatch.setattr(celery.onecpu, "settle", lambda: settled.append(True))
    for module, name in ((celery.sharing, "share"), (turns, "when_spare"), (wakeup, "answer_here")):
        monkeypatch.setattr(module, name, lambda *_: None)
    settings.WORKER_ONE_CPU = wanted
    celery.answer_own_bells(SimpleNamespace(pool=SimpleNamespace(executor=None, limit=1)))
    assert settled == [True] * wanted

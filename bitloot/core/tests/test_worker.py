import threading
import time

import pytest
from celery import current_app

from bitloot.core.worker import Worker


class Rows:
    """Due rows of one queue, and what handles them."""

    def __init__(self, count):
        self.due = list(range(count))
        self.claims, self.handled = [], []
        self.lock = threading.Lock()
        self.go_on = threading.Event()

    def claim(self, limit):
        with self.lock:
            claimed, self.due = self.due[:limit], self.due[limit:]
            self.claims.append((limit, len(claimed)))
        return claimed

    def handle(self, rows):
        assert self.go_on.wait(10)
        with self.lock:
            self.handled.append(list(rows))


@pytest.fixture
def start(monkeypatch):
    """Start workers whose drain of the queue "orders" works off these rows; they sweep almost never."""
    started = []

    def start(rows, *, seats, batch=1, sweep_seconds=60):
        worker = Worker({"orders": seats})
        drain = lambda: worker.drain("orders", rows.claim, rows.handle, batch=batch)  # noqa: E731
        monkeypatch.setitem(current_app.tasks, "orders.drain", drain)
        worker.start(sweep_seconds=sweep_seconds, heartbeat=lambda: None)
        started.append((worker, rows))
        return worker

    yield start
    for worker, rows in started:
        rows.go_on.set()
        worker.stop()


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_without_threads_a_drain_handles_its_rows_itself():
    rows = Rows(20)
    rows.go_on.set()
    assert Worker({"orders": 4}).drain("orders", rows.claim, rows.handle, batch=2) == 20
    assert rows.handled == [[number, number + 1] for number in range(0, 20, 2)]


def test_a_process_claims_no_more_rows_than_it_has_seats(start):
    rows = Rows(9)
    start(rows, seats=3)
    assert wait_for(lambda: len(rows.due) == 6)
    time.sleep(0.05)
    assert len(rows.due) == 6
    rows.go_on.set()
    assert wait_for(lambda: len(rows.handled) == 9)
    assert max(limit for limit, _ in rows.claims) <= 3


def test_one_claim_leaves_rows_for_other_workers(start):
    rows = Rows(3)
    rows.go_on.set()
    start(rows, seats=100)
    assert wait_for(lambda: len(rows.handled) == 3)
    assert rows.claims == [(8, 3)]


def test_a_wakeup_during_a_drain_is_not_lost(start):
    rows = Rows(0)
    rows.go_on.set()
    inside, release = threading.Event(), threading.Event()
    claim = rows.claim

    def slow_claim(limit):
        found = claim(limit)
        inside.set()
        assert release.wait(10)
        return found

    rows.claim = slow_claim
    worker = start(rows, seats=2)
    assert inside.wait(5)
    rows.due = [1]  # committed after the claim had looked
    assert worker.look("orders") is True
    release.set()
    assert wait_for(lambda: rows.handled == [[1]])


def test_a_lost_wakeup_costs_a_sweep_period(start):
    rows = Rows(0)
    rows.go_on.set()
    worker = start(rows, seats=2, sweep_seconds=0.2)
    assert wait_for(lambda: rows.claims)
    assert wait_for(lambda: not worker._lanes["orders"].draining.locked())
    rows.due = [1]
    assert wait_for(lambda: rows.handled == [[1]])


def test_a_job_that_fails_gives_its_seat_back_and_a_claim_that_fails_too(start, caplog):
    rows = Rows(0)
    worker = start(rows, seats=1)

    def fail(_):
        raise ValueError("a bug")

    worker.drain("orders", lambda limit: [1] if not caplog.records else [], fail, batch=1)
    assert wait_for(lambda: "could not be recorded" in caplog.text)
    with pytest.raises(ValueError, match="a bug"):
        worker.drain("orders", fail, rows.handle, batch=1)
    rows.due = [1]
    rows.go_on.set()
    worker.look("orders")
    assert wait_for(lambda: rows.handled == [[1]])


def test_a_worker_that_stops_finishes_what_it_claimed_and_claims_nothing_more(start):
    rows = Rows(5)
    worker = start(rows, seats=2)
    assert wait_for(lambda: len(rows.due) == 3)
    ended = threading.Thread(target=worker.stop)
    ended.start()
    assert wait_for(worker._stopping.is_set)
    assert ended.is_alive()
    rows.go_on.set()
    ended.join(5)
    assert [len(rows.handled), len(rows.due), ended.is_alive()] == [2, 3, False]
    assert worker.look("orders") is False


def test_a_claim_under_way_when_the_worker_stops_is_still_handed_over(start):
    rows = Rows(1)
    rows.go_on.set()
    inside, release = threading.Event(), threading.Event()
    claim = rows.claim

    def slow_claim(limit):
        inside.set()
        assert release.wait(10)
        return claim(limit)

    rows.claim = slow_claim
    worker = start(rows, seats=2)
    assert inside.wait(5)
    ended = threading.Thread(target=worker.stop)
    ended.start()
    assert wait_for(worker._stopping.is_set)
    release.set()
    ended.join(5)
    assert rows.handled == [[0]]

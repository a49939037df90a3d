import os
import threading
import time
from functools import partial

import pytest
from django.db import transaction

from bitloot.core import wakeup
from bitloot.core.worker import Worker


@pytest.fixture
def sent(monkeypatch, settings):
    """What left for the broker, from a process that is no worker."""
    names = []
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(wakeup.current_app, "send_task", lambda name, **options: names.append((name, options)))
    monkeypatch.setattr(wakeup, "messages", wakeup.Messages())
    return names


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_a_wakeup_carries_no_id_and_is_not_retried(sent):
    wakeup.notify_now("orders")
    assert wait_for(lambda: sent)
    assert sent == [("orders.drain", {"ignore_result": True, "retry": False, "expires": wakeup.EXPIRES_SECONDS})]


def test_a_thousand_wakeups_are_a_few_messages(sent):
    for _ in range(1000):
        wakeup.notify_now("orders")
        wakeup.notify_now("payments")
    assert wait_for(lambda: {name for name, _ in sent} == {"orders.drain", "payments.drain"})
    assert len(sent) < 30


def test_a_wakeup_after_a_quiet_time_leaves(sent):
    for count in (1, 2, 3):
        wakeup.notify_now("orders")
        assert wait_for(lambda count=count: len(sent) == count)
        time.sleep(wakeup.QUIET_SECONDS * 1.5)


@pytest.mark.django_db(transaction=True)
def test_a_wakeup_leaves_when_the_transaction_commits_and_not_before(monkeypatch):
    notified = []
    monkeypatch.setattr(wakeup, "notify_now", notified.append)
    with transaction.atomic():
        wakeup.notify("orders")
        assert notified == []
    assert notified == ["orders"]
    with transaction.atomic():
        wakeup.notify("payments")
        transaction.set_rollback(True)
    assert notified == ["orders"]


def test_a_broker_that_is_down_is_counted_and_not_noticed(monkeypatch, caplog):
    def refuse(*_, **__):
        raise ConnectionRefusedError("the password is CANARY")

    monkeypatch.setattr(wakeup.current_app, "send_task", refuse)
    before = wakeup.lost.labels("orders")._value.get()
    started = time.monotonic()
    wakeup._send("orders")
    assert time.monotonic() - started < 0.2
    assert wakeup.lost.labels("orders")._value.get() == before + 1
    assert "ConnectionRefusedError" in caplog.text
    assert "CANARY" not in caplog.text


def test_a_message_that_was_sent_is_counted(sent):
    before = wakeup.sent.labels("storage")._value.get()
    wakeup._send("storage")
    assert wakeup.sent.labels("storage")._value.get() == before + 1


def test_the_caller_does_not_wait_for_a_slow_broker(monkeypatch, sent):
    release = threading.Event()
    monkeypatch.setattr(wakeup.current_app, "send_task", lambda *_, **__: release.wait(5))
    started = time.monotonic()
    for _ in range(20):
        wakeup.notify_now("orders")
    assert time.monotonic() - started < 0.5
    release.set()


def test_a_forked_process_starts_its_own_thread(sent):
    wakeup.notify_now("orders")
    assert wait_for(lambda: sent)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        sent.clear()
        wakeup.notify_now("payments")
        os.write(writer, b"1" if wait_for(lambda: sent) else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"1"
    os.close(reader)
    os.close(writer)


def test_a_worker_answers_its_own_wakeups_and_tells_others_once_its_seats_are_taken(monkeypatch, sent):
    worker, claims = Worker({"orders": 1}), []
    drain = partial(worker.drain, "orders", lambda limit: claims.append(limit) or [], None, batch=1)
    monkeypatch.setattr(wakeup, "this_process", worker)
    monkeypatch.setitem(wakeup.current_app.tasks, "orders.drain", drain)
    worker.start(sweep_seconds=60, heartbeat=lambda: None)
    try:
        assert wait_for(lambda: claims)
        claims.clear()
        wakeup.notify_now("orders")
        assert wait_for(lambda: claims)
        lane = worker._lanes["orders"]
        assert wait_for(lambda: not lane.draining.locked())
        assert sent == []
        lane.take_seats(1)
        wakeup.notify_now("orders")
        assert wait_for(lambda: lane.is_full)
        wakeup.notify_now("orders")
        assert wait_for(lambda: [name for name, _ in sent] == ["orders.drain"])
        lane.leave_seats(1)
    finally:
        worker.stop()


def test_a_store_without_a_broker_sends_nothing(sent, settings):
    settings.REDIS_URL = ""
    wakeup.notify_now("orders")
    time.sleep(wakeup.QUIET_SECONDS / 2)
    assert sent == []

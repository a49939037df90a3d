import os
import threading
import time

import pytest
from django.db import transaction

from bitloot.core import wakeup


@pytest.fixture
def sent(monkeypatch):
    """What left for the broker; the thread that rings is this test's own."""
    names = []
    monkeypatch.setattr(wakeup.current_app, "send_task", lambda name, **options: names.append((name, options)))
    monkeypatch.setattr(wakeup, "_ringer", None)
    monkeypatch.setattr(wakeup, "_wanted", set())
    monkeypatch.setattr(wakeup, "_told", {})
    return names


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_a_bell_carries_no_id_and_is_not_retried(sent):
    wakeup.notify_now("orders")
    assert wait_for(lambda: sent)
    assert sent == [("orders.drain", {"ignore_result": True, "retry": False, "expires": wakeup.EXPIRES_SECONDS})]


def test_a_thousand_rings_are_a_few_messages(sent):
    for _ in range(1000):
        wakeup.notify_now("orders")
        wakeup.notify_now("payments")
    assert wait_for(lambda: {name for name, _ in sent} == {"orders.drain", "payments.drain"})
    assert len(sent) < 30


def test_a_ring_after_a_quiet_time_is_heard(sent):
    for count in (1, 2, 3):
        wakeup.notify_now("orders")
        assert wait_for(lambda count=count: len(sent) == count)
        time.sleep(wakeup.QUIET_SECONDS * 1.5)


@pytest.mark.django_db(transaction=True)
def test_a_bell_rings_when_the_transaction_commits_and_not_before(monkeypatch):
    rung = []
    monkeypatch.setattr(wakeup, "notify_now", rung.append)
    with transaction.atomic():
        wakeup.notify("orders")
        assert rung == []
    assert rung == ["orders"]
    with transaction.atomic():
        wakeup.notify("payments")
        transaction.set_rollback(True)
    assert rung == ["orders"]


def test_a_broker_that_is_down_is_counted_and_not_noticed(monkeypatch, caplog):
    def refuse(*_, **__):
        raise ConnectionRefusedError("the password is CANARY")

    monkeypatch.setattr(wakeup.current_app, "send_task", refuse)
    before = wakeup.lost.labels("orders")._value.get()
    started = time.monotonic()
    wakeup._publish("orders")
    assert time.monotonic() - started < 0.2
    assert wakeup.lost.labels("orders")._value.get() == before + 1
    assert "ConnectionRefusedError" in caplog.text
    assert "CANARY" not in caplog.text


def test_a_message_that_was_sent_is_counted(sent):
    before = wakeup.rung.labels("storage")._value.get()
    wakeup._publish("storage")
    assert wakeup.rung.labels("storage")._value.get() == before + 1


def test_the_caller_does_not_wait_for_a_slow_broker(monkeypatch, sent):
    release = threading.Event()
    monkeypatch.setattr(wakeup.current_app, "send_task", lambda *_, **__: release.wait(5))
    started = time.monotonic()
    for _ in range(20):
        wakeup.notify_now("orders")
    assert time.monotonic() - started < 0.5
    release.set()


def test_a_forked_process_starts_its_own_thread(monkeypatch, sent):
    wakeup.notify_now("orders")
    assert wait_for(lambda: sent)
    theirs = wakeup._ringer
    monkeypatch.setattr(wakeup.os, "getpid", lambda: 1)
    wakeup.notify_now("orders")
    assert [wakeup._ringer[0], wakeup._ringer[1] is not theirs[1]] == [1, True]
    monkeypatch.undo()
    assert theirs[0] == os.getpid()


def test_a_worker_answers_its_own_bells_while_it_has_threads_to_spare(monkeypatch, sent):
    answered = []
    monkeypatch.setattr(wakeup, "_here", lambda queue: answered.append(queue) is None and len(answered) == 1)
    wakeup._announce("orders")
    wakeup._announce("payments")
    assert [answered, [name for name, _ in sent]] == [["orders", "payments"], ["payments.drain"]]


def test_a_worker_without_a_thread_to_spare_tells_the_others_once_a_second(monkeypatch, sent):
    monkeypatch.setattr(wakeup, "_here", lambda queue: False)
    for _ in range(5):
        wakeup._announce("orders")
    wakeup._announce("payments")
    assert [name for name, _ in sent] == ["orders.drain", "payments.drain"]
    wakeup._told["orders"] -= wakeup.BUSY_SECONDS
    wakeup._announce("orders")
    assert [name for name, _ in sent] == ["orders.drain", "payments.drain", "orders.drain"]


def test_a_worker_with_a_thread_to_spare_answers_at_once_and_tells_nobody(monkeypatch, sent):
    answered = []
    monkeypatch.setattr(wakeup, "_here", lambda queue: answered.append(queue) is None)
    wakeup.notify_now("orders")
    assert [answered, wakeup._wanted, wakeup._ringer] == [["orders"], set(), None]

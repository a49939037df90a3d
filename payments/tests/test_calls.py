"""Calls that customers wait for: so many threads may wait at once, and nobody else is kept."""

import threading

import pytest

from payments.calls import Calls


def test_who_finds_no_room_to_wait_is_answered_at_once():
    calls, free = Calls(threads=2, under_way=2, waiting=1), threading.Event()
    first, second = calls.start(free.wait, 30), calls.start(free.wait, 30)
    assert calls.are_too_many
    waiting = threading.Thread(target=calls.wait_for, args=(first,), kwargs={"seconds": 30})
    waiting.start()
    while calls._seats._value != 0:
        threading.Event().wait(0.01)
    with pytest.raises(TimeoutError):
        calls.wait_for(second, seconds=30)
    free.set()
    waiting.join(timeout=30)
    assert calls.wait_for(second, seconds=30) is True

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bitloot.core import turns
from bitloot.tests.services import wait_until


@pytest.fixture(autouse=True)
def two_turns(monkeypatch):
    monkeypatch.setattr(turns, "_turns", threading.BoundedSemaphore(2))


def test_no_more_threads_compute_than_there_are_turns():
    inside, most, go_on = [], [], threading.Event()

    def work():
        with turns.turn():
            inside.append(1)
            most.append(len(inside))
            go_on.wait(10)
            inside.pop()

    with ThreadPoolExecutor(6) as threads:
        for _ in range(6):
            threads.submit(work)
        wait_until(lambda: len(inside) == 2, seconds=10, what="two threads")
        go_on.set()
    assert (len(most), max(most)) == (6, 2)


def test_who_waits_for_somebody_else_lets_others_compute():
    both_wait = threading.Barrier(5, timeout=10)

    def work():
        with turns.turn(), turns.waiting():
            both_wait.wait()

    with ThreadPoolExecutor(5) as threads:
        for result in [threads.submit(work) for _ in range(5)]:
            result.result(10)


def test_a_turn_is_given_back_once_whatever_happens_inside():
    for _ in range(5):
        with pytest.raises(OSError, match="gone"), turns.turn(), turns.waiting(), turns.waiting():
            raise OSError("gone")
    assert [turns._turns.acquire(blocking=False) for _ in range(3)] == [True, True, False]


def test_without_a_turn_waiting_is_nothing():
    with turns.waiting():
        assert turns._turns.acquire(blocking=False)


def test_a_turn_within_a_turn_takes_no_second_one():
    with turns.turn():
        with turns.turn():
            assert turns._turns.acquire(blocking=False)
        assert turns.is_mine()
    assert not turns.is_mine()


def test_a_turn_that_nobody_waits_for_is_announced_when_it_is_given_back(monkeypatch):
    told = []
    monkeypatch.setattr(turns, "TURNS", 1)
    turns.when_spare(lambda: told.append(turns.spare()))
    try:
        with turns.turn():
            assert not turns.spare()
            with turns.waiting():
                assert [told, turns.spare()] == [[True], True]
            assert not turns.spare()
    finally:
        turns.when_spare(None)
    assert told == [True, True]


def test_a_turn_that_somebody_waits_for_is_not_to_spare(monkeypatch):
    told, go_on = [], threading.Event()
    monkeypatch.setattr(turns, "TURNS", 2)

    def work():
        with turns.turn():
            go_on.wait(10)

    turns.when_spare(lambda: told.append(turns.spare()))
    try:
        with ThreadPoolExecutor(3) as threads:
            for _ in range(3):
                threads.submit(work)
            wait_until(turns.crowded, seconds=10, what="the third thread")
            go_on.set()
    finally:
        turns.when_spare(None)
    assert told == [True, True]

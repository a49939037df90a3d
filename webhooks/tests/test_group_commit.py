import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bitloot.tests.services import wait_until
from webhooks.group_commit import Group


class Writer:
    """Notes what it is given; the first write lasts until it is told to end, and "bad" items fail."""

    def __init__(self) -> None:
        self.writes, self.end, self.error = [], threading.Event(), ValueError("a bad item")

    def __call__(self, items):
        self.writes.append(list(items))
        if len(self.writes) == 1:
            assert self.end.wait(10)
        if "bad" in items:
            raise self.error


@pytest.fixture
def writer():
    return Writer()


@pytest.fixture
def together(writer):
    """Write items at the same time: the first alone, the others while that lasts; return what each call raised."""

    def write(group, *items):
        with ThreadPoolExecutor(len(items)) as threads:
            calls = [threads.submit(group, items[0])]
            wait_until(lambda: writer.writes, seconds=60, what="the first write")
            for count, item in enumerate(items[1:], 1):
                calls.append(threads.submit(group, item))
                wait_until(lambda count=count: len(group._waiting) == count, seconds=60, what="the next caller")
            writer.end.set()
            return [call.exception(10) for call in calls]

    return write


def test_a_lone_caller_writes_at_once(writer):
    writer.end.set()
    group = Group(writer, most=3)
    for item in ("a", "b"):
        group(item)
    assert writer.writes == [["a"], ["b"]]


def test_who_comes_while_another_writes_shares_the_next_write(writer, together):
    assert together(Group(writer, most=9), "a", "b", "c", "d") == [None] * 4
    assert writer.writes == [["a"], ["b", "c", "d"]]


def test_no_write_is_larger_than_it_may_be(writer, together):
    assert together(Group(writer, most=2), "a", "b", "c", "d", "e", "f") == [None] * 6
    assert writer.writes == [["a"], ["b", "c"], ["d", "e"], ["f"]]


def test_one_bad_item_fails_its_own_caller_only(writer, together):
    errors = together(Group(writer, most=9), "a", "b", "bad", "c")
    assert errors == [None, None, writer.error, None]
    assert writer.writes[:2] == [["a"], ["b", "bad", "c"]]
    assert sorted(writer.writes[2:]) == [["b"], ["bad"], ["c"]]


def test_after_a_lone_failure_the_others_go_on(writer, together):
    assert together(Group(writer, most=9), "bad", "a", "b") == [writer.error, None, None]
    assert writer.writes == [["bad"], ["a", "b"]]


def test_a_thread_that_is_ended_in_mid_write_leaves_the_others_to_themselves(writer, together):
    writer.error = SystemExit()
    errors = together(Group(writer, most=9), "a", "bad", "b")
    assert errors == [None, writer.error, None]
    assert writer.writes == [["a"], ["bad", "b"], ["b"]]


def test_nobody_is_forgotten_under_load():
    written, lock = [], threading.Lock()

    def write(items):
        with lock:
            written.extend(items)

    group = Group(write, most=4)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(group, range(3000)))
    assert sorted(written) == list(range(3000))

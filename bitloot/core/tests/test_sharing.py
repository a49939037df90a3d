"""Threads of a worker share database connections; here each thread is told when to go on."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection, connections, transaction

from bitloot.core import sharing, turns

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def threads(monkeypatch):
    """Run functions in one of three other threads; what they leave open is closed."""
    spare = []
    monkeypatch.setattr(sharing, "_spare", spare)
    pools = [ThreadPoolExecutor(1) for _ in range(3)]
    yield lambda number, function: pools[number].submit(function).result(10)
    for pool in pools:
        pool.submit(connections.close_all).result(10)
        pool.shutdown()
    for left in spare:
        left.close()


def ask() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return id(connections["default"])


def computed() -> int:
    with turns.turn():
        return ask()


def test_who_computes_gets_the_connection_that_was_left_last(threads):
    assert len({threads(number, computed) for number in (0, 1, 2, 0)}) == 1
    assert len(sharing._spare) == 1


def test_who_waits_for_somebody_else_leaves_the_connection_to_others(threads):
    def wait():
        with turns.turn():
            mine = ask()
            with turns.waiting():
                return mine, threads(1, computed)

    mine, theirs = threads(0, wait)
    assert mine == theirs


def test_two_that_compute_at_once_have_two(threads):
    def both():
        with turns.turn():
            return {ask(), threads(1, computed)}

    assert len(threads(0, both)) == 2
    assert len(sharing._spare) == 2


def test_an_open_transaction_stays_with_its_thread(threads):
    def wait_in_a_transaction():
        with turns.turn(), transaction.atomic():
            mine = ask()
            with turns.waiting():
                theirs = threads(1, computed)
            return mine, theirs, ask()

    mine, theirs, still_mine = threads(0, wait_in_a_transaction)
    assert theirs != mine
    assert still_mine == mine


@pytest.mark.postgres
def test_a_connection_that_broke_is_replaced_before_anybody_else_uses_it(threads):
    assert threads(0, computed) == threads(1, computed)
    pid = sharing._spare[0].connection.info.backend_pid
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    threads(2, computed)
    assert [left.connection.info.backend_pid != pid for left in sharing._spare] == [True]


def test_a_connection_that_cannot_even_be_closed_is_left_behind(threads, monkeypatch):
    def refuse():
        raise OperationalError("gone")

    threads(0, computed)
    lost = sharing._spare[0]
    monkeypatch.setattr(lost, "close_if_unusable_or_obsolete", refuse)
    assert threads(1, computed) != id(lost)
    assert turns.spare()
    lost.close()


def test_without_sharing_each_thread_keeps_its_own(monkeypatch, threads):
    monkeypatch.setattr(sharing, "_spare", None)
    assert len({threads(number, computed) for number in (0, 1)}) == 2

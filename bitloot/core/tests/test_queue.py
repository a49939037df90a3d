"""The queue itself, on rows of the mail queue: the plainest of the five."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from bitloot.core.clock import GIVE_UP_AFTER, LONGEST_STEP, backoff, delay
from bitloot.core.queue import LEASE_SECONDS, LeaseLost, drain
from orders.models import Email

pytestmark = pytest.mark.django_db


def make_row(**fields):
    return Email.objects.create(kind="alert", to="staff@shop.example", **fields)


def make_rows(number):
    return [make_row() for _ in range(number)]


def due_in(row, seconds):
    """Whether the row is due within a few seconds of that time, by the database's clock."""
    near = Email.objects.filter(pk=row.pk, next_attempt_at__lte=Now() + timedelta(seconds=seconds + 1))
    return near.filter(next_attempt_at__gte=Now() + timedelta(seconds=seconds - 5)).exists()


def test_a_new_row_is_due_and_claimed_once():
    row = make_row()
    (claimed,) = Email.objects.claim(limit=5)
    assert claimed.pk == row.pk
    assert Email.objects.claim(limit=5) == []
    row.refresh_from_db()
    assert [row.claim_token, row.crashes, row.attempts] == [claimed.claim_token, 1, 0]
    assert row.claim_token is not None
    assert row.claimed_until == row.next_attempt_at
    assert due_in(row, LEASE_SECONDS)


def test_rows_are_claimed_oldest_first_and_no_more_than_asked():
    rows = make_rows(3)
    for row, seconds in zip(rows, (30, 60, 10), strict=True):
        Email.objects.filter(pk=row.pk).update(next_attempt_at=Now() - timedelta(seconds=seconds))
    first = [row.pk for row in Email.objects.claim(limit=1)]
    rest = {row.pk for row in Email.objects.claim(limit=5)}
    assert [first, rest] == [[rows[1].pk], {rows[0].pk, rows[2].pk}]


@pytest.mark.parametrize("due", [None, timedelta(seconds=5), timedelta(days=1)])
def test_a_row_that_is_not_due_is_left(due):
    row = make_row()
    Email.objects.filter(pk=row.pk).update(next_attempt_at=None if due is None else Now() + due)
    assert Email.objects.claim(limit=5) == []
    assert Email.objects.claim(only=row.pk) == []


def test_one_row_can_be_asked_for():
    rows = make_rows(3)
    assert [row.pk for row in Email.objects.claim(only=rows[1].pk)] == [rows[1].pk]
    assert Email.objects.claim(only=rows[1].pk) == []
    assert Email.objects.claim(only=10**9) == []


def test_a_lease_that_ran_out_is_taken_over_and_the_first_worker_is_fenced_off():
    make_row()
    (slow,) = Email.objects.claim()
    Email.objects.update(next_attempt_at=Now())  # two minutes later
    (taker,) = Email.objects.claim()
    assert taker.claim_token != slow.claim_token
    for record in (lambda: slow.release(None, status="sent"), lambda: slow.retry(error="x")):
        with pytest.raises(LeaseLost):
            record()
    taker.release(None, status="failed")
    slow.refresh_from_db()
    assert [slow.status, slow.error, slow.crashes, slow.claim_token, slow.next_attempt_at] == [
        "failed",
        "",
        0,
        None,
        None,
    ]
    with pytest.raises(LeaseLost):
        taker.release(None)


def test_release_ends_the_claim_and_sets_the_next_time():
    row = make_row()
    (claimed,) = Email.objects.claim()
    claimed.release(timedelta(seconds=30), error="why")
    row.refresh_from_db()
    assert [row.claim_token, row.claimed_until, row.crashes, row.error] == [None, None, 0, "why"]
    assert due_in(row, 30)


def test_a_try_that_failed_waits_longer_each_time():
    row = make_row()
    for attempts, seconds in enumerate((1, 2, 4, 8, 16, 30, 60, 120, 300, 600, 900, 900), 1):
        Email.objects.update(next_attempt_at=Now())
        (claimed,) = Email.objects.claim()
        claimed.retry()
        row.refresh_from_db()
        assert [row.attempts, due_in(row, seconds)] == [attempts, True]


def test_wake_makes_a_row_due_but_never_disturbs_who_holds_it():
    row = make_row()
    Email.objects.update(next_attempt_at=None)
    row.wake()
    (claimed,) = Email.objects.claim()
    row.wake()
    assert Email.objects.claim() == []
    claimed.release(None)


def test_who_is_woken_while_somebody_has_the_row_is_looked_at_as_soon_as_it_is_released():
    row = make_row()
    for after in (None, timedelta(seconds=30)):
        (claimed,) = Email.objects.claim()
        row.wake()
        row.wake()
        claimed.release(after, error="why")
        row.refresh_from_db()
        assert [row.error, row.claim_token, due_in(row, 0)] == ["why", None, True]
    (claimed,) = Email.objects.claim()
    claimed.release(None)
    assert Email.objects.claim() == []


def test_a_row_that_was_woken_is_nobody_elses_to_release():
    row = make_row()
    (late,) = Email.objects.claim()
    row.wake()
    Email.objects.update(next_attempt_at=Now())
    (taker,) = Email.objects.claim()
    with pytest.raises(LeaseLost):
        late.release(None)
    taker.release(None)


def test_the_clock_of_the_database_decides_and_not_the_workers(monkeypatch):
    make_row()
    for skew in (-600, 600):
        monkeypatch.setattr(time, "time", lambda skew=skew: 1_000_000_000 + skew)
        Email.objects.update(next_attempt_at=Now() + timedelta(seconds=60), claim_token=None)
        assert Email.objects.claim() == []


def test_the_backoff_ends_at_a_quarter_of_an_hour(settings):
    assert [backoff(n).total_seconds() for n in (0, 1, 5, 10, 11, 1000)] == [900, 1, 16, 600, 900, 900]
    assert [LONGEST_STEP, GIVE_UP_AFTER] == [900, 86_400]
    settings.CLOCK_SCALE = 60.0
    assert delay(900) == timedelta(seconds=15)


def finish(row):
    row.release(None, status="sent")


def give_up(row):
    row.release(None, status="failed", error="gave up")


def test_a_drain_works_until_nothing_is_due():
    make_rows(5)
    assert drain("orders", Email.objects.all(), finish, give_up=give_up, batch=2) == 5
    assert set(Email.objects.values_list("status", flat=True)) == {"sent"}
    assert drain("orders", Email.objects.all(), finish, give_up=give_up) == 0


def test_one_poison_row_stops_nobody_and_is_given_up_after_three_crashes():
    poison, *others = make_rows(4)
    handled = []

    def handle(row):
        if row.pk == poison.pk:
            raise RuntimeError("poison")
        handled.append(row.pk)
        finish(row)

    for crashes in (1, 2, 3):
        drain("orders", Email.objects.all(), handle, give_up=give_up)
        poison.refresh_from_db()
        assert [poison.crashes, poison.claim_token, poison.status] == [crashes, None, "queued"]
        assert due_in(poison, backoff(crashes).total_seconds())
        Email.objects.filter(pk=poison.pk).update(next_attempt_at=Now())
    drain("orders", Email.objects.all(), handle, give_up=give_up)
    poison.refresh_from_db()
    assert [poison.status, poison.error, poison.next_attempt_at] == ["failed", "gave up", None]
    assert sorted(handled) == sorted(row.pk for row in others)


def test_a_bug_after_the_outcome_was_recorded_does_not_open_the_row_again():
    row = make_row()

    def handle(row):
        finish(row)
        raise RuntimeError("too late")

    drain("orders", Email.objects.all(), handle, give_up=give_up)
    row.refresh_from_db()
    assert [row.status, row.next_attempt_at] == ["sent", None]


def test_a_bug_that_takes_the_outcome_back_is_a_crash_like_any_other():
    row = make_row()

    def handle(row):
        with transaction.atomic():
            finish(row)
            raise RuntimeError("taken back")

    drain("orders", Email.objects.all(), handle, give_up=give_up)
    row.refresh_from_db()
    assert [row.status, row.crashes, row.claim_token, due_in(row, 1)] == ["queued", 1, None, True]


def test_killed_workers_count_as_crashes():
    row = make_row()
    for _ in range(3):
        assert Email.objects.claim()  # and the process is gone
        Email.objects.update(next_attempt_at=Now())
    drain("orders", Email.objects.all(), finish, give_up=give_up)
    row.refresh_from_db()
    assert row.status == "failed"


def test_a_success_forgets_the_crashes_before():
    make_row()
    for _ in range(2):
        Email.objects.claim()
        Email.objects.update(next_attempt_at=Now())
    (claimed,) = Email.objects.claim()
    assert claimed.crashes == 3
    claimed.retry()
    assert Email.objects.get().crashes == 0


def test_a_worker_whose_lease_was_lost_goes_on_with_the_next_row(caplog):
    make_rows(2)

    def lose_first(row):
        if not caplog.records:
            Email.objects.filter(pk=row.pk).update(claim_token=None, next_attempt_at=None)
        finish(row)

    assert drain("orders", Email.objects.all(), lose_first, give_up=give_up) == 2
    assert ["the lease was lost" in record.getMessage() for record in caplog.records] == [True]
    assert sorted(Email.objects.values_list("status", flat=True)) == ["queued", "sent"]


def claim_in_threads(threads, rows):
    make_rows(rows)
    start = threading.Barrier(threads)

    def claim_all(_):
        mine = []
        start.wait()
        try:
            while claimed := Email.objects.claim(limit=3):
                mine += [row.pk for row in claimed]
            return mine
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return [pk for mine in pool.map(claim_all, range(threads)) for pk in mine]


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_claim_one_row():
    """Fails where the UPDATE does not compare again what its SELECT saw."""
    claimed = claim_in_threads(threads=4, rows=60)
    assert sorted(claimed) == sorted(Email.objects.values_list("pk", flat=True))
    assert set(Email.objects.values_list("crashes", flat=True)) == {1}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_worker_does_not_wait_for_rows_that_another_is_claiming():
    """Fails without SKIP LOCKED: the claim would wait for the other transaction, until lock_timeout."""
    first, second = make_rows(2)
    locked, done = threading.Event(), threading.Event()

    def hold():
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT 1 FROM orders_email WHERE id = %s FOR UPDATE", [first.pk])
            locked.set()
            done.wait(10)
            cursor.execute("ROLLBACK")
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(10)
        started = time.monotonic()
        assert [row.pk for row in Email.objects.claim(limit=5)] == [second.pk]
        assert time.monotonic() - started < 2
    finally:
        done.set()
        holder.join()

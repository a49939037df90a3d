"""A send without answer is asked for and never repeated."""

import uuid
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from fulfillment import pipeline
from fulfillment.models import Reservation, ReservationAttempt
from fulfillment.tests.world import HOUR, age, finish, paid, posts, purchases, run
from orders.models import Alert

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]


@pytest.mark.parametrize("fault", ["5xx_after", "accept_then_silent", "garbage", "truncated"])
def test_purchase_without_usable_answer_is_asked_for_and_adopted(reservation, sandbox, fault):
    sandbox.fault("kinguin.order.create", fault, times=1)
    run(reservation)
    assert reservation.status == "unknown"
    assert reservation.permits.get().outcome == "unknown"
    finish(reservation)
    assert len(posts(sandbox, reservation)) == len(purchases(sandbox, reservation)) == 1


def test_purchase_that_never_happened_stays_unknown_and_is_never_sent_again(reservation, sandbox):
    sandbox.fault("kinguin.order.create", "5xx_before", times=1)
    run(reservation, 4)
    assert reservation.status == "unknown"
    assert len(posts(sandbox, reservation)) == 1
    assert not Alert.objects.exists()
    age(reservation, unknown_at=Now() - timedelta(minutes=16))
    run(reservation)
    assert Alert.objects.get().message.startswith("[unknown]")
    age(reservation, unknown_at=Now() - 25 * HOUR)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "unknown_purchase")
    assert reservation.item.order.status == "held"
    run(reservation, 2)
    assert len(posts(sandbox, reservation)) == 1


def test_order_that_appears_late_is_adopted_even_when_held(reservation, sandbox):
    sandbox.fault("kinguin.order.create", "5xx_after", times=1)
    sandbox.fault("kinguin.order.search", "search_lag")
    run(reservation)
    age(reservation, unknown_at=Now() - 25 * HOUR)
    run(reservation)
    assert reservation.status == "held"
    sandbox.calm()
    finish(reservation)
    assert (reservation.status, reservation.item.order.status) == ("delivered", "fulfilled")
    assert len(purchases(sandbox, reservation)) == 1


def test_crash_in_mid_send_becomes_unknown_and_never_pending(reservation, sandbox):
    order = reservation.item.order
    order.mark_fulfilling()
    ReservationAttempt.objects.create(reservation=reservation, number=1)
    dead = {"claim_token": uuid.uuid4(), "claimed_until": Now() - HOUR, "next_attempt_at": Now() - HOUR}
    age(reservation, status="sending", sent_at=Now() - HOUR, **dead)
    [claimed] = Reservation.objects.all().claim(only=reservation.pk)
    pipeline.advance_claimed(claimed)
    reservation.refresh_from_db()
    assert reservation.status == "unknown"
    assert reservation.permits.get().outcome == "unknown"
    assert posts(sandbox, reservation) == []


def test_hold_by_staff_is_not_ended_by_a_purchase_that_is_found(product, picture, sandbox):
    order = paid((product, 1), (picture, 1))
    sandbox.control("config", {"deliver": "manual"})
    sandbox.fault("kinguin.order.create", "5xx_after", times=1)
    unknown = run(Reservation.objects.get(item__order=order, item__product=product))
    order.refresh_from_db()
    order.hold(reason="held_by_staff", message="Staff look at it.")
    found = run(unknown)
    other = run(Reservation.objects.get(item__order=order, item__product=picture))
    assert (found.status, found.item.order.status) == ("given", "held")
    assert (other.status, posts(sandbox, other)) == ("pending", [])


@pytest.mark.parametrize("skew", [timedelta(hours=-30), timedelta(hours=30)])
def test_a_workers_wrong_clock_decides_nothing(reservation, sandbox, monkeypatch, skew):
    sandbox.fault("kinguin.order.create", "5xx_before")
    run(reservation)
    right = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: right() + skew)
    run(reservation)
    assert [reservation.status, Alert.objects.count()] == ["unknown", 0]
    age(reservation, unknown_at=Now() - 25 * HOUR)
    run(reservation)
    assert reservation.status == "held"

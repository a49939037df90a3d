import threading

import pytest
from django.utils import timezone

from bitloot.core.queue import MAX_CRASHES
from fulfillment import tasks
from fulfillment.models import Reservation
from fulfillment.tests.world import age, posts

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("impatient")]


def test_drain_buys_and_delivers_what_is_due(reservation, sandbox):
    for _ in range(50):
        tasks.drain_reservations()
        reservation.refresh_from_db()
        if reservation.status == "delivered":
            break
        threading.Event().wait(0.05)
        age(reservation, next_attempt_at=timezone.now())
    assert (reservation.status, reservation.item.order.status) == ("delivered", "fulfilled")
    assert len(posts(sandbox, reservation)) == 1
    assert tasks.drain_reservations() == 0


def test_drain_leaves_what_is_put_off(reservation, settings):
    settings.SAFE_MODE = True  # nothing leaves, and the row is put off
    assert [tasks.drain_reservations(), tasks.drain_reservations()] == [1, 0]
    reservation.refresh_from_db()
    assert (reservation.status, reservation.claim_token, reservation.crashes) == ("pending", None, 0)
    assert reservation.next_attempt_at > timezone.now()


def test_drain_gives_up_what_crashes_again_and_again(reservation):
    age(reservation, crashes=MAX_CRASHES)
    assert tasks.drain_reservations() == 1
    reservation.refresh_from_db()
    assert (reservation.status, reservation.reason, reservation.next_attempt_at) == ("held", "poison", None)
    assert Reservation.objects.due().count() == 0

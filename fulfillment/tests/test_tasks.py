import pytest
from django.utils import timezone

from bitloot.core.queue import MAX_CRASHES
from fulfillment import tasks
from fulfillment.models import Reservation
from fulfillment.tests.world import age, posts
from tools.dev.supervise import wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]


def test_drain_buys_and_delivers_what_is_due(reservation, sandbox):
    def drained():
        age(reservation, next_attempt_at=timezone.now())
        tasks.drain_reservations()
        reservation.refresh_from_db()
        return reservation.status == "delivered"

    wait_until(drained, seconds=60, what="the key")
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

import pytest

from fulfillment import tasks
from fulfillment.models import Reservation
from fulfillment.tests.world import paid

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("impatient")]


def test_drain_advances_what_is_due(product, settings):
    settings.SAFE_MODE = True  # nothing leaves, and the row is put off
    reservation = Reservation.objects.get(item__order=paid((product, 1)))
    assert tasks.drain_reservations() == 1
    assert tasks.drain_reservations() == 0
    reservation.refresh_from_db()
    assert (reservation.status, reservation.claim_token, reservation.crashes) == ("pending", None, 0)

import pytest

from fulfillment import tasks
from fulfillment.models import Reservation
from fulfillment.tests.test_pipeline import impatient, paid, product  # noqa: F401

pytestmark = pytest.mark.django_db


def test_drain_advances_what_is_due(product, settings):  # noqa: F811
    settings.SAFE_MODE = True  # nothing leaves, and the row is put off
    reservation = Reservation.objects.get(item__order=paid((product, 1)))
    assert tasks.drain_reservations() == 1
    assert tasks.drain_reservations() == 0
    reservation.refresh_from_db()
    assert (reservation.status, reservation.claim_token, reservation.crashes) == ("pending", None, 0)

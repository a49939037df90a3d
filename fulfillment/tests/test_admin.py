"""What only a race shows; the pages and buttons are tested in bitloot/tests/test_admin.py."""

import pytest

from fulfillment.admin import _resume
from fulfillment.models import Reservation
from orders.tests.factories import make_paid_order

pytestmark = pytest.mark.django_db


def test_held_purchase_that_moved_on_under_staffs_eyes_stays_where_it_is():
    make_paid_order()
    Reservation.objects.update(status="held")
    seen = Reservation.objects.get()
    Reservation.objects.update(status="delivered")
    _resume(seen, actor="kim")
    assert Reservation.objects.get().status == "delivered"
    assert not seen.item.order.events.filter(kind="reservation").exists()

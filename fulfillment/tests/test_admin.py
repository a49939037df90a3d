"""What only a race shows; the pages and buttons are tested in bitloot/tests/test_admin*.py."""

import pytest

from bitloot.core.decisions import DecisionRefused
from fulfillment.models import Reservation
from fulfillment.services import RESUME
from orders.tests.factories import make_paid_order

pytestmark = pytest.mark.django_db


def test_held_purchase_that_moved_on_under_staffs_eyes_stays_where_it_is():
    make_paid_order()
    Reservation.objects.update(status="held")
    seen = Reservation.objects.get()
    assert RESUME.objection(seen) is None
    Reservation.objects.update(status="delivered")
    with pytest.raises(DecisionRefused):
        RESUME.carry_out(seen, actor="kim")
    assert Reservation.objects.get().status == "delivered"
    assert not seen.item.order.events.filter(kind="reservation").exists()

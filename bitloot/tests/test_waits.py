"""What an order waits for, in every state that it can be in."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib import admin
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bitloot.staff.waits import WaitsFor, waits_for
from bitloot.tests.staff import make_staff
from fulfillment import kinguin
from fulfillment.models import Reservation, SupplierGate
from orders.models import Approval, Order
from orders.tests.factories import make_order, make_paid_order
from payments.models import Refund, RefundAddress
from payments.tests.factories import make_payment

pytestmark = pytest.mark.django_db


def what(order):
    waits = waits_for([Order.objects.get(pk=order.pk)])[order.pk]
    return waits and waits.what


def test_unpaid_order_waits_for_its_payment_until_it_expires():
    order = make_order()
    waits = waits_for([order])[order.pk]
    assert (waits.what, waits.until) == (WaitsFor.PAYMENT, order.expires_at)
    assert waits.sentence == "It waits for the customer's payment."
    ends = f"{order.expires_at.day} {order.expires_at:%B, %H:%M} UTC"
    said = admin.site.get_model_admin(Order).concern(order)
    assert said == f"It waits for the customer's payment. The order expires on {ends}."
    make_payment(order, "confirming")
    assert what(order) == "confirmations"


def test_money_that_is_not_enough_waits_for_the_rest_and_money_in_review_for_staff():
    order = make_order(status="underpaid")
    payment = make_payment(order, "partially_paid")
    assert what(order) == "rest_of_payment"
    type(payment).objects.update(status="review", reason="other_coin")
    waits = waits_for([order])[order.pk]
    assert waits.what == "person"
    assert "another coin" in waits.sentence
    make_refund(order, payment)
    assert what(order) == "rest_of_payment"


def make_refund(order, payment=None, **fields):
    return Refund.objects.create(
        order=order, payment=payment, amount=Decimal("0.5"), currency="btc", reason="x", **fields
    )


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        ("pending", {}, "worker"), ("sending", {}, "supplier"), ("reserved", {}, "supplier"),
        ("given", {}, "supplier"), ("unknown", {}, "search"), ("held", {"reason": "poison"}, "person"),
        ("held", {"reason": "out_of_stock", "next_attempt_at": Now()}, "stock"),
        ("held", {"reason": "too_expensive", "next_attempt_at": Now()}, "price"),
        ("held", {"reason": "no_funds", "next_attempt_at": Now()}, "funds"),
        ("held", {"reason": "out_of_stock", "next_attempt_at": None}, "person"),
        ("held", {"reason": "out_of_stock", "next_attempt_at": Now(), "supplier_order_id": "S1"}, "person"),
    ],
)  # fmt: skip
def test_paid_order_waits_for_its_purchase(status, fields, expected):
    order = make_paid_order()
    Reservation.objects.update(status=status, **fields)
    assert what(order) == expected
    if status == "held":
        Order.objects.update(status="held", reason=fields["reason"])
        assert what(order) == expected


def test_the_products_patience_is_when_the_money_is_owed_back():
    order = make_paid_order()
    since = timezone.now() - timedelta(hours=3)
    Reservation.objects.update(status="held", reason="out_of_stock", next_attempt_at=Now(), waiting_since=since)
    assert waits_for([order])[order.pk].until == since + timedelta(hours=24)


def test_purchases_that_may_not_leave_wait_for_the_gate(settings):
    order = make_paid_order()
    host = kinguin.client().host
    SupplierGate.objects.create(pk="another.example", status="stopped")
    assert what(order) == "worker"
    SupplierGate.objects.create(pk=host, status="stopped")
    assert what(order) == "supplier_gate"
    SupplierGate.objects.update(status="open")
    settings.SAFE_MODE = True
    assert what(order) == "supplier_gate"


def test_held_order_waits_for_staff_with_the_reason_in_words():
    order = make_paid_order()
    order.hold(reason="held_by_staff", message="Stopped.")
    assert waits_for([order])[order.pk].sentence == (
        "It waits for a decision of staff. Staff stopped the order to look at it."
    )


def test_refund_waits_for_address_rest_sending_and_arrival_in_turn():
    order = make_paid_order()
    Order.objects.update(status="refund_due")
    assert what(order) == "person"
    refund = make_refund(order)
    assert what(order) == "refund_address"
    rests_until = timezone.now() + timedelta(hours=5)
    refund.destination = RefundAddress.objects.create(refund=refund, address="bc1qexample", rests_until=rests_until)
    refund.save()
    assert waits_for([Order.objects.get()])[order.pk].until == rests_until
    RefundAddress.objects.update(rests_until=None)
    assert what(order) == "refund_to_send"
    Refund.objects.update(status="sent")
    assert what(order) == "refund_arrival"
    Refund.objects.update(status="done")
    Order.objects.update(status="refunded")
    assert what(order) is None


def test_second_person_comes_before_everything():
    order = make_order()
    Approval.objects.create(
        order=order, about_model="orders.order", about_pk=str(order.pk), decision="correct-email",
        label="Correct the e-mail address", digest="0", requested_by=make_staff(),
    )  # fmt: skip
    assert what(order) == "second_person"


@pytest.mark.parametrize("status", ["fulfilled", "expired", "cancelled", "failed", "refunded"])
def test_order_that_ended_waits_for_nothing(status):
    order = make_paid_order()
    Reservation.objects.update(status="delivered")
    Order.objects.update(status=status)
    assert what(order) is None
    make_refund(order)
    assert what(order) == "refund_address"


def test_many_orders_cost_as_many_queries_as_one():
    counts = []
    for number in (1, 3):
        orders = [make_paid_order() for _ in range(number)]
        with CaptureQueriesContext(connection) as captured:
            waits_for(orders)
        counts.append(len(captured))
    assert counts[0] == counts[1] == 5

"""A customer who does not want to wait for the supplier gets the money back; one whose key may be bought does not."""

import pytest

from fulfillment import pipeline
from fulfillment.models import Reservation
from fulfillment.tests.test_views import ask
from orders.alerts import raise_alert
from orders.models import Alert, Order
from orders.tests.factories import make_paid_order, make_product
from payments.tests.factories import make_payment
from storage.tests.factories import make_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def order():
    """Held because the supplier is out of stock, and paid for."""
    order = make_paid_order(make_product(), make_product())
    make_payment(order, status="finished", actually_paid="0.5")
    Order.objects.filter(pk=order.pk).update(status="held", reason="out_of_stock")
    first = Reservation.objects.filter(item__order=order).first()
    Reservation.objects.filter(pk=first.pk).update(status="held", reason="out_of_stock")
    raise_alert("order_held", order, "Held.", order=order)
    return order


def money_back(client, order):
    return ask(client, order, "money-back", method="post")


def test_money_goes_back_at_once_and_nothing_more_is_bought(client, order, supplier):
    answer = money_back(client, order)
    assert (answer.status_code, answer.json()["status"]) == (202, "failed")
    order.refresh_from_db()
    assert (order.status, order.reason) == ("refund_due", "asked_by_customer")
    assert [(refund.kind, refund.status) for refund in order.refunds.all()] == [("all", "requested")]
    assert Alert.objects.get(kind="order_held").status == "closed"
    for reservation in Reservation.objects.filter(item__order=order):
        pipeline.advance(reservation.pk)
    assert set(Reservation.objects.values_list("status", flat=True)) == {"cancelled"}
    mine = set(map(str, Reservation.objects.values_list("external_id", flat=True)))
    assert [line for line in supplier.ledger("order_received") if line["external_id"] in mine] == []


def test_the_second_click_changes_nothing(client, order):
    money_back(client, order)
    again = money_back(client, order)
    assert (again.status_code, again.json()["code"]) == (409, "money_stays")
    assert order.refunds.count() == 1


MAY_BE_BOUGHT = [
    {"status": "sending"},
    {"status": "unknown"},
    {"status": "given"},
    {"supplier_order_id": "KNG-1"},
    {"unknown_at": "2030-05-01T10:15:00Z"},
]


@pytest.mark.parametrize("fields", MAY_BE_BOUGHT)
def test_money_stays_while_a_key_may_be_bought(client, order, fields):
    last = Reservation.objects.filter(item__order=order).last()
    Reservation.objects.filter(pk=last.pk).update(**fields)
    assert _stays(client, order) == "A key of this order may have been bought already."


def test_money_stays_once_a_part_is_delivered(client, order):
    make_key(order.items.last())
    assert _stays(client, order) == "A part of this order is delivered already."


@pytest.mark.parametrize(
    "fields",
    [{"status": "fulfilling"}, {"reason": "held_by_staff"}, {"reason": "no_keys"}, {"reason": "payment_refunded"}],
)
def test_money_stays_if_the_order_does_not_wait_for_the_supplier(client, order, fields):
    Order.objects.filter(pk=order.pk).update(**fields)
    if "reason" in fields:
        Reservation.objects.filter(status="held").update(reason=fields["reason"].replace("held_by_staff", "no_keys"))
    assert _stays(client, order) == "This order does not wait for our supplier now."


def _stays(client, order):
    before = Order.objects.filter(pk=order.pk).values("status", "reason").get()
    answer = money_back(client, order)
    assert (answer.status_code, answer.json()["code"]) == (409, "money_stays")
    assert Order.objects.filter(pk=order.pk).values("status", "reason").get() == before
    assert not order.refunds.exists()
    return answer.json()["detail"].split(".")[0] + "."

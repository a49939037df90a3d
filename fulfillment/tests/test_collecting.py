"""Keys that were bought are fetched, sealed, awaited or given back."""

import pytest
from django.db.models.functions import Now

from fulfillment import kinguin
from fulfillment.models import Reservation
from fulfillment.services import keys_of
from fulfillment.tests.world import HOUR, age, finish, paid, run
from orders.decisions import correct_email
from orders.models import Alert, Order, Product
from orders.tests.database import dying_at
from storage.models import Key, KeyDeliveryLog

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]


def test_polling_goes_on_without_webhooks_and_partial_keys_are_shown(product, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    reservation = Reservation.objects.get(item__order=paid((product, 2)))
    run(reservation, 2)
    assert (reservation.status, reservation.polls) == ("given", 2)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {"count": 1})
    run(reservation)
    assert (Key.objects.count(), reservation.item.order.status) == (1, "partially_fulfilled")
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    run(reservation)
    assert (Key.objects.count(), reservation.item.order.status) == (2, "fulfilled")


def test_polling_runs_out_after_a_day(reservation, sandbox):
    sandbox.control("config", {"deliver": "never"})
    run(reservation, 12)
    assert reservation.status == "given"
    age(reservation, reserved_at=Now() - 25 * HOUR)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "no_keys")
    assert Alert.objects.get().order == reservation.item.order


def test_supplier_that_cancels_after_the_purchase_owes_the_customer_money(reservation, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/cancel", {})
    run(reservation)
    order = reservation.item.order
    assert (reservation.status, order.status, order.reason) == ("cancelled", "refund_due", "supplier_cancelled")
    assert Alert.objects.filter(order=order).exists()


def test_supplier_that_cancels_is_told_to_staff_even_if_the_worker_dies_before_that(reservation, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/cancel", {})
    with dying_at("orders_alert"), pytest.raises(SystemExit):
        run(reservation)
    reservation.refresh_from_db()
    assert (reservation.status, Alert.objects.count()) == ("given", 0)
    Reservation.objects.update(claim_token=None, claimed_until=None)  # its lease has ended
    run(reservation)
    order = reservation.item.order
    assert (reservation.status, order.status) == ("cancelled", "refund_due")
    assert Alert.objects.get().order == order


def test_read_that_fails_for_a_day_goes_to_a_person(reservation, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    sandbox.fault("kinguin.order.keys", "5xx_before")
    run(reservation, 3)
    assert (reservation.status, reservation.attempts) == ("given", 3)
    age(reservation, reserved_at=Now() - 25 * HOUR, attempts=10)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "supplier_unavailable")


def test_key_that_another_order_has_is_refused(product, sandbox):
    first = finish(Reservation.objects.get(item__order=paid((product, 1))))
    sandbox.control("config", {"deliver": "manual"})
    second = run(Reservation.objects.get(item__order=paid((product, 1))))
    sandbox.control(f"orders/{second.supplier_order_id}/deliver", {})
    [sold] = [row for row in sandbox.sold() if row["external_id"] == second.external_id]
    Key.objects.filter(item=first.item).update(supplier_key_id=f"ecommerce:{sold['key_id']}")
    run(second)
    assert (second.status, second.reason, second.item.order.status) == ("held", "foreign_key", "held")
    assert not Key.objects.filter(item=second.item).exists()


def test_key_that_another_order_has_is_refused_while_others_are_awaited(product, sandbox):
    first = finish(Reservation.objects.get(item__order=paid((product, 1))))
    sandbox.control("config", {"deliver": "manual"})
    second = run(Reservation.objects.get(item__order=paid((product, 2))))
    sandbox.control(f"orders/{second.supplier_order_id}/deliver", {"count": 1})
    [key] = kinguin.client().delivered(second.supplier_order_id)
    Key.objects.filter(item=first.item).update(supplier_key_id=f"ecommerce:{key.key_id}")
    run(second)
    assert (second.status, second.reason, second.item.order.status) == ("held", "foreign_key", "held")


def test_keys_nobody_needs_any_more_go_back_before_they_are_fetched(reservation, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    reservation.item.order.mark_refund_due(reason="asked", message="The customer asked for it.")
    run(reservation)
    assert (reservation.status, reservation.reason) == ("cancelled", "returned")
    assert not Key.objects.exists()
    assert sandbox.ledger("refunded")[-1]["external_id"] == reservation.external_id


def test_keys_of_an_order_that_lost_its_money_are_not_fetched_and_go_back(reservation, sandbox):
    sandbox.fault("kinguin.order.create", "5xx_after", times=1)
    run(reservation)
    order = reservation.item.order
    order.hold_unpaid(message="The payment was refunded by the provider.")
    run(reservation, 3)
    assert (reservation.status, order.status, order.reason) == ("given", "held", "payment_refunded")
    assert not Key.objects.exists()
    order.mark_refund_due(reason="asked", message="Staff gave the order up.")
    run(reservation)
    assert (reservation.status, reservation.reason) == ("cancelled", "returned")


def test_keys_of_an_order_that_loses_its_money_while_they_are_fetched_are_for_a_person(reservation, sandbox, at):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    at("keys.fetched", lambda: Order.objects.get().mark_refund_due(reason="asked", message="The customer asked."))
    run(reservation)
    assert (reservation.status, Key.objects.exists()) == ("given", False)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "bought_but_refunded")
    assert Alert.objects.filter(order=reservation.item.order, status="open").exists()


def test_fetched_keys_of_a_refunded_order_are_for_a_person(product, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    reservation = Reservation.objects.get(item__order=paid((product, 2)))
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {"count": 1})
    run(reservation)
    reservation.item.order.mark_refund_due(reason="asked", message="The customer asked for it.")
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "bought_but_refunded")
    assert reservation.item.order.status == "refund_due"


def test_order_that_is_partly_delivered_is_not_taken_back_by_the_machine(product, picture, sandbox):
    order = paid((product, 1), (picture, 1))
    delivered = finish(Reservation.objects.get(item__order=order, item__product=product))
    sandbox.control("config", {"deliver": "manual"})
    cancelled = run(Reservation.objects.get(item__order=order, item__product=picture))
    sandbox.control(f"orders/{cancelled.supplier_order_id}/cancel", {})
    run(cancelled)
    order.refresh_from_db()
    assert (delivered.status, cancelled.status) == ("delivered", "cancelled")
    assert (order.status, order.reason) == ("held", "partly_delivered")
    assert Alert.objects.filter(order=order, status="open").exists()
    assert len(keys_of(order)) == 1


def test_keys_of_what_was_bought_are_delivered_though_the_product_was_mapped_anew(reservation, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    assert (reservation.supplier_product_id, reservation.title) == ("64b000000000000000000001", "Ember Drift")
    assert reservation.price_cap == reservation.permits.get().price
    Product.objects.update(supplier_product_id="64b000000000000000000002", max_cost="1.00", title="Another")
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    run(reservation)
    assert (reservation.status, reservation.item.order.status) == ("delivered", "fulfilled")
    assert reservation.title == "Ember Drift"


def test_a_product_that_is_mapped_right_before_it_is_bought_is_bought_as_it_is_now(reservation, sandbox):
    Product.objects.update(supplier_product_id="64b0000000000000000000ff")
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "out_of_stock")
    Product.objects.update(supplier_product_id="64b000000000000000000001")
    finish(reservation)


@pytest.mark.parametrize(
    ("odd", "content_type"),
    [
        ({"type": None}, "application/octet-stream"),
        ({"type": "application/pdf"}, "application/octet-stream"),
        ({"serial": "x" * 65536}, "text/plain"),
        ({"serial": "one\r\ntwo\u0000three"}, "text/plain"),
        ({"serial": "half a pair \ud83d"}, "application/octet-stream"),
        ({"serial": "data:image/png;base64,iVBORw0KGgo=", "type": "image/jpg"}, "image/png"),
    ],
)
def test_key_is_never_kept_from_its_buyer_because_of_its_form(reservation, sandbox, odd, content_type):
    sandbox.fault("kinguin.delivery", "odd_keys", times=1, args=odd)
    finish(reservation)
    assert (reservation.keys.get().content_type, reservation.item.order.status) == (content_type, "fulfilled")
    assert not Alert.objects.exists()


@pytest.mark.parametrize("units", [{}, {"count": 1}])
def test_address_that_is_corrected_while_keys_are_fetched_is_the_one_recorded(product, sandbox, at, units):
    order = paid((product, 2))
    reservation = Reservation.objects.get(item__order=order)
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", units)
    at("keys.fetched", lambda: correct_email(order, actor="kim", email="right@shop.example", reason="Mistyped."))
    run(reservation)
    assert {delivery.customer_email for delivery in KeyDeliveryLog.objects.all()} == {"right@shop.example"}

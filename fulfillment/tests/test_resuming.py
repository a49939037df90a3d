"""What is held goes on by itself once what held it is over, and not before."""

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from fulfillment.tests.world import HOUR, age, finish, posts, purchases, run
from orders.models import Alert, Email, Product

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]


def test_out_of_stock_for_a_day_owes_the_money_back(reservation, sandbox):
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "out_of_stock")
    age(reservation, waiting_since=Now() - 25 * HOUR)
    run(reservation)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    assert (reservation.status, reservation.item.order.status) == ("cancelled", "refund_due")


def test_supplier_that_does_not_answer_ends_no_wait_for_stock(reservation, sandbox):
    Product.objects.update(stock_wait_hours=72)
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    age(reservation, waiting_since=Now() - 25 * HOUR)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    sandbox.fault("kinguin.product", "5xx_before", times=1)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "out_of_stock")
    assert reservation.next_attempt_at > timezone.now()
    assert Email.objects.filter(kind="problem").count() == 1
    finish(reservation)


def test_low_balance_holds_and_resumes_after_a_top_up(reservation, sandbox):
    sandbox.control("balance", {"balance": 1})
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "no_funds")
    assert reservation.permits.get().outcome == "refused"
    run(reservation)
    assert reservation.status == "held"
    sandbox.control("balance", {"balance": 1000})
    finish(reservation)
    assert len(purchases(sandbox, reservation)) == 1


@pytest.mark.parametrize("reason", ["no_keys", "supplier_unavailable", "poison"])
def test_held_purchase_is_delivered_when_somebody_looks_again_and_its_keys_are_there(reservation, sandbox, reason):
    sandbox.control("config", {"deliver": "manual"})
    run(reservation)
    reservation.move("held", message="Held.", reason=reason)
    reservation.item.order.hold(reason=reason, message="Held.")
    run(reservation)
    assert (reservation.status, reservation.reason, reservation.next_attempt_at) == ("held", reason, None)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    run(reservation)
    assert (reservation.status, reservation.item.order.status) == ("delivered", "fulfilled")
    assert not Alert.objects.filter(status="open").exists()
    assert len(posts(sandbox, reservation)) == 1


def test_wait_for_stock_is_the_products_own(reservation, sandbox):
    Product.objects.update(stock_wait_hours=1)
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    age(reservation, waiting_since=Now() - 2 * HOUR)
    run(reservation)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    assert (reservation.status, reservation.item.order.status) == ("cancelled", "refund_due")


def test_order_that_lost_its_money_is_not_bought_when_the_stock_is_back(reservation, sandbox):
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    run(reservation)
    order = reservation.item.order
    order.hold_unpaid(message="The payment was refunded by the provider.")
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    run(reservation, 3)
    assert (order.status, order.reason) == ("held", "payment_refunded")
    assert posts(sandbox, reservation) == []

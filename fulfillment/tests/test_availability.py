from datetime import timedelta
from decimal import Decimal
from threading import BoundedSemaphore

import pytest
from django.utils import timezone

from fulfillment import availability, gate, kinguin
from fulfillment.exceptions import SoldOut
from fulfillment.models import SupplierGate, SupplierStock
from orders.models import Product
from orders.services import Line, place_order
from tools.dev.supervise import wait_until

pytestmark = pytest.mark.django_db
EMBER = "64b000000000000000000001"
OP = "kinguin.product"


@pytest.fixture
def shelf(supplier):
    """The supplier's stock of Ember Drift, full again after the test."""

    def put(**stock):
        supplier.control(f"products/{EMBER}", stock)

    yield put
    put(qty=50_000, textQty=50_000, price=7.49)


def order_of(product, quantity=1):
    return place_order(email="kim@shop.example", lines=[Line(product.slug, quantity)]).order


def seen(product, minutes, **fields):
    then = timezone.now() - timedelta(minutes=minutes)
    said = {"price": Decimal("7.49"), "quantity": 9, "text_quantity": 9, "asked_at": then, "seen_at": then}
    return SupplierStock.objects.update_or_create(product=product, defaults={**said, **fields})[0]


def refusal(order):
    with pytest.raises(SoldOut) as caught:
        availability.demand(order)
    return str(caught.value)


def test_what_the_supplier_has_may_be_paid_for(supplier, product):
    availability.demand(order_of(product))
    stock = SupplierStock.objects.get()
    assert (stock.product, stock.price) == (product, Decimal("7.49"))
    assert stock.quantity > 0


@pytest.mark.parametrize("stock", [{"qty": 0, "textQty": 0}, {"qty": 9, "textQty": 0}, {"qty": 2, "textQty": 2}])
def test_what_the_supplier_has_too_little_of_may_not(shelf, product, stock):
    shelf(**stock)
    assert refusal(order_of(product, 3)).startswith("“Ember Drift” is sold out at the moment. Nothing was charged.")


@pytest.mark.parametrize("limit", [{"max_cost": Decimal("7.48")}, {"min_margin": Decimal("2.51")}])
def test_what_is_dearer_than_we_pay_may_not(supplier, product, limit):
    Product.objects.update(**limit)
    assert "is sold out" in refusal(order_of(product))


def test_a_product_is_asked_for_once_a_minute(shelf, product):
    order = order_of(product)
    availability.demand(order)
    shelf(qty=0, textQty=0)
    availability.demand(order)
    SupplierStock.objects.update(seen_at=timezone.now() - timedelta(seconds=61))
    refusal(order)


def test_a_silent_supplier_stops_no_sale_of_what_was_there_within_the_hour(supplier, product):
    supplier.fault(OP, "5xx_before")
    order = order_of(product)
    availability.demand(order)  # never seen: new
    seen(product, minutes=59)
    availability.demand(order)
    seen(product, minutes=59, quantity=0, text_quantity=0)
    assert "is sold out" in refusal(order)
    seen(product, minutes=61)
    assert refusal(order).startswith("Our supplier does not answer")


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_a_slow_supplier_and_the_next_customer_has_its_answer(shelf, supplier, product, monkeypatch):
    monkeypatch.setattr(availability, "CUSTOMER_WAITS", 0.05)
    shelf(qty=0, textQty=0)
    supplier.fault(OP, "slow", args={"seconds": 1})
    order = order_of(product)
    availability.demand(order)
    wait_until(SupplierStock.objects.exists, seconds=60, what="the late answer")
    assert "is sold out" in refusal(order)


@pytest.mark.django_db(transaction=True)
def test_where_enough_requests_wait_the_next_goes_by_what_is_known(shelf, supplier, product, monkeypatch):
    """Fails if every request may wait: web then has no thread left for webhooks."""
    monkeypatch.setattr(availability, "CUSTOMER_WAITS", 60)
    monkeypatch.setattr(availability, "_seats", BoundedSemaphore(1))
    shelf(qty=0, textQty=0)
    supplier.fault(OP, "slow", args={"seconds": 2})
    order = order_of(product)
    with availability._seats:
        availability.demand(order)
    wait_until(SupplierStock.objects.exists, seconds=60, what="the late answer")
    assert "is sold out" in refusal(order)


def test_nobody_pays_while_we_buy_nothing(supplier, product, settings):
    order, host = order_of(product, 2), kinguin.client().host
    gate.stop(host, reason="stopped by kim")
    assert refusal(order) == availability.NOT_NOW
    gate.open_again(host, by="kim")
    SupplierGate.objects.update(balance=Decimal("14.97"))
    assert refusal(order) == availability.NOT_NOW
    SupplierGate.objects.update(balance=Decimal("14.98"))
    availability.demand(order)
    settings.SAFE_MODE = True
    assert refusal(order) == availability.NOT_NOW


def test_no_order_is_taken_while_we_buy_nothing(supplier, product, settings):
    """The same sentence as at the payment; and neither what the supplier said long ago nor silence counts."""
    lines, host = [(product, 2)], kinguin.client().host
    stock = seen(product, minutes=1)

    def refuse():
        with pytest.raises(SoldOut) as caught:
            availability.refuse_sold_out(lines)
        return str(caught.value)

    availability.refuse_sold_out(lines)
    gate.stop(host, reason="stopped by kim")
    assert refuse() == availability.NOT_NOW
    gate.open_again(host, by="kim")
    SupplierGate.objects.update(balance=Decimal("14.97"))
    assert refuse() == availability.NOT_NOW
    seen(product, minutes=61)
    availability.refuse_sold_out(lines)
    seen(product, minutes=1, price=Decimal("7.48"))
    availability.refuse_sold_out(lines)
    SupplierGate.objects.update(balance=None)
    settings.SAFE_MODE = True
    assert refuse() == availability.NOT_NOW
    stock.delete()
    assert refuse() == availability.NOT_NOW


def test_stock_and_gate_are_read_in_one_statement(supplier, product, django_assert_num_queries):
    gate.stop(kinguin.client().host, reason="stopped by kim")
    seen(product, minutes=1)
    with django_assert_num_queries(1), pytest.raises(SoldOut):
        availability.refuse_sold_out([(product, 1)])


def test_a_paused_gate_is_a_silent_supplier(supplier, product):
    gate.open_again(kinguin.client().host, by="kim")
    SupplierGate.objects.all().pause(reason="unreachable", probe_at=timezone.now())
    seen(product, minutes=0)
    availability.demand(order_of(product))


def test_the_shop_believes_what_it_heard_within_the_hour(product):
    assert not availability.is_sold_out(product)
    for minutes, is_sold_out in ((59, True), (61, False)):
        seen(product, minutes=minutes, quantity=0, text_quantity=0)
        assert availability.is_sold_out(Product.objects.get()) is is_sold_out

"""What cannot be bought, or not be paid for, is not sold: through the API and on the pages."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.cache import caches
from django.utils import timezone

from fulfillment.availability import NOT_NOW
from fulfillment.models import SupplierStock
from orders.access import make_token
from orders.models import Order, Product
from orders.services import Line, place_order
from payments.models import Coin, Payment

pytestmark = pytest.mark.django_db


@pytest.fixture
def product():
    return Product.objects.create(
        slug="ember-drift",
        title="Ember Drift",
        price=Decimal("9.99"),
        max_cost=Decimal("8.50"),
        supplier_product_id="64b000000000000000000001",
    )


@pytest.fixture
def stock(product):
    now = timezone.now()
    return SupplierStock.objects.create(
        product=product, price=Decimal("7.49"), quantity=9, text_quantity=9, asked_at=now, seen_at=now
    )


def sell_out():
    SupplierStock.objects.update(quantity=0, text_quantity=0)


def start(client, order, **headers):
    headers["Authorization"] = f"Bearer {make_token(order, 'api')}"
    body = {"order_id": str(order.pk), "pay_currency": "btc"}
    return client.post("/api/payments/create", body, content_type="application/json", headers=headers)


def test_nobody_is_shown_where_to_pay_for_what_is_sold_out(client, sandbox, stock, product):
    Coin.objects.create(code="btc", name="Bitcoin", network="btc")
    order = place_order(email="kim@shop.example", lines=[Line(product.slug, 1)]).order
    sell_out()
    answer = start(client, order)
    assert (answer.status_code, answer.json()["code"]) == (409, "sold_out")
    assert answer.json()["detail"].startswith("“Ember Drift” is sold out at the moment. Nothing was charged.")
    assert not Payment.objects.exists()

    SupplierStock.objects.update(quantity=9, text_quantity=9)
    first = start(client, order, **{"Idempotency-Key": "k" * 32})
    assert first.status_code == 201
    sell_out()
    again = start(client, order, **{"Idempotency-Key": "k" * 32})  # the address that the customer knows already
    assert (again.status_code, again.json()["pay_address"]) == (201, first.json()["pay_address"])


def test_no_order_is_placed_while_nothing_is_bought(client, stock, product, settings):
    body = {"email": "kim@shop.example", "items": [{"product": product.slug, "quantity": 1}]}
    form = {"email": "kim@shop.example", "product": product.slug, "quantity": "1", "idempotency_key": "f" * 32}
    headers = {"Idempotency-Key": "k" * 32}
    first = client.post("/api/orders", body, "application/json", headers=headers)
    settings.SAFE_MODE = True
    answer, page = client.post("/api/orders", body, "application/json"), client.post("/checkout", form)
    assert (answer.status_code, answer.json()["code"]) == (409, "sold_out")
    assert answer.json()["detail"] == NOT_NOW
    assert page.status_code == 409
    assert str(NOT_NOW) in page.content.decode()
    again = client.post("/api/orders", body, "application/json", headers=headers)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert Order.objects.count() == 1


def test_an_order_that_takes_no_money_is_not_called_sold_out(client, stock, product):
    Coin.objects.create(code="btc", name="Bitcoin", network="btc")
    order = place_order(email="kim@shop.example", lines=[Line(product.slug, 1)]).order
    order.cancel(message="Cancelled.")
    sell_out()
    assert start(client, order).json()["code"] == "not_payable"


def test_the_shop_says_what_is_sold_out(client, stock, product):
    assert "Sold out" not in client.get("/").content.decode()
    assert "Buy</button>" in client.get("/products/ember-drift").content.decode()
    sell_out()
    caches["pages"].clear()
    assert "Sold out" in client.get("/").content.decode()
    page = client.get("/products/ember-drift").content.decode()
    assert "Sold out at the moment. We ask our supplier again every few minutes." in page
    assert "Buy</button>" not in page
    assert client.get("/checkout?product=ember-drift").headers["Location"] == "/products/ember-drift"
    SupplierStock.objects.update(seen_at=timezone.now() - timedelta(hours=2))
    caches["pages"].clear()
    assert "Sold out" not in client.get("/").content.decode()


def test_a_product_below_every_minimum_is_sold_in_numbers_that_can_be_paid_for(client, product):
    for code, minimum in (("btc", "25.00"), ("ltc", "19.99")):
        Coin.objects.create(code=code, name=code, minimum=Decimal(minimum))
    assert list(client.get("/products/ember-drift").context["quantities"]) == [3, 4, 5, 6, 7, 8, 9]
    form = client.get("/checkout?product=ember-drift").context["form"]
    assert form.fields["quantity"].choices[0] == (3, "3 keys: 29.97 EUR")
    Product.objects.update(price=Decimal("2.00"), max_cost=Decimal("1.00"))
    page = client.get("/products/ember-drift").content.decode()
    assert "Coins are taken from 19.99 EUR on, and 9 of these keys together cost less." in page
    assert client.get("/checkout?product=ember-drift").status_code == 302
    Coin.objects.filter(code="ltc").update(minimum=None)  # it may take less
    assert "Buy</button>" in client.get("/products/ember-drift").content.decode()

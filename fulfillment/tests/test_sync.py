"""What we sell is looked at when due, at the sandbox: nothing starves, nothing is emptied by an outage."""

from datetime import timedelta
from decimal import Decimal

import pytest
import responses
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bitloot.core.tests.failpoints import happening_at
from fulfillment import availability, kinguin, sync
from fulfillment.models import PriceChange, PriceRule, SupplierStock
from fulfillment.tasks import look_at_stock
from fulfillment.tests.kinguin_wire import recorded
from fulfillment.tests.test_availability import EMBER, shelf  # noqa: F401
from orders.models import Alert, Product

pytestmark = pytest.mark.django_db
MANY, ONE = "kinguin.products", "kinguin.product"
MISSING = "64b0000000000000000000ff"


@pytest.fixture(autouse=True)
def fresh():
    sync.on_sale_in.cache_clear()
    yield
    sync.on_sale_in.cache_clear()


def looked_at(product, **fields):
    """A look of nine minutes ago: the product is due in one."""
    then = timezone.now() - timedelta(minutes=9)
    said = {"price": Decimal("7.00"), "quantity": 9, "text_quantity": 9, "asked_at": then, "seen_at": then,
            "due_at": then + timedelta(minutes=10)}  # fmt: skip
    return SupplierStock.objects.update_or_create(product=product, defaults={**said, **fields})[0]


def past(**ago):
    return timezone.now() - timedelta(**ago)


def make_product(number, **fields):
    fields = {"slug": f"game-{number}", "title": f"Game {number}", "price": "9.99", "max_cost": "8.50",
              "supplier_product_id": f"64b{number:021d}", **fields}  # fmt: skip
    return Product.objects.create(**fields)


# --- looking


def test_many_products_are_one_call_and_their_cost_and_stock_are_kept(supplier, shelf, product, picture):  # noqa: F811
    shelf(price=6.10, qty=7, textQty=5)
    supplier.fault(ONE, "5xx_before")
    assert look_at_stock() == 2
    stock = SupplierStock.objects.get(product=product)
    assert (stock.price, stock.quantity, stock.text_quantity) == (Decimal("6.10"), 7, 5)
    assert abs(stock.due_at - stock.seen_at - timedelta(seconds=600)) < timedelta(seconds=30)
    assert SupplierStock.objects.get(product=picture).text_quantity == 0
    assert look_at_stock() == 0


def test_what_is_not_due_and_what_is_not_sold_is_left_alone(supplier, product, picture):
    kept = looked_at(picture)
    make_product(3, is_active=False)
    assert look_at_stock() == 1
    assert SupplierStock.objects.get(product=picture).seen_at == kept.seen_at
    assert SupplierStock.objects.count() == 2


def test_an_outage_empties_nothing(supplier, product):
    kept = looked_at(product, due_at=past(minutes=1))
    for fault in ("5xx_before", "429"):
        supplier.fault(MANY, fault)
        assert look_at_stock() == 0
        supplier.calm()
    now = SupplierStock.objects.get()
    assert (now.price, now.quantity, now.seen_at, now.due_at) == (kept.price, kept.quantity, kept.seen_at, kept.due_at)
    assert Product.objects.get().is_active


def test_looks_leave_the_budget_to_orders_and_end_without_it(supplier, product, settings):
    settings.KINGUIN_CALLS_PER_SECOND = 0.01  # four calls, and the next in a minute or two
    client = kinguin.client()
    for _ in range(2):
        client.quote(EMBER)
    assert look_at_stock() == 0
    assert sync.due().count() == 1
    client.quote(EMBER)


def test_an_answer_about_many_that_cannot_be_read_is_asked_for_singly(supplier, product, picture):
    supplier.fault(MANY, "garbage", times=1)
    supplier.fault(ONE, "garbage", times=1)
    assert look_at_stock() == 1
    odd = SupplierStock.objects.get(seen_at=None)
    assert odd.due_at > timezone.now() + timedelta(minutes=9)  # its turn comes again like everybody's
    assert SupplierStock.objects.exclude(pk=odd.pk).get().quantity > 0


def test_an_id_that_kinguin_cannot_have_costs_only_itself(supplier, product):
    make_product(7, supplier_product_id="../v1/balance")
    assert look_at_stock() == 1
    assert SupplierStock.objects.get(product=product).quantity > 0


def test_no_more_calls_a_minute_than_allowed_and_the_next_run_continues(supplier, settings):
    settings.KINGUIN_LOOKS_PER_MINUTE = 5
    for number in range(1, 7):
        make_product(number)
    for number in range(100, 108):  # Kinguin does not know these: each costs a call of its own
        make_product(number)
    assert look_at_stock() == 6 + 4
    assert look_at_stock() == 0
    assert sync.due().count() == 4
    settings.KINGUIN_LOOKS_PER_MINUTE = 100  # as if the next minute began
    assert look_at_stock() == 4


def test_a_dialect_without_a_catalogue_looks_at_nothing(product, settings):
    settings.KINGUIN_API = "orders"
    assert look_at_stock() == 0
    assert SupplierStock.objects.count() == 0


# --- gone


def test_what_is_missing_is_sold_out_and_stays_on_sale_for_days(supplier, product):
    Product.objects.update(supplier_product_id=MISSING)
    assert look_at_stock() == 1
    stock = SupplierStock.objects.get()
    assert (stock.quantity, stock.gone_since is not None) == (0, True)
    SupplierStock.objects.update(gone_since=past(days=6, hours=23), due_at=past(minutes=1))
    look_at_stock()
    product.refresh_from_db()
    assert (product.is_active, Alert.objects.count()) == (True, 0)
    assert availability.is_sold_out(product)


def test_what_is_missing_for_a_week_is_taken_off_sale_with_one_alert(supplier, product):
    Product.objects.update(supplier_product_id=MISSING)
    looked_at(product, gone_since=past(days=7, minutes=1), due_at=past(minutes=1))
    look_at_stock()
    product.refresh_from_db()
    alert = Alert.objects.get()
    assert (product.is_active, alert.kind, alert.times) == (False, "product_gone", 1)
    assert "has not known “Ember Drift” for 7 days" in alert.message
    SupplierStock.objects.update(due_at=past(minutes=1))
    assert look_at_stock() == 0


def test_a_catalogue_that_is_empty_takes_nothing_off_sale(product):
    looked_at(product, gone_since=past(days=30), due_at=past(minutes=1))
    base = kinguin.client()._endpoint._transport.base_url
    with responses.RequestsMock() as mock:
        mock.get(f"{base}/v1/products", json={"results": [], "item_count": 0})
        mock.get(f"{base}/v2/products/{EMBER}", json=recorded("error_product_not_found_404"), status=404)
        look_at_stock()
    assert Product.objects.get().is_active


def test_a_gateways_404_is_no_sign_that_a_product_is_gone(product):
    looked_at(product, due_at=past(minutes=1))
    base = kinguin.client()._endpoint._transport.base_url
    with responses.RequestsMock() as mock:
        mock.get(f"{base}/v1/products", body=b"<html>", status=404)
        mock.get(f"{base}/v2/products/{EMBER}", body=b"<html>", status=404)
        assert look_at_stock() == 0
    stock = SupplierStock.objects.get()
    assert (stock.gone_since, stock.quantity) == (None, 9)


def test_what_is_found_again_is_not_gone(supplier, product):
    looked_at(product, gone_since=past(days=6), due_at=past(minutes=1))
    look_at_stock()
    assert SupplierStock.objects.get().gone_since is None


# --- prices that follow


def test_an_automatic_rule_follows_the_cost_and_another_waits_for_staff(supplier, shelf, product, picture):  # noqa: F811
    PriceRule.objects.create(name="All", margin=Decimal(50), is_automatic=True)
    PriceRule.objects.create(name="Switch", platform="Switch", margin=Decimal(50))
    Product.objects.filter(pk=picture.pk).update(platform="Switch")
    shelf(price=4.00)
    look_at_stock()
    product.refresh_from_db()
    picture.refresh_from_db()
    assert (product.price, picture.price) == (Decimal("6.99"), Decimal("22.99"))
    change = PriceChange.objects.get()
    assert (change.actor, change.rule, change.cost) == ("automatic", "All", Decimal("4.00"))
    SupplierStock.objects.update(due_at=past(minutes=1))
    look_at_stock()
    assert PriceChange.objects.count() == 1


def test_a_price_that_staff_set_while_the_supplier_was_asked_stays(supplier, shelf, product):  # noqa: F811
    PriceRule.objects.create(name="All", margin=Decimal(50), is_automatic=True)
    shelf(price=4.00)
    with happening_at("http.read", lambda: Product.objects.update(price="12.34")):
        look_at_stock()
    product.refresh_from_db()
    assert product.price == Decimal("12.34")
    # The rule is still automatic, so the next look follows it.
    SupplierStock.objects.update(due_at=past(minutes=1))
    with happening_at("http.read", lambda: PriceRule.objects.update(is_automatic=False)):
        look_at_stock()
    assert not PriceChange.objects.exists()


# --- product.update


def test_updates_of_a_product_of_ours_are_one_look_soon(product):
    looked_at(product, due_at=timezone.now() + timedelta(minutes=10))
    for _ in range(3):
        assert sync.expect_change(EMBER)
    soon = SupplierStock.objects.get().due_at
    assert timedelta(seconds=25) < soon - timezone.now() < timedelta(seconds=31)
    looked_at(product, due_at=past(minutes=5))
    sync.expect_change(EMBER)  # it is due already: nothing is put off
    assert SupplierStock.objects.get().due_at < timezone.now()


def test_updates_of_what_we_do_not_sell_cost_no_query(product):
    sync.expect_change(EMBER)
    with CaptureQueriesContext(connection) as asked:
        for number in range(1000):
            assert not sync.expect_change(f"64c{number:021d}")
    assert len(asked) <= 1  # a new minute may begin

"""Scenarios of the runbook: purchases and the supplier."""

from datetime import timedelta
from decimal import Decimal

import pytest
import responses
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models.functions import Now

from bitloot.accounting.tests import ledgers
from bitloot.accounting.tests.test_provider_checks import buy_again
from bitloot.tasks import look_around
from bitloot.tests.runbook import row
from bitloot.tests.scenarios.provider_differences import delivered_at_the_sandbox
from bitloot.tests.staff import page_of
from bitloot.tests.test_doctor import tls  # noqa: F401
from bitloot.tests.test_product_form import filled
from fulfillment import gate, services
from fulfillment.kinguin import SupplierEvent
from fulfillment.models import SupplierGate, SupplierStock
from fulfillment.tasks import drain_reservations, look_at_stock, watch_funds
from fulfillment.tests.kinguin_wire import recorded
from fulfillment.tests.world import HOUR, age, finish, run
from orders.models import OrderItem, Product
from orders.tests.factories import make_product
from storage.models import Key, KeyDeliveryLog
from webhooks.tasks import look_for_silence
from webhooks.tests.factories import ipn, make_log


@row("reservation:no_keys")
def deliver_keys_that_never_came(staff):
    sandbox = staff.supplier()
    reservation = partly(staff, sandbox)
    age(reservation, reserved_at=Now() - 25 * HOUR, polls=20)
    staff.until_held(reservation)
    staff.delivers_by_hand(reservation.item.order)
    return reservation.item.order, "fulfilled"


@row("reservation:partly_cancelled")
def deliver_what_was_partly_cancelled(staff):
    sandbox = staff.supplier()
    reservation = partly(staff, sandbox)
    sandbox.control(f"orders/{reservation.supplier_order_id}/cancel", {})
    staff.until_held(reservation)
    staff.delivers_by_hand(reservation.item.order)
    return reservation.item.order, "fulfilled"


def partly(staff, sandbox):
    """Two units were bought, and one of them came."""
    sandbox.control("config", {"deliver": "manual"})
    reservation = run(staff.reservation(quantity=2))
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {"count": 1})
    return run(reservation)


@row("reservation:supplier_cancelled")
def pay_back_what_the_supplier_cancelled(staff):
    sandbox = staff.supplier()
    sandbox.control("config", {"deliver": "manual"})
    reservation = run(staff.reservation())
    sandbox.control(f"orders/{reservation.supplier_order_id}/cancel", {})
    run(reservation)
    staff.sees()
    staff.pays_back(reservation.item.order)
    staff.closes("reservation")
    return reservation.item.order, "refunded"


@row("reservation:unreadable_key")
def deliver_instead_of_an_unreadable_key(staff):
    staff.supplier().fault("kinguin.delivery", "odd_keys", times=1, args={"serial": {"code": "A"}})
    reservation = staff.until_held(staff.reservation())
    staff.delivers_by_hand(reservation.item.order)
    return reservation.item.order, "fulfilled"


@row("reservation:foreign_key", "alert:key_sold_twice")
def deliver_instead_of_a_foreign_key(staff):
    sandbox = staff.supplier()
    finish(staff.reservation())
    sandbox.fault("kinguin.delivery", "key_duplicate", times=1)
    reservation = staff.until_held(staff.reservation())
    staff.delivers_by_hand(reservation.item.order)
    staff.closes("key_sold_twice")
    return reservation.item.order, "fulfilled"


@row("reservation:unknown", "reservation:unknown_purchase")
def search_for_an_unknown_purchase(staff):
    sandbox = staff.supplier()
    sandbox.fault("kinguin.order.create", "5xx_after", times=1)
    sandbox.fault("kinguin.order.search", "search_lag")
    reservation = run(staff.reservation())
    age(reservation, unknown_at=Now() - timedelta(minutes=16))
    run(reservation)
    staff.sees()
    age(reservation, unknown_at=Now() - 25 * HOUR)
    staff.until_held(reservation)
    sandbox.calm()
    staff.decides(reservation, "Search at the supplier")
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("reservation:out_of_stock")
def wait_for_stock(staff):
    sandbox = staff.supplier()
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    reservation = staff.until_held(staff.reservation())
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("reservation:no_funds")
def top_up(staff):
    sandbox = staff.supplier()
    sandbox.control("balance", {"balance": 1})
    reservation = staff.until_held(staff.reservation())
    sandbox.control("balance", {"balance": 1000})
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("alert:low_balance")
def top_up_before_it_is_needed(staff):
    sandbox = staff.supplier()
    reservation = staff.reservation()
    sandbox.control("balance", {"balance": 8})
    watch_funds()
    staff.sees()
    sandbox.control("balance", {"balance": 1000})
    watch_funds()
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("alert:product_gone")
def enter_another_product_id(staff):
    staff.supplier()
    product = make_product(supplier_product_id="64b0000000000000000000ff")
    week = Now() - timedelta(days=8)
    SupplierStock.objects.create(product=product, seen_at=Now(), due_at=Now(), gone_since=week)
    look_at_stock()
    staff.sees()
    assert not Product.objects.get(pk=product.pk).is_active
    sent = filled(title=product.title, slug=product.slug)  # with an id that Kinguin has, and on sale
    assert staff.client.post(page_of(product), sent).status_code == 302
    look_at_stock()
    assert SupplierStock.objects.get().quantity > 0


@row("alert:balance_runway")
def top_up_before_the_week_is_over(staff):
    sandbox = staff.supplier()
    reservation = staff.reservation()
    finish(reservation)
    sandbox.control("balance", {"balance": 9})  # one more key would do; at a key a day it is no week
    watch_funds()
    staff.sees()
    sandbox.control("balance", {"balance": 1000})
    watch_funds()
    return reservation.item.order, "fulfilled"


@row("alert:order_stuck")
def run_the_delivery_of_a_stuck_order(staff):
    staff.supplier()
    reservation = staff.reservation()
    age(reservation, next_attempt_at=None)
    look_around()
    staff.sees()
    look_around()  # it is seen once more, and stays one alert
    staff.decides(reservation.item.order, "Run the delivery now")
    look_around()
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("alert:ipns_silent")
def check_the_address_of_ipns(staff):
    def paid_silently(number):
        payment = ledgers.paid_order().payments.get()
        ledgers.put(payment, external_id=str(number), finished_at=Now() - timedelta(minutes=20))
        return payment

    paid_silently(1)
    look_for_silence()
    staff.sees()
    heard = paid_silently(2)
    make_log(body=ipn(payment_id=2), external_id=heard.external_id)
    look_for_silence()


@row("reservation:too_expensive")
def raise_the_cap(staff):
    staff.supplier()
    reservation = staff.reservation()
    Product.objects.update(max_cost=Decimal("1.00"))
    staff.until_held(reservation)
    Product.objects.update(max_cost=Decimal("8.50"))
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("reservation:never_available")
def take_it_off_sale(staff):
    sandbox = staff.supplier()
    sandbox.control("products/64b000000000000000000001", {"qty": 0, "textQty": 0})
    reservation = run(staff.reservation())
    age(reservation, waiting_since=Now() - 25 * HOUR)
    run(reservation)
    sandbox.control("products/64b000000000000000000001", {"qty": 50000, "textQty": 50000})
    staff.sees()
    staff.pays_back(reservation.item.order)
    staff.closes("reservation")
    return reservation.item.order, "refunded"


@row("reservation:refused")
def let_a_refused_purchase_continue(staff):
    sandbox = staff.supplier()
    reservation = staff.reservation()
    sandbox.fault("kinguin.order.create", "refuse", times=1, args={"kind": "ConstraintViolation"})
    staff.until_held(reservation)
    sandbox.calm()
    staff.decides(reservation, "Let it continue")
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("reservation:supplier_unavailable")
def run_what_had_no_answer_for_a_day(staff):
    sandbox = staff.supplier()
    reservation = staff.reservation()
    sandbox.fault("kinguin.product", "5xx_before", times=1)
    age(reservation, attempts=10, created_at=Now() - 25 * HOUR)
    staff.until_held(reservation)
    staff.decides(reservation, "Run now")
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("reservation:supplier_config")
def correct_the_key_of_the_supplier(staff):
    staff.supplier()
    reservation = staff.reservation()
    with responses.RequestsMock() as wire:
        wire.add_passthru(settings.KINGUIN_BASE_URL)
        wire.post(f"{settings.KINGUIN_BASE_URL}/v2/order", status=401, json=recorded("error_authorization_401"))
        staff.until_held(reservation)
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("reservation:other_dialect")
def switch_the_dialect_back(staff):
    staff.supplier()
    reservation = staff.reservation()
    age(reservation, dialect="orders")
    staff.until_held(reservation)
    staff.delivers_by_hand(reservation.item.order)
    return reservation.item.order, "fulfilled"


@row("reservation:poison")
def let_a_poisonous_purchase_continue(staff):
    staff.supplier()
    reservation = staff.reservation()
    age(reservation, crashes=3, next_attempt_at=Now())
    drain_reservations()
    reservation.refresh_from_db()
    staff.sees()
    staff.decides(reservation, "Let it continue")
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("reservation:found_at_supplier")
def adopt_after_a_restore(staff):
    reservation = delivered_at_the_sandbox(staff)
    KeyDeliveryLog.objects.filter(key__item=reservation.item).delete()
    Key.objects.filter(item=reservation.item).delete()
    reservation.permits.all().delete()
    ledgers.put(reservation.item.order, status="paid")
    age(reservation, status="pending", supplier_order_id=None, next_attempt_at=Now())
    with pytest.raises(CommandError):
        call_command("reconcile", "--ask", "--adopt")
    reservation.refresh_from_db()
    staff.seen.add(f"reservation:{reservation.reason}")
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("reservation:surplus")
def return_a_surplus_key(staff):
    sandbox = staff.supplier()
    sandbox.control("config", {"deliver": "manual"})
    reservation = run(staff.reservation(quantity=2))
    OrderItem.objects.filter(pk=reservation.item_id).update(quantity=1)
    reservation.permits.update(price=Decimal("17.00"))
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    reservation = finish(reservation)
    staff.sees()
    staff.closes("reservation")
    return reservation.item.order, "fulfilled"


@row("reservation:double_purchase")
def return_one_of_two_purchases(staff):
    sandbox = staff.supplier()
    sandbox.control("config", {"enforce_external_id": False})
    reservation = finish(staff.reservation())
    try:
        buy_again(reservation)
    finally:
        sandbox.control("config", {"enforce_external_id": True})
    KeyDeliveryLog.objects.filter(key__item=reservation.item).delete()
    Key.objects.filter(item=reservation.item).delete()
    ledgers.put(reservation.item.order, status="fulfilling")
    age(reservation, status="unknown", supplier_order_id=None, unknown_at=Now(), next_attempt_at=Now())
    staff.until_held(reservation)
    sandbox.control(f"orders/{kinguin_orders(sandbox, reservation)[-1]}/cancel", {})
    staff.decides(reservation, "Search at the supplier")
    finish(reservation)
    return reservation.item.order, "fulfilled"


def kinguin_orders(sandbox, reservation):
    return [line["order_id"] for line in sandbox.ledger("sold") if line["external_id"] == reservation.external_id]


@row("reservation:bought_but_refunded")
def return_the_keys_of_a_refunded_order(staff):
    sandbox = staff.supplier()
    sandbox.control("config", {"deliver": "manual"})
    sandbox.fault("kinguin.order.return", "refuse", args={"kind": "ConstraintViolation"})
    reservation = run(staff.reservation())
    staff.decides(reservation.item.order, "Give the money back")
    run(reservation, 3)
    staff.sees()
    staff.closes("reservation")
    staff.pays_back(reservation.item.order)
    return reservation.item.order, "refunded"


@row("alert:safe_mode")
def let_purchases_leave_again(staff):
    staff.supplier()
    call_command("safe_mode", "on", "--reason", "A test of the runbook.")
    reservation = run(staff.reservation())
    assert reservation.status == "pending"
    staff.sees()
    call_command("safe_mode", "off")
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("alert:supplier_down")
def wait_for_the_supplier(staff):
    sandbox = staff.supplier()
    reservation = staff.reservation()
    for name in ("kinguin.product", "kinguin.balance"):
        sandbox.fault(name, "5xx_before")
    run(reservation, gate.FAILURES_TO_PAUSE)
    staff.sees()
    sandbox.calm()
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    finish(reservation)
    return reservation.item.order, "fulfilled"


def odd_product(staff, **answer):
    staff.supplier()
    reservation = staff.reservation()
    with responses.RequestsMock() as wire:
        wire.add_passthru(settings.KINGUIN_BASE_URL)
        wire.get(f"{settings.KINGUIN_BASE_URL}/v2/products/{reservation.item.product.supplier_product_id}", **answer)
        run(reservation)
        age(reservation, unread_since=Now() - timedelta(minutes=16))
        run(reservation)
        staff.sees()
    staff.decides(reservation, "Run now")
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("alert:purchase_unreadable")
def wait_for_a_readable_product(staff):
    return odd_product(staff, body=b"<html>")


@row("alert:purchase_refused")
def run_a_refused_request_again(staff):
    return odd_product(staff, status=400, json={"kind": "ConstraintViolation", "detail": "No."})


def hears(reservation, **fields):
    """A webhook of the supplier says this of the purchase."""
    event = {"kind": "order", "event_type": "order.status", "external_id": reservation.external_id, **fields}
    services.handle_supplier_event(SupplierEvent(**event))


@row("alert:double_purchase")
def look_up_two_purchases(staff):
    staff.supplier()
    reservation = finish(staff.reservation())
    hears(reservation, order_id="ANOTHER", status="completed")
    staff.sees()
    staff.closes("double_purchase")
    return reservation.item.order, "fulfilled"


@row("alert:supplier_after_delivery")
def replace_a_key_that_was_taken_back(staff):
    staff.supplier()
    reservation = finish(staff.reservation())
    hears(reservation, order_id=reservation.supplier_order_id, status="refunded")
    staff.sees()
    staff.decides(reservation.keys.get(), "Replace by hand", code="TYPED-INSTEAD", old_key="shred")
    staff.closes("supplier_after_delivery")
    return reservation.item.order, "fulfilled"

"""Each row of the runbook: bring the store there, do what the row says, see the alert close and the order end."""

import re
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib import admin
from django.db.models import F
from django.db.models.functions import Now

from bitloot.accounting.tests import ledgers, test_checks as breaks
from bitloot.tests.runbook import Operator, found, open_alerts, rows
from fulfillment.tasks import watch_funds
from fulfillment.tests.world import HOUR, age, finish, run
from orders.tests.factories import make_email, make_order, make_paid_order
from payments import settlement
from payments.models import Payment
from payments.tests.decisions import HALF, money_in

pytestmark = pytest.mark.django_db
SCENARIOS = {}


def row(*names):
    """Register a scenario for rows of the runbook. It returns the order and how that ends, or None without an order."""

    def register(scenario):
        SCENARIOS.update(dict.fromkeys(names, scenario))
        return scenario

    return register


# --- differences between our rows


@row("difference:money_without_order")
def refund_of_money_without_order(staff):
    order = breaks.money_without_order()
    staff.sees()
    staff.decides(order.payments.get(), "Refund all")
    staff.pays_back(order)
    return order, "refunded"


@row("difference:paid_without_money")
def accept_what_covers_less(staff):
    order = breaks.paid_with_money_that_went_back()
    staff.sees()
    staff.decides(order, "Hold")
    return order, "held"


@row("difference:order_stuck")
def run_a_stuck_delivery(staff):
    staff.supplier()
    reservation = staff.reservation()
    age(reservation, next_attempt_at=None)
    staff.sees()
    staff.decides(reservation.item.order, "Run the delivery now")
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("difference:held_unnoticed")
def deliver_what_is_held_unnoticed(staff):
    order = breaks.held_unnoticed()
    staff.sees()
    staff.delivers_by_hand(order)
    return order, "fulfilled"


@row("difference:purchase_astray")
def deliver_an_astray_purchase(staff):
    order = breaks.purchase_of_a_failed_reservation()
    staff.sees()
    staff.delivers_by_hand(order)
    return order, "fulfilled"


@row("difference:refund_forgotten")
def refund_what_was_forgotten(staff):
    order = ledgers.paid_order()
    order.mark_refund_due(reason="out_of_stock", message="Owed back.")
    order.refunds.all().delete()
    staff.sees()
    staff.decides(order.payments.get(), "Refund all")
    staff.pays_back(order)
    return order, "refunded"


@row("difference:refund_not_sent")
def send_what_nothing_reminds_of(staff):
    order = breaks.refund_not_sent()
    staff.sees()
    refund = order.refunds.get()
    staff.decides(refund, "Mark as sent", transaction_id="f4184fc596403b9d")
    staff.decides(refund, "Mark as done")
    return order, "refunded"


@row("difference:review_unnoticed")
def refund_what_is_in_review_unnoticed(staff):
    order = breaks.review_unnoticed()
    staff.sees()
    staff.decides(order.payments.get(status="review"), "Refund all")
    return order, "fulfilled"


@row("difference:part_forgotten")
def refund_a_forgotten_part(staff):
    order = breaks.part_forgotten()
    staff.sees()
    staff.decides(order.payments.get(), "Refund all")
    staff.pays_back(order)
    return order, "refunded"


@row("difference:payment_unwatched")
def read_an_unwatched_payment_again(staff):
    order = breaks.payment_unwatched()
    staff.sees()
    staff.decides(order.payments.get(), "Read again at the provider")
    return order, "pending"


@row("difference:accepted_below_price", "alert:accepted_below_price")
def acknowledge_an_acceptance_below_the_price(staff):
    order = make_order()
    payment = ledgers.paying(order, "review", credit=Decimal("4.99"), actually_paid=Decimal("0.05"))
    staff.decides(payment, "Accept as paid")
    staff.sees()
    staff.closes("accepted_below_price")
    return order, "paid"


@row("difference:surplus_kept")
def give_the_surplus_back(staff):
    order = breaks.surplus_kept()
    staff.sees()
    staff.decides(order.payments.get(), "Refund the surplus")
    return order, "paid"


# --- money


@row("alert:order_held")
def give_back_the_money_of_a_held_order(staff):
    order = ledgers.paid_order()
    staff.decides(order, "Hold")
    staff.sees()
    staff.decides(order, "Give the money back")
    staff.pays_back(order)
    return order, "refunded"


@row("alert:payment_review", "review:too_little", "review:other_price", "review:other_coin")
def accept_what_is_in_review(staff):
    order = None
    for reason in ("too_little", "other_price", "other_coin"):
        payment = money_in(reason=reason, credit=Decimal("24.99"))
        order = payment.order
        settlement.alert(order, payment, reason)
        staff.sees()
        staff.decides(payment, "Accept as paid")
    return order, "paid"


@row("review:partially_paid")
def ask_for_the_rest(staff):
    payment = money_in(make_order(status="underpaid"), **HALF, reason="partially_paid")
    settlement.alert(payment.order, payment, "partially_paid")
    staff.sees()
    staff.decides(payment, "Ask for the rest")
    return payment.order, "underpaid"


@row("review:second_payment")
def refund_a_second_payment(staff):
    order = breaks.review_unnoticed()
    payment = order.payments.get(status="review")
    settlement.alert(order, payment, "second_payment")
    staff.sees()
    staff.decides(payment, "Refund all")
    return order, "fulfilled"


@row("review:create_mismatch")
def end_a_payment_that_nobody_was_shown(staff):
    payment = money_in(reason="create_mismatch", actually_paid=Decimal(0))
    settlement.alert(payment.order, payment, "create_mismatch")
    staff.sees()
    staff.decides(payment, "End this payment")
    return payment.order, "pending"


@row("alert:refund_to_send")
def send_a_refund(staff):
    order = ledgers.paid_order()
    staff.decides(order, "Give the money back")
    staff.pays_back(order)
    return order, "refunded"


# --- purchases


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


# --- the runbook as a whole

# Rows whose remedy no test carries out yet, and what it would take.
NOT_YET = {}


def test_each_row_has_a_scenario_or_says_that_it_has_none():
    names = [name for name, _ in rows()]
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert set(names) == set(SCENARIOS) | set(NOT_YET)
    assert not set(SCENARIOS) & set(NOT_YET)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_remedy_closes_the_alert_and_ends_the_order(name, request):
    staff = Operator(request)
    ended = SCENARIOS[name](staff)
    assert name in staff.seen
    assert name not in {*open_alerts(), *(f"difference:{kind}" for kind in found())}
    if ended is not None:
        order, status = ended
        order.refresh_from_db()
        assert order.status == status

"""Each row of the runbook: bring the store there, do what the row says, see the alert close and the order end."""

import re
import smtplib
import sqlite3
import uuid
from collections import Counter, namedtuple
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from functools import partial
from unittest import mock

import pytest
import responses
from django.conf import settings
from django.contrib import admin
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models import F
from django.db.models.functions import Now

from bitloot.accounting import provider_checks
from bitloot.accounting.checks import differences, unacknowledged
from bitloot.accounting.ledger import Scope
from bitloot.accounting.tests import ledgers
from bitloot.accounting.tests import test_checks as breaks
from bitloot.accounting.tests.test_provider_checks import buy_again, pay_silently
from bitloot.core import sweeps
from bitloot.core.models import Sweep, WorkerSeen
from bitloot.core.outcome import Outcome
from bitloot.core.presence import Presence
from bitloot.ops import watchdog
from bitloot.ops.backup.places import new_name
from bitloot.partners.models import OutgoingWebhook
from bitloot.partners.services import secret_of
from bitloot.partners.tasks import drain_outgoing_webhooks
from bitloot.partners.tests.factories import make_endpoint
from bitloot.partners.tests.receiver import running_receiver as partner
from bitloot.tasks import look_around
from bitloot.tests.runbook import Operator, found, open_alerts, rows, state
from bitloot.tests.staff import page_of
from bitloot.tests.test_doctor import tls  # noqa: F401
from bitloot.tests.test_product_form import filled
from fulfillment import gate, kinguin, services
from fulfillment.kinguin import SupplierEvent
from fulfillment.models import SupplierGate, SupplierStock
from fulfillment.tasks import drain_reservations, look_at_stock, watch_funds
from fulfillment.tests.kinguin_wire import recorded
from fulfillment.tests.world import HOUR, age, finish, run
from orders import notifier
from orders.alerts import raise_alert
from orders.models import Approval, Notification, Order, OrderItem, Product
from orders.tasks import drain_mails, drain_notifications, housekeeping
from orders.tests import test_bounces as bounces
from orders.tests.factories import make_order, make_product
from orders.tests.test_notifications import running_receiver
from payments import coins, overpaid, settlement
from payments.choices import ReviewReason
from payments.creation import start_payment
from payments.ipn import IpnHint
from payments.models import Coin, Payment
from payments.sync import handle_ipn, watch
from payments.tasks import drain_payments
from payments.tests.decisions import HALF, money_in
from payments.tests.factories import make_coin, make_payment, on_read, url
from payments.tests.test_unanswered import NOT_FOUND, REFUSED_KEY
from storage.downloads import report_download
from storage.models import Key, KeyDeliveryLog
from storage.services import reveal, shred, upload
from storage.tests.conftest import use_store
from storage.tests.factories import OPENER, claim, make_key
from storage.tests.s3stub import running_stub
from webhooks.models import WebhookLog
from webhooks.services import HANDLERS
from webhooks.tasks import drain_webhooks, look_for_silence
from webhooks.tests.factories import ipn, make_log, sign

pytestmark = [pytest.mark.django_db, pytest.mark.once]
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
def refund_what_covers_less(staff):
    order = breaks.paid_without_money()
    staff.sees()
    staff.decides(order, "Hold")
    staff.decides(order.payments.get(), "Refund all")
    staff.pays_back(order)
    return order, "refunded"


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
    payment = ledgers.paying(order, "review", actually_paid=Decimal("0.24"))
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


@row("difference:refunded_without_refund")
def finish_a_refund_that_was_only_sent(staff):
    order = breaks.refunded_but_only_sent()
    staff.sees()
    staff.decides(order.refunds.get(), "Mark as done")
    return order, "refunded"


@row("difference:cost_above_cap", "alert:cost_above_cap")
def accept_a_cost_above_the_cap(staff):
    order = breaks.cost_above_cap()
    raise_alert("cost_above_cap", ledgers.reservation_of(order), "It cost more.", order=order)
    staff.sees()
    staff.closes("cost_above_cap")
    return order, "fulfilled"


@row("difference:key_for_unpaid_order")
def shred_the_keys_of_an_unpaid_order(staff):
    order = breaks.key_for_unpaid_order()
    put_ended(order)
    staff.sees()
    for key in Key.objects.filter(item__order=order):
        staff.decides(key, "Shred")
    return order, "cancelled"


def put_ended(order):
    """Its customer never paid, so nothing is being delivered."""
    ledgers.put(order, status="cancelled")


STAYS = {
    "fulfilled_undelivered": breaks.fulfilled_undelivered,
    "wrong_number_of_keys": breaks.key_too_many,
    "delivered_without_purchase": breaks.delivered_without_purchase,
    "bought_twice": breaks.bought_twice,
    "permit_open": breaks.permit_open,
    "refunded_too_much": breaks.refunded_too_much,
}


def acknowledge_what_stays(staff, *, break_it):
    order = break_it()
    staff.sees()
    acknowledges(differences(Scope()))
    return order, order.status


for its_kind, its_break in STAYS.items():
    row(f"difference:{its_kind}")(partial(acknowledge_what_stays, break_it=its_break))


def acknowledges(found_now):
    (difference,) = found_now
    call_command("acknowledge_difference", difference.kind, difference.external_id, "--reason", "Settled with them.")


# --- differences with the providers


def asked():
    answers = provider_checks.ask_nowpayments(Scope()), provider_checks.ask_supplier(Scope())
    return list(unacknowledged(difference for answer in answers for difference in answer.differences))


def asks(staff):
    """Ask both providers, as `reconcile --ask` does."""
    kinds = {f"provider:{difference.kind}" for difference in asked()}
    staff.seen |= kinds
    return kinds


@row("provider:payment_differs")
def read_a_payment_that_differs(staff):
    sandbox = staff.supplier()
    sandbox.control("config", {"step_ms": 0})
    coins.refresh()
    payment = start_payment(order=make_order(), coin=Coin.objects.filter(is_offered=True).first().code)
    pay_silently(sandbox, payment)
    assert asks(staff)
    staff.decides(payment, "Read again at the provider")
    look(payment)
    assert "provider:payment_differs" not in asks(staff)
    return payment.order, "paid"


def delivered_at_the_sandbox(staff):
    """A delivered reservation; what other tests bought at the sandbox was long ago."""
    staff.supplier()
    with closing(sqlite3.connect(settings.VAR_DIR / "sandbox.sqlite3", timeout=10)) as theirs, theirs:
        theirs.execute("UPDATE purchase SET created = created - 5184000")
    reservation = finish(staff.reservation())
    # Its payment is none of NOWPayments'.
    reservation.item.order.payments.update(created_at=Now() - timedelta(days=60))
    return reservation


@row("provider:purchase_without_order")
def acknowledge_a_purchase_without_order(staff):
    reservation = delivered_at_the_sandbox(staff)
    lost = str(uuid.uuid4())
    buy_again(reservation, lost)
    assert asks(staff)
    purchase = kinguin.client().find(lost).order_id
    call_command("acknowledge_purchase", purchase, "--reason", "Returned at Kinguin.")
    assert asks(staff) == set()
    return reservation.item.order, "fulfilled"


@row("provider:bought_not_adopted", "provider:bought_unknown_to_us")
def adopt_what_is_there(staff):
    order = None
    for status, remedy in (("unknown", "press"), ("pending", "adopt")):
        reservation = delivered_at_the_sandbox(staff)
        order = reservation.item.order
        KeyDeliveryLog.objects.filter(key__item=reservation.item).delete()
        Key.objects.filter(item=reservation.item).delete()
        reservation.permits.all().delete()
        ledgers.put(order, status="fulfilling")
        unknown_at = Now() if status == "unknown" else None
        age(reservation, status=status, supplier_order_id=None, unknown_at=unknown_at, next_attempt_at=Now())
        assert asks(staff)
        if remedy == "press":
            staff.decides(reservation, "Search at the supplier")
        else:
            with pytest.raises(CommandError):
                call_command("reconcile", "--ask", "--adopt")
        finish(reservation)
        assert asks(staff) == set()
    return order, "fulfilled"


def paid_at_the_sandbox(staff):
    sandbox = staff.supplier()
    sandbox.control("config", {"step_ms": 0})
    coins.refresh()
    payment = start_payment(order=make_order(), coin=Coin.objects.filter(is_offered=True).first().code)
    pay_silently(sandbox, payment)
    look(payment)
    return sandbox, payment


def the_purchase(reservation, **fields):
    """The supplier's order is another than our rows say."""
    age(reservation, **fields)


def settled_elsewhere(staff, *, change):
    """A delivered purchase of which the supplier says something else; staff settle it with them."""
    reservation = delivered_at_the_sandbox(staff)
    change(reservation)
    assert asks(staff)
    acknowledges(asked())
    assert asks(staff) == set()


SETTLED_ELSEWHERE = {
    "unknown_at_supplier": partial(the_purchase, supplier_order_id="NOSUCHORDER"),
    "foreign_purchase": lambda reservation: the_purchase(reservation, external_id=str(uuid.uuid4())),
    "cost_differs": partial(the_purchase, cost=Decimal("1.00")),
    "surplus_purchase": partial(the_purchase, supplier_order_id=None, manual=True),
}
for its_kind, its_change in SETTLED_ELSEWHERE.items():
    row(f"provider:{its_kind}")(partial(settled_elsewhere, change=its_change))


@row("provider:purchase_not_ended")
def deliver_what_was_given_up(staff):
    settled_elsewhere(staff, change=partial(the_purchase, status="cancelled", reason="canceled"))
    # Our own rows contradict each other by now, too.
    acknowledges(differences(Scope()))


@row("provider:surplus_keys")
def acknowledge_a_key_that_was_returned(staff):
    def lose_the_key(reservation):
        KeyDeliveryLog.objects.filter(key__item=reservation.item).delete()
        Key.objects.filter(item=reservation.item).delete()

    settled_elsewhere(staff, change=lose_the_key)
    # Our own rows miss it, too.
    acknowledges(differences(Scope()))


@row("provider:taken_back_after_delivery")
def acknowledge_a_key_that_still_works(staff):
    sandbox = staff.supplier()
    settled_elsewhere(staff, change=lambda reservation: sandbox.control(f"orders/{reservation.external_id}/refund", {}))


@row("provider:purchase_ended")
def run_a_purchase_that_they_ended(staff):
    sandbox = staff.supplier()
    sandbox.control("config", {"deliver": "manual"})
    reservation = run(staff.reservation())
    reservation.item.order.payments.update(created_at=Now() - timedelta(days=60))
    sandbox.control(f"orders/{reservation.external_id}/cancel", {})
    assert asks(staff)
    staff.decides(reservation, "Run now")
    run(reservation)
    staff.closes("reservation")
    staff.pays_back(reservation.item.order)
    return reservation.item.order, "refunded"


@row("provider:unknown_at_nowpayments")
def acknowledge_a_payment_of_another_key(staff):
    _, payment = paid_at_the_sandbox(staff)
    Payment.objects.filter(pk=payment.pk).update(external_id="1234567")
    assert asks(staff)
    acknowledges(asked())
    assert asks(staff) == set()


@row("provider:coins_differ")
def read_again_how_many_coins_came(staff):
    sandbox, payment = paid_at_the_sandbox(staff)
    more = {"status": "finished", "silent": True, "actually_paid": str(payment.actually_paid * 2)}
    sandbox.control(f"payments/{payment.external_id}/status", more)
    assert asks(staff)
    staff.decides(payment, "Read again at the provider")
    look(payment)
    staff.decides(payment, "Refund the surplus")
    assert asks(staff) == set()
    return payment.order, "paid"


@row("provider:child_unknown")
def have_an_ipn_sent_again(staff):
    sandbox, payment = paid_at_the_sandbox(staff)
    sandbox.pay(payment.external_id, mode="repeat", silent=True)
    assert asks(staff)
    child = next(one["payment_id"] for one in sandbox.control("state?limit=500")["payments"] if
                 str(one["parent_payment_id"]) == payment.external_id)  # fmt: skip
    handle_ipn(IpnHint(str(child), "finished", str(payment.order_id), payment.external_id))
    staff.decides(Payment.objects.get(external_id=child), "Refund all")
    assert asks(staff) == set()
    return payment.order, "paid"


@row("provider:finished_here_only")
def refund_money_that_may_not_be_there(staff):
    sandbox, payment = paid_at_the_sandbox(staff)
    sandbox.control(f"payments/{payment.external_id}/status", {"status": "failed", "silent": True})
    assert asks(staff)
    staff.decides(payment.order, "Hold")
    acknowledges(asked())
    staff.decides(payment.order, "Let it continue")
    assert asks(staff) == set()
    return payment.order, "fulfilling"


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


@row("review:create_mismatch", "review:bound_twice", "review:no_amount", "review:nothing_paid")
def end_a_payment_without_coins(staff):
    order = None
    for reason in ("create_mismatch", "bound_twice", "no_amount", "nothing_paid"):
        payment = money_in(reason=reason, actually_paid=Decimal(0))
        order = payment.order
        if reason in ("no_amount", "nothing_paid"):
            order.hold(reason=reason, message="The payment needs a manual review.")
        settlement.alert(order, payment, reason)
        staff.sees()
        staff.decides(payment, "End this payment")
        assert state(order) == "pending", reason
    return order, "pending"


CONTRADICTIONS = (
    "partially_paid_after_finished", "expired_after_finished", "failed_after_finished", "cancelled_after_finished"
)  # fmt: skip


@row(*(f"review:{reason}" for reason in CONTRADICTIONS))
def look_for_the_coins_of_a_finished_payment(staff):
    order = ledgers.paid_order()
    for reason in CONTRADICTIONS:
        settlement.alert(order, order.payments.get(), reason)
        staff.sees()
        staff.closes("payment_review")
    staff.decides(order, "Hold")
    staff.decides(order, "Let it continue")
    return order, "fulfilling"


@row("review:child_unreadable")
def have_the_ipn_of_a_second_deposit_sent_again(staff):
    order = ledgers.paid_order()
    settlement.alert(order, order.payments.get(), "child_unreadable")
    staff.sees()
    staff.closes("payment_review")
    return order, "paid"


@row("review:refunded")
def end_an_order_whose_coins_the_provider_sent_back(staff):
    payment = make_payment()
    for status in ("finished", "refunded"):
        with responses.RequestsMock() as wire:
            on_read(wire, payment, status)
            look(payment)
    assert state(payment.order) == "held"
    staff.sees()
    staff.decides(payment.order, "Give the money back")
    return payment.order, "refunded"


# The order that such money came for.
MONEY_FOR = {
    "child_payment": "pending",
    "not_created_by_us": "pending",
    "order_held": "held",
    "order_cancelled": "cancelled",
    "order_failed": "failed",
    "order_refund_due": "refund_due",
    "order_refunded": "refunded",
    "order_not_covered": "underpaid",
    "other_order": "pending",
    "other_price_currency": "pending",
    "late_rate": "expired",
    "other_payment": "held",
    "finished_after_failed": "held",
    "finished_after_cancelled": "held",
    "finished_after_refunded": "held",
    "finished_after_review": "held",
    "partially_paid_after_failed": "held",
    "partially_paid_after_cancelled": "held",
    "expired_with_money": "held",
    "failed_with_money": "held",
    "cancelled_with_money": "held",
    "not_finished": "held",
    "partially_paid_other_payment": "held",
    "partially_paid_child_payment": "held",
    "partially_paid_other_order": "held",
    "partially_paid_not_created_by_us": "held",
    "partially_paid_other_price_currency": "held",
    "partially_paid_other_price": "held",
    "partially_paid_other_coin": "held",
}


def refund_what_is_in_review(staff, *, reason, status):
    payment = money_in(make_order(status=status), reason=reason)
    settlement.alert(payment.order, payment, reason)
    staff.sees()
    staff.decides(payment, "Refund all")
    staff.pays_back(payment.order)
    return payment.order, "refunded"


for its_reason, its_status in MONEY_FOR.items():
    row(f"review:{its_reason}")(partial(refund_what_is_in_review, reason=its_reason, status=its_status))


@row("alert:refund_to_send")
def send_a_refund(staff):
    order = ledgers.paid_order()
    staff.decides(order, "Give the money back")
    staff.pays_back(order)
    return order, "refunded"


# --- money, more


@row("alert:approval_waiting")
def approve_what_a_colleague_asks_for(staff):
    payment = money_in(make_order(status="underpaid"), "partially_paid", actually_paid=Decimal("0.00000001"))
    staff.asks_a_second_for(payment, "Accept as paid")
    staff.sees()
    colleague = staff.colleague()
    colleague.decides(Approval.objects.get(), "Approve")
    colleague.closes("accepted_below_price")
    return payment.order, "paid"


@row("alert:overpaid")
def refund_a_surplus(staff):
    order = ledgers.paid_order()
    payment = ledgers.put(order.payments.get(), actually_paid=Decimal("0.5"))
    overpaid.notice(order, payment, arrived=payment.actually_paid)
    staff.sees()
    staff.decides(payment, "Refund the surplus")
    staff.pays_back(order)
    return order, "paid"


@row("alert:refund_of_delivered")
def look_at_a_refund_of_delivered_keys(staff):
    order = ledgers.delivered_order()
    staff.asks_a_second_for(order.payments.get(), "Refund all")
    staff.colleague().decides(Approval.objects.get(), "Approve")
    staff.sees()
    staff.closes("refund_of_delivered")
    staff.pays_back(order)
    return order, "fulfilled"


def look(payment):
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=Now())
    [claimed] = Payment.objects.all().claim(only=payment.pk)
    watch(claimed)
    payment.refresh_from_db()


def unreadable(staff, **answer):
    """A payment about which NOWPayments answers this for a quarter of an hour, and then as it should."""
    payment = make_payment()
    with responses.RequestsMock() as wire:
        wire.get(url(f"/payment/{payment.external_id}"), **answer)
        look(payment)
        Payment.objects.update(unread_since=F("unread_since") - timedelta(minutes=16))
        look(payment)
        staff.sees()
    with responses.RequestsMock() as wire:
        on_read(wire, payment)
        staff.decides(payment, "Read again at the provider")
        look(payment)
    return payment.order, "paid"


@row("alert:payment_unreadable", "difference:payment_unread")
def read_nonsense_again(staff):
    return unreadable(staff, body=b"<html>")


@row("alert:payment_refused")
def read_a_refused_payment_again(staff):
    return unreadable(staff, **NOT_FOUND)


@row("alert:payments_down")
def wait_for_nowpayments(staff):
    return unreadable(staff, status=503)


@row("alert:provider_credentials")
def correct_the_key(staff):
    return unreadable(staff, **REFUSED_KEY)


@row("alert:payment_poison")
def read_a_poisonous_payment_again(staff):
    payment = make_payment()
    Payment.objects.filter(pk=payment.pk).update(crashes=3, next_attempt_at=Now())
    drain_payments()
    staff.sees()
    with responses.RequestsMock() as wire:
        on_read(wire, payment)
        staff.decides(payment, "Read again at the provider")
        look(payment)
    return payment.order, "paid"


@row("alert:payment_unknown_status")
def accept_an_unknown_status(staff):
    payment = make_payment()
    with responses.RequestsMock() as wire:
        on_read(wire, payment, "waiting", payment_status="thinking")
        look(payment)
    staff.sees()
    with responses.RequestsMock() as wire:
        on_read(wire, payment)
        look(payment)
    return payment.order, "paid"


@row("alert:coins_unread")
def wait_for_the_list_of_coins(staff):
    make_coin("btc")
    Coin.objects.update(refreshed_at=Now() - timedelta(minutes=26))
    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        wire.get(url("/merchant/coins"), body=b"<html>")
        wire.get(url("/full-currencies"), json={"currencies": []})
        coins.refresh_if_stale()
        staff.sees()
    staff.fixture("sandbox")
    coins.refresh_if_stale()


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


# --- keys, mails, webhooks


class Server(EmailBackend):
    """The mail server, which refuses the first address that the customer gave."""

    def send_messages(self, messages):
        for message in messages:
            if "wrong" in message.to[0]:
                raise smtplib.SMTPRecipientsRefused({message.to[0]: (550, b"no such user")})
        return super().send_messages(messages)


@row("alert:mail_failed")
def correct_the_address(staff):
    staff.fixture("settings").EMAIL_BACKEND = f"{__name__}.Server"
    order = make_order(email="wrong@example.org")
    drain_mails()
    staff.sees()
    staff.decides(order, "Correct the e-mail address", email="right@example.org")
    drain_mails()
    return order, "pending"


@row("alert:mail_bounced")
def correct_the_address_that_mails_come_back_from(staff):
    bounces.use_postmark(staff.fixture("settings"))
    wire = staff.fixture_of(responses.RequestsMock(assert_all_requests_are_fired=False))
    wire.post(bounces.API, json=bounces.ACCEPTED)
    order = make_order(email="wrong@example.org")
    drain_mails()
    bounces.tell(staff.anybody(), bounces.event(order.emails.get()))
    staff.sees()
    staff.decides(order, "Correct the e-mail address", email="right@example.org")
    drain_mails()
    return order, "pending"


@row("alert:webhook_failed")
def mend_and_replay(staff):
    order = make_order()
    log = make_log(body=ipn())

    def work(handler):
        with mock.patch.dict(HANDLERS, nowpayments=handler):
            WebhookLog.objects.exclude(next_attempt_at=None).update(next_attempt_at=Now())
            drain_webhooks()

    def broken(log):
        raise ZeroDivisionError("a bug")

    def mended(log):
        make_payment(order, "finished")
        order.mark_paid(message="Paid.")
        return Outcome.processed("paid")

    for _ in range(10):
        work(broken)
    staff.sees()
    staff.decides(log, "Replay: run the handler again")
    work(mended)
    return order, "paid"


def at_a_store_that_fails(staff):
    stub = staff.fixture_of(running_stub())
    return stub, use_store(staff.fixture("settings"), "r2.R2Storage", stub.options)


@row("alert:object_store")
def wait_for_the_object_store(staff):
    stub, _ = at_a_store_that_fails(staff)
    key = make_key()
    stub.fail("PUT", *["403"] * 5)
    for _ in range(5):
        upload(claim(key))
    staff.sees()
    upload(claim(key))
    shred(key, reason="The order of this test was never paid.")


@row("alert:key_integrity")
def add_a_missing_master_key(staff):
    at_a_store_that_fails(staff)
    key, settings = make_key(), staff.fixture("settings")
    old, settings.KEY_ENCRYPTION_SECRET = settings.KEY_ENCRYPTION_SECRET, "z" * 43
    upload(claim(key))
    staff.sees()
    settings.KEY_ENCRYPTION_SECRET_FALLBACKS = [old]
    upload(claim(key))
    key.refresh_from_db()
    assert key.status == "stored"
    staff.closes("key_integrity")
    shred(key, reason="The order of this test was never paid.")


def handed_out(**fields):
    key = make_key()
    reveal(order=key.item.order, keys=[key], by=OPENER)
    Key.objects.filter(pk=key.pk).update(**fields)
    return key


def reports(key, result):
    report_download(order=key.item.order, key_id=key.pk, result=result)


@row("alert:key_not_opened")
def wait_until_the_key_opens(staff):
    key = handed_out()
    reports(key, "not_opened")
    staff.sees()
    reports(key, "opened")
    shred(key, reason="The order of this test was never paid.")


@row("alert:browser_download")
def set_the_cors_rule(staff):
    at_a_store_that_fails(staff)
    key = handed_out(status="stored", ciphertext=None)
    reports(key, "opened_from_shop")
    staff.sees()
    reports(key, "opened")
    shred(key, reason="The order of this test was never paid.")


@row("alert:ipn_other_order")
def look_the_payment_up(staff):
    payment, other = make_payment(), make_order()
    with responses.RequestsMock() as wire:
        on_read(wire, payment)
        handle_ipn(IpnHint(payment.external_id, "finished", str(other.pk), ""))
    staff.sees()
    staff.closes("ipn_other_order")
    return payment.order, "paid"


@row("alert:webhooks_refused")
def enter_both_secrets(staff):
    settings, order = staff.fixture("settings"), make_order()
    body, theirs = ipn(order_id=str(order.pk)), "the new one, of their dashboard"
    signed = {"x-nowpayments-sig": sign(body, theirs)}

    def post():
        return staff.anybody().post("/api/payments/ipn", body, content_type="application/json", headers=signed)

    assert {post().status_code for _ in range(10)} == {401}
    watchdog.look()
    staff.sees()
    settings.NOWPAYMENTS_IPN_SECRET = (*settings.NOWPAYMENTS_IPN_SECRET, theirs)
    assert post().status_code == 200
    staff.closes("webhooks_refused")


@row("alert:work_late")
def restart_the_worker_that_hangs(staff):
    Presence().note()
    order = make_order()
    order.emails.create(kind="order_received", to=order.email, next_attempt_at=Now() - timedelta(minutes=6))
    watchdog.look()
    staff.sees()
    drain_mails()
    watchdog.look()


@row("alert:sweep_late")
def start_beat(staff):
    assert list(sweeps.late()) == []  # a store that has just started is given time
    Sweep.objects.update(ended_at=Now() - timedelta(days=1))
    watchdog.look()
    staff.sees()
    for task in {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}:
        sweeps.ended(task)
    watchdog.look()


@row("alert:certificate")
def renew_the_certificate(staff):
    serve = staff.fixture("tls")
    serve(days=3)
    look_around()
    staff.sees()
    serve(days=60)
    look_around()


@row("alert:backup_late")
def make_a_backup(staff):
    settings, folder = staff.fixture("settings"), staff.fixture("tmp_path")
    settings.BACKUP_SECRET, settings.BACKUP_TARGET = "b" * 43, str(folder)
    old = folder / "bitloot-20260101T000000Z.backup"
    old.touch()
    look_around()
    staff.sees()
    old.rename(folder / new_name())
    look_around()


@row("alert:disk_full")
def make_room(staff):
    def has(free):
        usage = namedtuple("usage", "total used free")(100, 100 - free, free)
        staff.fixture("monkeypatch").setattr("shutil.disk_usage", lambda _: usage)

    has(free=4)
    look_around()
    staff.sees()
    has(free=10)
    look_around()
    assert "alert:disk_full" in open_alerts()  # it would fill up again at once
    has(free=20)
    look_around()


@row("alert:alert_undelivered")
def correct_the_channel(staff):
    receiver, settings = staff.fixture_of(running_receiver()), staff.fixture("settings")
    settings.ALERT_URL = (receiver.url(),)
    receiver.status = 500
    raise_alert("staff_locked", "staff sign-in", "Look at it.")
    Notification.objects.update(attempts=notifier.MAX_ATTEMPTS - 1)
    drain_notifications()
    staff.sees()
    receiver.status = 200
    call_command("test_alert")
    staff.closes("alert_undelivered")
    staff.closes("staff_locked")


@row("alert:endpoint_off")
def switch_an_endpoint_on(staff):
    staff.fixture("settings").WEBHOOKS_TO_LOOPBACK = True
    receiver, order = staff.fixture_of(partner()), make_order()
    endpoint = make_endpoint(receiver.url)
    Order.objects.update(placed_with=endpoint.api_key_id)
    order.refresh_from_db()
    receiver.status = 410
    order.expire()
    drain_outgoing_webhooks()
    staff.sees()
    receiver.status = 200
    staff.decides(endpoint, "Switch on again")
    staff.decides(endpoint, "Send a test event")
    staff.decides(OutgoingWebhook.objects.get(order=order), "Send again")
    drain_outgoing_webhooks()
    assert {event["type"] for event in receiver.opened(secret_of(endpoint))} == {"webhook.test", "order.expired"}


@row("alert:no_worker")
def start_the_worker_that_is_gone(staff):
    order = make_order()  # its mail waits
    order.emails.update(next_attempt_at=Now() - HOUR)
    WorkerSeen.objects.create(host="web1", pid=7, version="1", queues="orders", seen_at=Now() - HOUR)
    housekeeping()
    staff.sees()
    Presence().note()
    drain_mails()
    housekeeping()


@row("alert:staff_locked")
def look_at_the_sign_ins(staff):
    for _ in range(12):
        staff.anybody().post("/admin/login/", {"username": "guess", "password": "wrong"})
    staff.sees()
    staff.closes("staff_locked")


# --- the runbook as a whole

# What stands in quotation marks and is no button.
NO_BUTTONS = {"finished", "mail server"}
# Rows whose remedy no test carries out.
UNREACHABLE = {
    "difference:two_for_one_purchase": "a constraint of the database forbids it",
}


# What a remedy leaves, because it is a decision of its own.
LEFT = {accept_what_is_in_review: {"alert:accepted_below_price", "difference:accepted_below_price"}}


def test_each_row_has_a_scenario():
    names = [name for name, _ in rows()]
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert set(names) ^ (set(SCENARIOS) | set(UNREACHABLE)) == set()
    assert not set(SCENARIOS) & set(UNREACHABLE)


def test_each_reason_of_a_review_stands_in_the_runbook():
    named = {name.removeprefix("review:") for name, _ in rows() if name.startswith("review:")}
    assert named == set(ReviewReason) - {ReviewReason.NO_ANSWER, ReviewReason.REFUSED, ReviewReason.ACCEPTED}


def test_each_button_that_the_runbook_names_exists():
    pages = [admin.site.get_model_admin(model) for model in admin.site._registry]
    labels = {one.label for page in pages for one in getattr(page, "decisions", ())}
    labels |= {label.partition(":")[0] for label in labels}  # “Replay: run the handler again”
    named = {name for _, to_do in rows() for name in re.findall("“([^”]+)”", to_do)}
    assert named - labels - NO_BUTTONS == set()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_remedy_closes_the_alert_and_ends_the_order(name, request):
    staff = Operator(request)
    ended = SCENARIOS[name](staff)
    assert name in staff.seen
    assert {*open_alerts(), *(f"difference:{kind}" for kind in found())} <= LEFT.get(SCENARIOS[name], set())
    if ended is not None:
        order, status = ended
        order.refresh_from_db()
        assert order.status == status

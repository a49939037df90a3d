"""Scenarios of the runbook: payments, refunds and the provider of payments."""

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from functools import partial

import responses
from django.db.models import F
from django.db.models.functions import Now

from bitloot.accounting.tests import ledgers
from bitloot.accounting.tests import test_checks as breaks
from bitloot.tests.runbook import row, state
from bitloot.tests.test_doctor import tls  # noqa: F401
from orders.models import Approval
from orders.tests.factories import make_order
from payments import coins, creation, overpaid, settlement
from payments.exceptions import NoAnswer
from payments.models import Coin, Payment
from payments.sync import watch
from payments.tasks import drain_payments
from payments.tests.decisions import HALF, money_in
from payments.tests.factories import make_coin, make_payment, on_create, on_read, url
from payments.tests.test_unanswered import NOT_FOUND, REFUSED_KEY


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
    return odd_at_first(staff, payment_status="thinking")


@row("alert:other_address")
def ask_which_address_is_right(staff):
    return odd_at_first(staff, pay_address="bc1" + "p" * 39)


def odd_at_first(staff, **answer):
    """Read a payment of which the provider says something odd, which it does not say the next time."""
    payment = make_payment()
    with responses.RequestsMock() as wire:
        on_read(wire, payment, "waiting", **answer)
        look(payment)
    staff.sees()
    with responses.RequestsMock() as wire:
        on_read(wire, payment)
        look(payment)
    return payment.order, "paid"


@row("alert:payments_not_made")
def make_payments_again(staff):
    make_coin("btc")
    order = make_order()
    with responses.RequestsMock() as wire:
        wire.post(url("/payment"), status=400, json={"code": "INVALID_REQUEST_PARAMS", "message": "not a valid uri"})
        for _ in range(3):
            with suppress(NoAnswer):
                creation.start_payment(order=order, coin="btc")
    staff.sees()
    with responses.RequestsMock() as wire:
        on_create(wire)
        creation.start_payment(order=order, coin="btc")
    return order, "pending"


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

"""Payments that staff review: our numbers beside the provider's, the reason in words, and what staff may decide."""

from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused, ReasonForm, demand
from bitloot.core.money import plain
from orders.alerts import close_alert
from orders.choices import AlertKind
from orders.models import Email, Order
from orders.services import queue_email
from payments.balance import amount_due
from payments.choices import ReviewReason
from payments.models import Payment

ACCEPTABLE = (Payment.Status.REVIEW, Payment.Status.PARTIALLY_PAID)
TAKES_MONEY = (Order.Status.PENDING, Order.Status.UNDERPAID, Order.Status.EXPIRED, Order.Status.HELD)
HAS_REFUND = "This payment has a refund already; look at it."


def objection_to_acceptance(payment: Payment) -> str | None:
    order = payment.order
    if payment.status not in ACCEPTABLE:
        return f"A payment in “{payment.status}” cannot be accepted."
    if payment.actually_paid <= 0:
        return "The provider reports no coins for this payment. Read it again first."
    if order.status not in TAKES_MONEY or order.paid_at is not None:
        return f"The order is “{order.status}” and takes no more money; refund this payment."
    return HAS_REFUND if payment.refunds.exists() else None


def accept_as_paid(payment: Payment, *, actor: str, reason: str) -> None:
    """Let an order count as paid though the rule objects: staff looked at the evidence and take it on.

    Locks the order, then the payment. Raises DecisionRefused.
    """
    demand_reason(reason)
    with transaction.atomic():
        order, payment = payment.order.lock(), payment.lock()
        payment.order = order  # the locked row, for the objection as well
        demand(objection_to_acceptance(payment))
        message = "Our staff accepted the payment."
        order.note("staff", f"Accepted as paid: {reason}"[:300], actor=actor)
        payment.move(
            Payment.Status.FINISHED, message=message, actor=actor, finished_at=Now(), reason=ReviewReason.ACCEPTED
        )
        order.mark_paid(message=message, actor=actor)
        queue_email(order, Email.Kind.PAYMENT_RECEIVED)
    close_alert(AlertKind.PAYMENT_REVIEW, payment, by=actor)


def objection_to_asking(payment: Payment) -> str | None:
    if payment.status != Payment.Status.PARTIALLY_PAID or payment.order.status != Order.Status.UNDERPAID:
        return "Only an underpaid order can be asked for the rest."
    return HAS_REFUND if payment.refunds.exists() else None


def ask_for_rest(payment: Payment, *, actor: str) -> None:
    """Write to the customer once more that a part is missing; their page lets them pay it. Raises DecisionRefused."""
    with transaction.atomic():
        order, payment = payment.order.lock(), payment.lock()
        payment.order = order
        demand(objection_to_asking(payment))
        order.note("staff", "The customer was asked for the rest.", actor=actor)
        sentence = f"A part of your payment is missing: {amount_due(order)} {order.currency}."
        queue_email(order, Email.Kind.PROBLEM, reason=f"{sentence} Open your order to pay it, or write to us.")
    close_alert(AlertKind.PAYMENT_REVIEW, payment, by=actor)


def demand_reason(reason: str) -> None:
    if len(reason.strip()) < 5:
        raise DecisionRefused("Say why, in a few words: it is kept with the decision.")


@dataclass(frozen=True)
class Comparison:
    what: str
    ours: str
    theirs: str
    differs: str = ""  # in words; nothing if the two agree


def compare(payment: Payment) -> list[Comparison]:
    """Set what we asked for beside what the provider said when it was last re-read; nothing before that."""
    said = payment.evidence
    if not said:
        return []
    arrived = f"{said.get('paid', '')} {_coin(said.get('asked', ''))}".strip()
    asked = "–" if payment.pay_amount is None else f"{plain(payment.pay_amount)} {payment.pay_currency}"
    return [
        _same("order", str(payment.order_id), said.get("order_id", "")),
        _same("price", f"{plain(payment.price_amount)} {payment.price_currency.lower()}", said.get("price", "")),
        _same("asked", asked, said.get("asked", "")),
        Comparison("arrived", asked, arrived, _shortfall(payment)),
        Comparison("state", payment.status, said.get("status", ""), _state(said.get("status"))),
        Comparison("payment it belongs to", payment.parent_external_id or "–", said.get("parent") or "–",
             "a child of another payment" if said.get("parent") else ""),
    ]  # fmt: skip


def _same(what: str, ours: str, theirs: str) -> Comparison:
    return Comparison(what, ours, theirs or "–", "" if ours == theirs else "differs")


def _state(status: str | None) -> str:
    return "" if status == "finished" else "not finished"


def _coin(amount: str) -> str:
    return amount.rpartition(" ")[2]


def _shortfall(payment: Payment) -> str:
    if not payment.pay_amount:
        return "nothing to compare it with"
    share = payment.actually_paid / payment.pay_amount
    if share < 1 - settings.PAYMENT_TOLERANCE:
        return f"too little: {share:.1%}"
    return f"too much: {share:.1%}" if share > 1 + settings.PAYMENT_TOLERANCE else ""


ACCEPT = Decision(
    name="accept",
    label="Accept as paid",
    permission="orders.settle_order",
    objection=objection_to_acceptance,
    carry_out=accept_as_paid,
    form=ReasonForm,
    consequence="The order counts as paid and its keys are bought, against the rule. This cannot be undone.",
    done="accepted. The order counts as paid, and its keys are bought now.",
)
ASK_FOR_REST = Decision(
    name="ask",
    label="Ask for the rest",
    permission="orders.settle_order",
    objection=objection_to_asking,
    carry_out=ask_for_rest,
    form=ConfirmForm,
    consequence="The customer gets a mail that names the missing amount; their page lets them pay it in any coin.",
    done="the customer is asked for the rest by mail.",
)

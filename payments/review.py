"""Payments that staff review: our numbers beside the provider's, the reason in words, and what staff may decide."""

from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused, ReasonForm, demand
from bitloot.core.money import plain
from orders.alerts import close_alert
from orders.models import Email, Order
from orders.services import queue_email
from payments.balance import amount_due
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
        payment.move(Payment.Status.FINISHED, message=message, actor=actor, finished_at=Now(), reason="accepted")
        order.mark_paid(message=message, actor=actor)
        queue_email(order, Email.Kind.PAYMENT_RECEIVED)
    close_alert("payment_review", str(payment), by=actor)


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
    close_alert("payment_review", str(payment), by=actor)


def demand_reason(reason: str) -> None:
    if len(reason.strip()) < 5:
        raise DecisionRefused("Say why, in a few words: it is kept with the decision.")


_WORDS = {
    "too_little": "Less than asked arrived. The customer was asked for the rest.",
    "partially_paid": "Less than asked arrived. The customer was asked for the rest.",
    "order_not_covered": "This payment and the parts before it do not make up the price.",
    "second_payment": "The order is paid already: this came on top of it.",
    "child_payment": "Coins came once more to an old address, or in another coin than the one asked for.",
    "not_created_by_us": "This payment was not made by us for this order: coins came to an old address.",
    "other_payment": "The provider answered about another payment.",
    "other_order": "The provider knows this payment for another order.",
    "other_price": "The provider knows another price than we asked for.",
    "other_price_currency": "The provider knows the price in another currency.",
    "other_coin": "The payment is in another coin than the one asked for.",
    "no_amount": "The provider's amounts are none that can be compared.",
    "nothing_paid": "The provider says finished, and that nothing was paid.",
    "create_mismatch": "When we made this payment the provider answered about another one.",
    "bound_twice": "The provider named a payment that another order has.",
    "unknown_status": "The provider uses a word for its state that we do not know.",
}


@dataclass(frozen=True)
class Comparison:
    what: str
    ours: str
    theirs: str
    differs: str = ""  # in words; nothing if the two agree


def in_words(reason: str) -> str:
    """Say what a reason code of a payment in review means."""
    if sentence := _WORDS.get(reason):
        return sentence
    for begin, sentence in (
        ("partially_paid_after_", "A part arrived for a payment that had ended: {}."),
        ("finished_after_", "The money arrived for a payment that had ended: {}."),
        ("order_", "The money arrived for an order that takes none any more: {}."),
    ):
        if reason.startswith(begin):
            return sentence.format(reason.removeprefix(begin).replace("_", " "))
    if reason.startswith("partially_paid_"):
        return f"A part arrived. {in_words(reason.removeprefix('partially_paid_'))}"
    if reason.endswith("_with_money"):
        return f"The provider ended the payment ({reason.removesuffix('_with_money')}) although coins had come."
    return reason.replace("_", " ").capitalize() + "."


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

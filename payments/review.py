"""Payments that staff review, and what they may decide about them."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_noop

from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused, ReasonForm, demand
from orders.alerts import close_alert, raise_alert
from orders.approvals import is_large
from orders.choices import AlertKind
from orders.decisions import status_before_hold
from orders.models import Email, Order
from orders.services import queue_email
from payments.balance import amount_due, worth_of
from payments.choices import ReviewReason
from payments.models import Payment
from payments.nowpayments import is_known_word

ACCEPTABLE = (Payment.Status.REVIEW, Payment.Status.PARTIALLY_PAID)
TAKES_MONEY = (Order.Status.PENDING, Order.Status.UNDERPAID, Order.Status.EXPIRED, Order.Status.HELD)
HAS_REFUND = "This payment already has a refund; look at that one."


def objection_to_acceptance(payment: Payment) -> str | None:
    order = payment.order
    # A word that we do not know moved nothing: such a payment may be accepted from where it stands.
    if payment.status not in ACCEPTABLE and is_known_word(payment.provider_status):
        return f"A payment in “{payment.status}” cannot be accepted."
    if payment.actually_paid <= 0:
        return "The provider reports no coins for this payment. Read it again first."
    if order.status not in TAKES_MONEY or order.paid_at is not None:
        return f"The order is “{order.status}” and takes no more money; refund this payment."
    return HAS_REFUND if payment.refunds.exists() else None


def acceptance_takes_two(payment: Payment, _fields: Mapping[str, Any]) -> bool:
    """Whether so much is missing that one member of staff may not waive it alone."""
    return is_large(payment.price_amount - worth_of(payment), total=payment.order.total)


def accept_as_paid(payment: Payment, *, actor: str, reason: str) -> None:
    """Let an order count as paid though the rule objects: staff looked at the evidence and take it on.

    Locks the order, then the payment. Raises DecisionRefused.
    """
    demand_reason(reason)
    with transaction.atomic():
        order, payment = payment.order.lock(), payment.lock()
        payment.order = order  # the locked row, for the objection as well
        demand(objection_to_acceptance(payment))
        message = gettext_noop("Our staff accepted the payment.")
        order.note("staff", f"Accepted as paid: {reason}"[:300], actor=actor)
        payment.move(
            Payment.Status.FINISHED,
            message=message,
            actor=actor,
            finished_at=Now(),
            reason=ReviewReason.ACCEPTED,
            credit=worth_of(payment),  # the ledger counts what arrived, not what was waived
        )
        if payment.credit < payment.price_amount:
            _tell_staff(order, payment, actor=actor, reason=reason)
        order.mark_paid(message=message, actor=actor)
        queue_email(order, Email.Kind.PAYMENT_RECEIVED)
    for kind in (AlertKind.PAYMENT_REVIEW, AlertKind.PAYMENT_UNKNOWN_STATUS):
        close_alert(kind, payment, by=actor)


def _tell_staff(order: Order, payment: Payment, *, actor: str, reason: str) -> None:
    worth = f"{payment.credit} of {payment.price_amount} {order.currency}"
    message = f"{actor} accepted {payment} below its price: {worth} arrived. Reason: {reason}"
    raise_alert(AlertKind.ACCEPTED_BELOW_PRICE, payment, message, order=order)


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
        queue_email(order, Email.Kind.UNDERPAID, missing=str(amount_due(order)))
    close_alert(AlertKind.PAYMENT_REVIEW, payment, by=actor)


def objection_to_ending(payment: Payment) -> str | None:
    if payment.status != Payment.Status.REVIEW:
        return "Only a payment in review can be ended."
    return "Coins arrived for it. Accept or refund them instead." if payment.actually_paid > 0 else None


def end(payment: Payment, *, actor: str, reason: str) -> None:
    """End a payment in review into which nothing was paid. Coins that come all the same bring it back to review.

    Locks the order, then the payment. Raises DecisionRefused.
    """
    with transaction.atomic():
        order, payment = payment.order.lock(), payment.lock()
        payment.order = order
        demand(objection_to_ending(payment))
        order.note("staff", reason, actor=actor)
        message = gettext_noop("Our staff ended this payment; nothing was paid into it.")
        held_for_it = order.status == Order.Status.HELD and order.reason == payment.reason
        payment.move(Payment.Status.CANCELLED, message=message, actor=actor, next_attempt_at=None)
        close_alert(AlertKind.PAYMENT_REVIEW, payment, by=actor)
        # Another payment in review is a reason of its own to hold the order.
        if held_for_it and order.paid_at is None and not order.payments.filter(status=Payment.Status.REVIEW).exists():
            order.undo_hold(to=status_before_hold(order), actor=actor)


def demand_reason(reason: str) -> None:
    if len(reason.strip()) < 5:
        raise DecisionRefused("Give a reason, in a few words: it is kept with the decision.")


ACCEPT = Decision(
    name="accept",
    label="Accept as paid",
    permission="payments.accept_payment",
    objection=objection_to_acceptance,
    carry_out=accept_as_paid,
    form=ReasonForm,
    needs_second=acceptance_takes_two,
    consequence="The order counts as paid and its keys are bought, against the rule. This cannot be undone.",
    done="accepted. The order counts as paid, and its keys are bought now.",
)
ASK_FOR_REST = Decision(
    name="ask",
    label="Ask for the rest",
    permission="payments.ask_for_rest",
    objection=objection_to_asking,
    carry_out=ask_for_rest,
    form=ConfirmForm,
    consequence="The customer gets a mail that names the missing amount; their page lets them pay it in any coin.",
    done="the customer is asked for the rest by mail.",
)

END = Decision(
    name="end",
    label="End this payment",
    permission="payments.end_payment",
    objection=objection_to_ending,
    carry_out=end,
    form=ReasonForm,
    consequence="The payment ends; nothing was paid into it. The customer chooses another coin on the order's page.",
    done="ended. The customer can pay with another coin; coins that still arrive for it go to manual review.",
)

"""How the store learns of a payment: an IPN or the sweep names it, and the provider is asked for the truth."""

import dataclasses
import logging
import uuid
from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from bitloot.core import queries
from bitloot.core.clock import delay
from bitloot.core.decisions import Decision, nothing_against
from bitloot.core.faults import failpoint
from bitloot.core.outcome import Outcome
from bitloot.core.providers import ProviderError, ProviderRejected, ProviderUnavailable
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Order
from payments.choices import ReviewReason
from payments.creation import UNANSWERED_FOR
from payments.exceptions import UnknownPayment
from payments.ipn import IpnHint
from payments.models import Payment
from payments.nowpayments import NowPaymentsClient, PaymentFacts, ProviderStatus
from payments.settlement import LOOK_AFTER_FINISH, alert, apply

logger = logging.getLogger(__name__)

WATCHED_FOR = timedelta(days=7, hours=6)


def handle_ipn(hint: IpnHint) -> Outcome:
    """Re-read the payment that an authentic IPN names and apply what the provider says; return what came of it.

    Raises UnknownPayment for a payment we may still be creating, and ProviderUnavailable.
    """
    known = queries.select(Payment, {"external_id": hint.payment_id}, join=("order",))
    if not known:
        return _handle_unbound(hint)
    payment = known[0]
    if hint.order_id and hint.order_id != str(payment.order_id):
        _alert_other_order(payment, payment.order)
    return Outcome.processed(refresh(payment))


def refresh(payment: Payment) -> str:
    """Ask the provider for this payment and apply the answer. Raises ProviderUnavailable."""
    if not payment.external_id:
        return "the provider has not named this payment yet"
    facts = _read(payment.external_id)
    failpoint("payment.read")
    if facts.status is ProviderStatus.FINISHED and payment.price_amount < payment.order.total:
        _reread_parts(payment)
    outcome = apply(payment, facts)
    failpoint("payment.applied")
    for child in facts.payment_extra_ids:
        _notice_child(payment, child)
    return outcome


def read_again(payment: Payment, *, actor: str = "") -> None:
    """Put the payment at the head of the queue, for staff who do not want to wait."""
    payment.wake()


def watch(payment: Payment) -> None:
    """Re-read one claimed payment whose turn has come: the road for IPNs that never arrive."""
    if payment.external_id is None:
        _end_unanswered(payment)
        return
    payment.order = queries.get(Order, payment.order_id)
    try:
        refresh(payment)
    except ProviderError as err:
        logger.warning("%s could not be re-read: %s", payment, err)
        payment.retry()
    else:
        payment.release(next_look(queries.get(Payment, payment.pk)), attempts=0)


def give_up(payment: Payment) -> None:
    """Let a payment that crashed its worker again and again rest for an hour, and tell staff."""
    raise_alert(
        AlertKind.PAYMENT_POISON,
        payment,
        f"Reading {payment} crashed the worker three times. Look at the log, then use “read again”.",
        order=payment.order,
    )
    payment.release(delay(3600))


def next_look(payment: Payment) -> timedelta | None:
    """Return when to re-read, or None once nothing can come of this payment any more."""
    age = payment.claimed_at - payment.created_at
    if payment.status in (Payment.Status.EXPIRED, Payment.Status.PARTIALLY_PAID):
        return delay(3600) if age < WATCHED_FOR else None
    if payment.status == Payment.Status.FINISHED and payment.finished_at is not None:
        later = delay(LOOK_AFTER_FINISH)
        return later if payment.claimed_at - payment.finished_at < later else None
    if payment.status not in Payment.OPEN:
        return None
    if age > WATCHED_FOR:
        return delay(6 * 3600)
    for limit, pause in ((1800, 30), (7200, 120), (86_400, 900)):
        if age < timedelta(seconds=limit):
            return delay(pause)
    return delay(3600)


def _end_unanswered(payment: Payment) -> None:
    """Close a creation that stayed without an answer: no address was ever shown, so nobody can have paid it."""
    if payment.claimed_at - payment.created_at < UNANSWERED_FOR:
        payment.release(UNANSWERED_FOR)
        return
    with transaction.atomic():
        payment.order.lock()
        if payment.lock().external_id is not None:
            payment.release(delay(0))  # an IPN named it just now
            return
        payment.release(None)
        payment.move(Payment.Status.EXPIRED, message="The provider never answered this payment's creation.")


def _handle_unbound(hint: IpnHint) -> Outcome:
    """An authentic IPN for a payment that no row of ours names: a creation without answer, a child, or a stranger."""
    try:
        orders = queries.select(Order, {"pk": uuid.UUID(hint.order_id)}) if hint.order_id else []
    except ValueError:
        orders = []
    order = orders[0] if orders else None
    parent = Payment.objects.filter(external_id=hint.parent_payment_id).first() if hint.parent_payment_id else None
    order = order or (parent.order if parent else None)
    if order is None:
        return Outcome.ignored("neither payment nor order is ours")
    facts = _read(hint.payment_id)
    if facts.order_id not in ("", str(order.pk)):
        _alert_other_order(f"NOWPayments payment {hint.payment_id}", order)
        return Outcome.ignored("the provider knows this payment for another order")
    return Outcome.processed(apply(_adopt(order, facts), facts))


def _alert_other_order(payment: Payment | str, order: Order) -> None:
    raise_alert(
        AlertKind.IPN_OTHER_ORDER,
        payment,  # by name where no row of ours has it
        f"An authentic IPN for {payment} names another order. Nothing was changed; check the provider's dashboard.",
        order=order,
    )


def _reread_parts(payment: Payment) -> None:
    """Ask for the parts that this payment completes: one may have gone back since we counted it."""
    parts = payment.order.payments.filter(status=Payment.Status.PARTIALLY_PAID).exclude(pk=payment.pk)
    for part in parts.exclude(external_id=None):
        apply(part, _read(str(part.external_id)))


def _notice_child(payment: Payment, child: str) -> None:
    """Take in a second deposit that the provider lists with its parent, in case its own IPN never comes."""
    if Payment.objects.filter(external_id=child).exists():
        return
    try:
        facts = dataclasses.replace(_read(child), parent_payment_id=str(payment.external_id))
    except ProviderUnavailable as err:
        logger.warning("a deposit beside %s could not be read: %s", payment, err)
        alert(payment.order, payment, ReviewReason.CHILD_UNREADABLE)
        return
    apply(_adopt(payment.order, facts), facts)


def _adopt(order: Order, facts: PaymentFacts) -> Payment:
    """Bind the payment to the creation that it answers, or open a row for staff if there is none."""
    with transaction.atomic():
        order = order.lock()
        bound = Payment.objects.filter(external_id=facts.payment_id).first()
        if bound is not None:
            return bound
        waiting = order.payments.filter(
            status=Payment.Status.CREATING, pay_currency=facts.pay_currency, price_amount=facts.price_amount
        )
        if not facts.parent_payment_id and (payment := waiting.order_by("created_at").first()) is not None:
            if waiting.filter(pk=payment.pk, reason="", created_at__gt=Now() - timedelta(seconds=30)).exists():
                raise UnknownPayment("our own call has not returned yet")
            had_trouble = payment.reason != ""
            payment.move(
                Payment.Status.WAITING, message="An IPN named this payment.", external_id=facts.payment_id,
                pay_amount=facts.pay_amount, pay_address=facts.pay_address, payin_extra_id=facts.payin_extra_id,
                reason="", next_attempt_at=Now() + delay(30),
            )  # fmt: skip
            if had_trouble:
                # The alert was raised before the provider's id arrived; this id is what was missing.
                close_alert(AlertKind.PAYMENT_REVIEW, payment, by="automatic: the provider named the payment")
            return payment
        return Payment.objects.create(
            order=order,
            external_id=facts.payment_id,
            status=Payment.Status.WAITING,
            price_amount=order.total,
            price_currency=order.currency.lower(),
            pay_currency=facts.pay_currency,
            pay_amount=facts.pay_amount,
            parent_external_id=facts.parent_payment_id or "unbound",
        )


def _read(external_id: str) -> PaymentFacts:
    """Return what the provider says now. Raises ProviderUnavailable; what they do not know now they may know later."""
    try:
        return NowPaymentsClient.from_settings().read_payment(external_id)
    except ProviderRejected as err:
        raise ProviderUnavailable(f"payment {external_id} could not be read: {err}", status=err.status) from err


READ_AGAIN = Decision(
    name="read_again",
    label="Read again at the provider",
    permission="orders.settle_order",
    objection=nothing_against,
    carry_out=read_again,
    done="the provider is asked again within seconds",
)

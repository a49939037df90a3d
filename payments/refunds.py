"""Money that goes back: decided by staff or owed by an order. BitLoot records it and sends no coins."""

import re
import uuid

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused, ReasonForm, demand
from bitloot.core.money import plain
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind, OrderReason
from orders.models import Email, Order
from orders.services import queue_email
from payments.exceptions import AddressRefused
from payments.forms import SentForm
from payments.models import Coin, Payment, Refund
from payments.review import HAS_REFUND, demand_reason


def objection_to_refund(payment: Payment) -> str | None:
    if payment.actually_paid <= 0 or payment.status == Payment.Status.REFUNDED:
        return "No coins came with this payment, or they went back already."
    return HAS_REFUND if payment.refunds.exists() else None


def request_refund(payment: Payment, *, actor: str, reason: str) -> Refund:
    """Decide that what came with this payment goes back to the customer, who is asked for an address.

    An order that is not delivered is owed back with it; a delivered one keeps its keys. Raises DecisionRefused.
    """
    demand_reason(reason)
    with transaction.atomic():
        order, payment = payment.order.lock(), payment.lock()
        demand(objection_to_refund(payment))
        refund = _open_refund(order, payment, reason=reason, actor=actor)
        if Order.Status.REFUND_DUE in Order.TRANSITIONS[order.status] and not _other_money(order, payment):
            order.mark_refund_due(reason=OrderReason.REFUND_REQUESTED, message="The payment goes back.", actor=actor)
    close_alert(AlertKind.PAYMENT_REVIEW, payment, by=actor)
    return refund


def owe_back(order: Order) -> None:
    """Open a refund for every payment of an order whose money goes back. The caller holds the order's lock."""
    with transaction.atomic():
        for payment in order.payments.filter(_HAS_MONEY).exclude(refunds__isnull=False):
            _open_refund(order, payment.lock(), reason=order.reason or "refund due", actor="")


def set_refund_address(*, order: Order, refund_id: uuid.UUID, address: str, extra_id: str = "") -> Refund:
    """Record where the customer wants the coins. May be changed until they are sent. Raises AddressRefused."""
    address, extra_id = address.strip(), extra_id.strip()
    with transaction.atomic():
        order.lock()
        refund = Refund.objects.select_for_update().filter(pk=refund_id, order=order).first()
        if refund is None or refund.status != Refund.Status.REQUESTED:
            raise AddressRefused("This refund does not wait for an address (any more).")
        _check_address(refund.currency, address, extra_id)
        Refund.objects.filter(pk=refund.pk).update(address=address, extra_id=extra_id)
        order.note("refund", "An address for the refund was given.")
        raise_alert(
            AlertKind.REFUND_TO_SEND,
            refund,
            f"The customer gave an address for {refund}. Send {plain(refund.amount)} {refund.currency.upper()},"
            " then enter the transaction id.",
            order=order,
        )
    return Refund.objects.with_needs_memo().get(pk=refund.pk)


def objection_to_sending(refund: Refund) -> str | None:
    if not refund.address:
        return "The customer has not given an address yet."
    if refund.status != Refund.Status.REQUESTED:
        return "Another transaction id was entered already. Were the coins sent twice?"
    return None


def mark_sent(refund: Refund, *, actor: str, transaction_id: str) -> None:
    """Record that staff sent the coins; the same transaction id again changes nothing. Raises DecisionRefused."""
    transaction_id = transaction_id.strip()
    if not re.fullmatch(r"[\x21-\x7e]{6,200}", transaction_id):
        raise DecisionRefused("Enter the transaction id as the network shows it.")
    with transaction.atomic():
        refund.order.lock()
        current = Refund.objects.select_for_update().get(pk=refund.pk)
        if current.address and current.transaction_id == transaction_id:
            return
        demand(objection_to_sending(current))
        message = "The refund was sent."
        refund.move(Refund.Status.SENT, message=message, actor=actor, transaction_id=transaction_id, sent_at=Now())


def objection_to_finishing(refund: Refund) -> str | None:
    if refund.status == Refund.Status.SENT:
        return None
    return f"The refund is “{refund.status}”; it cannot become “done” now."


def mark_done(refund: Refund, *, actor: str) -> None:
    """Record that the coins arrived; with the last open refund the order counts as refunded. Raises DecisionRefused."""
    with transaction.atomic():
        order = refund.order.lock()
        demand(objection_to_finishing(Refund.objects.select_for_update().get(pk=refund.pk)))
        refund.move(Refund.Status.DONE, message="The refund has arrived.", actor=actor, done_at=Now())
        payment = refund.payment
        if payment is not None and Payment.Status.REFUNDED in Payment.TRANSITIONS[payment.lock().status]:
            payment.move(Payment.Status.REFUNDED, message="The money of this payment went back.", actor=actor)
        is_settled = not order.refunds.exclude(status=Refund.Status.DONE).exists()
        if order.status == Order.Status.REFUND_DUE and is_settled:
            order.mark_refunded(message="Your money was sent back.", actor=actor)
    close_alert(AlertKind.REFUND_TO_SEND, refund, by=actor)


_HAS_MONEY = Q(actually_paid__gt=0) & ~Q(status=Payment.Status.REFUNDED)


def _open_refund(order: Order, payment: Payment, *, reason: str, actor: str) -> Refund:
    refund = Refund.objects.create(
        order=order,
        payment=payment,
        amount=payment.actually_paid,
        currency=payment.pay_currency,
        reason=reason[:200],
    )
    coins = f"{plain(refund.amount)} {refund.currency.upper()}"
    order.note("refund", f"{coins} go back to the customer.", actor=actor)
    sentence = f"We return {coins} to you. Open your order and tell us the address they go to."
    queue_email(order, Email.Kind.PROBLEM, reason=sentence)
    return refund


def _other_money(order: Order, payment: Payment) -> bool:
    """Say whether the order stands on another payment, as after a second one."""
    return order.payments.filter(status=Payment.Status.FINISHED).exclude(pk=payment.pk).exists()


def _check_address(currency: str, address: str, extra_id: str) -> None:
    if not re.fullmatch(r"[\x21-\x7e]{8,200}", address):
        raise AddressRefused("This is not an address. Copy it from your wallet as it is.")
    coin = Coin.objects.filter(code=currency).first()
    if coin is not None and not _fits(coin.wallet_regex, address):
        raise AddressRefused(f"This is not an address for {coin.name}. Copy it from your wallet as it is.")
    if coin is not None and coin.needs_memo and not re.fullmatch(r"[\x21-\x7e]{1,100}", extra_id):
        raise AddressRefused(f"{coin.name} needs a memo or tag with the address. Your wallet shows it.")


def _fits(pattern: str, address: str) -> bool:
    """Match the provider's own pattern; one that Python cannot read says nothing about the address."""
    try:
        return not pattern or re.fullmatch(pattern, address) is not None
    except re.error:
        return True


REFUND = Decision(
    name="refund",
    label="Refund",
    permission="orders.settle_order",
    objection=objection_to_refund,
    carry_out=request_refund,
    form=ReasonForm,
    consequence="The customer is asked for an address, and you send the coins to it by hand. An order that is not"
    " delivered ends with it, unless another payment paid it.",
    done="all its coins go back. The customer is asked for an address; an alert tells you when it is there.",
)
MARK_SENT = Decision(
    name="sent",
    label="Mark as sent",
    permission="orders.settle_order",
    objection=objection_to_sending,
    carry_out=mark_sent,
    form=SentForm,
    consequence="First send exactly this amount, in this coin, to this address from your wallet: BitLoot sends none.",
    done="sent. The customer sees the transaction; mark it done when the coins have arrived.",
)
MARK_DONE = Decision(
    name="done",
    label="Mark as done",
    permission="orders.settle_order",
    objection=objection_to_finishing,
    carry_out=mark_done,
    form=ConfirmForm,
    consequence="First look the transaction up on the network: the coins have arrived, and nothing more is owed.",
    done="done. With its last refund the order counts as refunded.",
)

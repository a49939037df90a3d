"""Money that goes back: decided by staff, asked for by the customer, or owed by an order. BitLoot sends no coins."""

import re
from collections.abc import Callable, Mapping
from decimal import ROUND_DOWN, Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_noop

from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused, ReasonForm, demand
from bitloot.core.money import CENT
from bitloot.core.sentences import Sentence
from orders.alerts import close_alert, raise_alert
from orders.approvals import is_large
from orders.choices import AlertKind, OrderReason
from orders.models import Email, Order
from orders.services import queue_email
from payments.balance import NOTHING, counted, delivered_worth, is_noticeable, left_of, surplus_of
from payments.choices import RefundKind
from payments.exceptions import NoSurplus
from payments.forms import NO_TRANSACTION_ID, TRANSACTION_ID, SentElsewhereForm, SentForm
from payments.models import Payment, Refund
from payments.review import HAS_REFUND, demand_reason

SMALLEST = Decimal("1E-8")  # what a share is rounded down to: most coins are divided no further
BY_THE_CUSTOMER = "The customer asked for the surplus."
_HAS_MONEY = Q(actually_paid__gt=0) & ~Q(status=Payment.Status.REFUNDED)


# --- what may go back ---


def objection_to_refund(payment: Payment) -> str | None:
    if payment.actually_paid <= 0 or payment.status == Payment.Status.REFUNDED:
        return "No coins came with this payment, or they went back already."
    return None if left_of(payment) else HAS_REFUND


def objection_to_surplus(payment: Payment) -> str | None:
    return None if surplus_of(payment) else "Nothing came beyond what was asked for, or it has a refund already."


def objection_to_share(payment: Payment) -> str | None:
    order = payment.order
    if objection := objection_to_refund(payment):
        return objection
    if Order.Status.REFUND_DUE not in Order.TRANSITIONS[order.status]:
        return f"The money of an order that is “{order.get_status_display().lower()}” is not shared out."
    if _has_gone(payment):
        return HAS_REFUND
    if payment.status not in (Payment.Status.FINISHED, Payment.Status.PARTIALLY_PAID) or _other_money(order, payment):
        return "This payment is not what the order was paid with."
    return None if NOTHING < delivered_worth(order) < order.total else "Only a part that was delivered can be kept."


def refund_takes_two(payment: Payment, _fields: Mapping[str, Any]) -> bool:
    """Whether so much goes back for keys that the customer keeps that it takes a second member of staff."""
    return is_large(_kept_for_nothing(payment.order, counted(payment)), total=payment.order.total)


# --- opening a refund ---


def request_refund(payment: Payment, *, actor: str, reason: str) -> Refund:
    """Decide that all that is left of this payment goes back to the customer, who is asked for an address.

    An order that is not delivered is owed back with it; a delivered one keeps its keys. Raises DecisionRefused.
    """
    demand_reason(reason)
    with transaction.atomic():
        order, payment = _locked(payment)
        demand(objection_to_refund(payment))
        refund = _open_refund(order, payment, kind=RefundKind.ALL, reason=reason, actor=actor)
        # An order that another payment paid is delivered as if this one had never come.
        if Order.Status.REFUND_DUE in Order.TRANSITIONS[order.status] and not _other_money(order, payment):
            order.mark_refund_due(
                reason=OrderReason.REFUND_REQUESTED, message=gettext_noop("The payment goes back."), actor=actor
            )
            close_alert(AlertKind.ORDER_HELD, order, by=actor)  # it was held for this decision
    close_alert(AlertKind.PAYMENT_REVIEW, payment, by=actor)
    return refund


def request_share(payment: Payment, *, actor: str, reason: str) -> None:
    """Decide that the customer keeps what was delivered and gets the rest of the money. Raises DecisionRefused."""
    demand_reason(reason)
    with transaction.atomic():
        order, payment = _locked(payment)
        demand(objection_to_share(payment))
        order.note("staff", reason, actor=actor)
        # The receiver of the order's signal, `owe_back`, opens the refund of each payment that it stands on.
        message = gettext_noop("The money for what was not delivered goes back.")
        order.mark_refund_due(reason=OrderReason.REFUND_REQUESTED, message=message, actor=actor)
        close_alert(AlertKind.ORDER_HELD, order, by=actor)
    close_alert(AlertKind.PAYMENT_REVIEW, payment, by=actor)


def request_surplus(payment: Payment, *, actor: str, reason: str) -> Refund:
    """Decide that what came beyond the price goes back; the order is not touched. Raises DecisionRefused."""
    demand_reason(reason)
    with transaction.atomic():
        order, payment = _locked(payment)
        demand(objection_to_surplus(payment))
        return _open_refund(order, payment, kind=RefundKind.SURPLUS, reason=reason, actor=actor)


def ask_for_surplus(order: Order) -> Refund:
    """Open the refund of a surplus because its customer wants it. Raises NoSurplus."""
    with transaction.atomic():
        order = order.lock()
        for payment in order.payments.filter(status=Payment.Status.FINISHED):
            locked = payment.lock()  # two clicks at once: the second finds that no surplus is left
            if is_noticeable(locked, surplus_of(locked)):
                return _open_refund(order, locked, kind=RefundKind.SURPLUS, reason=BY_THE_CUSTOMER, actor="")
    raise NoSurplus


def owe_back(order: Order) -> None:
    """Open a refund for every payment of an order whose money goes back. The caller holds the order's lock.

    Once a part was delivered only the share of the rest goes back, with what came beyond the price. An order whose
    coins the provider sent back already is refunded with that: staff have nothing to send.
    """
    with transaction.atomic():
        delivered = delivered_worth(order)
        kind = RefundKind.SHARE if NOTHING < delivered < order.total else RefundKind.ALL
        # In any order: nobody locks a payment without its order's lock, and the caller has that.
        for payment in order.payments.filter(_HAS_MONEY):
            locked = payment.lock()
            if _has_gone(locked) or not left_of(locked):
                continue
            own_kind = kind if counted(locked) else RefundKind.ALL  # what never counted bought nothing
            _open_refund(order, locked, kind=own_kind, reason=order.reason or "refund due", actor="")
        _end_what_the_provider_sent_back(order)


def _end_what_the_provider_sent_back(order: Order) -> None:
    sent_back = order.payments.filter(status=Payment.Status.REFUNDED)
    if order.refunds.exclude(status=Refund.Status.DONE).exists() or not sent_back.exists():
        return
    order.mark_refunded(message=gettext_noop("The payment provider had sent your coins back."))
    for payment in sent_back:
        close_alert(AlertKind.PAYMENT_REVIEW, payment, by="automatic: the order is refunded")


def _locked(payment: Payment) -> tuple[Order, Payment]:
    order, locked = payment.order.lock(), payment.lock()
    locked.order = order  # the locked row, for the objections as well
    return order, locked


def _has_gone(payment: Payment) -> bool:
    """Whether the order's own money goes back already; a surplus beside it does not count."""
    return payment.refunds.exclude(kind=RefundKind.SURPLUS).exists()


def _open_refund(order: Order, payment: Payment, *, kind: RefundKind, reason: str, actor: str) -> Refund:
    amount, worth = _AMOUNTS[kind](order, payment)
    kept = _kept_for_nothing(order, worth)
    refund = Refund.objects.create(
        order=order,
        payment=payment,
        kind=kind,
        # Under the payment's lock, so that all its refunds together never exceed what arrived.
        amount=min(amount, left_of(payment)),
        worth=max(worth, NOTHING),
        currency=payment.pay_currency,
        reason=reason[:200],
    )
    order.note("refund", Sentence("%(coins)s go back to the customer.", coins=refund.coins), actor=actor)
    undelivered = _is_undelivered(order)
    queue_email(order, Email.Kind.REFUND_ASKED, coins=refund.coins, refund=kind.value, undelivered=undelivered)
    close_alert(AlertKind.OVERPAID, payment, by=actor or "automatic: it goes back")
    if kept:
        message = f"{refund.coins} go back to the customer of {order}, who keeps keys of {kept} {order.currency}."
        raise_alert(AlertKind.REFUND_OF_DELIVERED, refund, f"{message} {actor or 'BitLoot'}: {reason}", order=order)
    return refund


def _is_undelivered(order: Order) -> bool:
    """Whether the money goes back because of the supplier: such a reason is none of the words of `orders`."""
    return order.status == Order.Status.REFUND_DUE and order.reason not in ("", *OrderReason.values)


def _all_of(_: Order, payment: Payment) -> tuple[Decimal, Decimal]:
    gone = sum((refund.worth for refund in payment.refunds.all()), NOTHING)
    return left_of(payment), counted(payment) - gone


def _surplus_of(_: Order, payment: Payment) -> tuple[Decimal, Decimal]:
    return surplus_of(payment), NOTHING


def _share_of(order: Order, payment: Payment) -> tuple[Decimal, Decimal]:
    share = (order.total - delivered_worth(order)) / order.total
    surplus = surplus_of(payment)
    # The surplus was never part of the price, so all of it goes back.
    coins = (left_of(payment) - surplus) * share
    return coins.quantize(SMALLEST, ROUND_DOWN) + surplus, (counted(payment) * share).quantize(CENT, ROUND_DOWN)


def coins_of(payment: Payment, kind: str) -> Decimal:
    """Return the coins that a refund of this kind would send back now."""
    return _AMOUNTS[kind](payment.order, payment)[0]


_AMOUNTS: dict[str, Callable[[Order, Payment], tuple[Decimal, Decimal]]] = {
    RefundKind.ALL: _all_of,
    RefundKind.SURPLUS: _surplus_of,
    RefundKind.SHARE: _share_of,
}


def _kept_for_nothing(order: Order, worth: Decimal) -> Decimal:
    """Return how much of what would go back pays for keys that the customer keeps."""
    refunds = sum((refund.worth for refund in order.refunds.all()), NOTHING)
    held = sum((counted(payment) for payment in order.payments.all()), NOTHING) - refunds
    return min(worth, max(delivered_worth(order) - (held - worth), NOTHING))


def _other_money(order: Order, payment: Payment) -> bool:
    """Whether the order stands on another payment, as after a second one."""
    return order.payments.filter(status=Payment.Status.FINISHED).exclude(pk=payment.pk).exists()


# --- sending it ---


def objection_to_sending(refund: Refund) -> str | None:
    newest = refund.destination
    if refund.status != Refund.Status.REQUESTED:
        return "Another transaction id was entered already. Were the coins sent twice?"
    if newest is None:
        return "The customer has not given an address yet."
    if newest.rests_until is not None and newest.rests_until > timezone.now():
        until = f"{newest.rests_until:%d %B, %H:%M} UTC"
        return f"The address was changed, so it rests until {until}: the customer was told and can object until then."
    return None


def mark_sent(refund: Refund, *, actor: str, transaction_id: str, destination: int) -> None:
    """Record that staff sent the coins to this address; the same transaction id again changes nothing.

    Raises DecisionRefused, also if the customer has given another address meanwhile.
    """
    transaction_id = _clean(transaction_id)
    with transaction.atomic():
        refund.order.lock()
        # Compared under the lock: the customer may give another address while staff send the coins.
        current = Refund.objects.select_for_update(of=("self",)).select_related("destination").get(pk=refund.pk)
        # Before the objection: the same form sent twice is no mistake.
        if current.destination_id == destination and current.transaction_id == transaction_id:
            return
        demand(objection_to_sending(current))
        if current.destination_id != destination:
            raise DecisionRefused(
                "The customer has given another address meanwhile. If the coins went to the one that you saw, use “Sent"
                " to an earlier address”; if they were not sent yet, look again."
            )
        _send(current, actor=actor, transaction_id=transaction_id)


def objection_to_sent_elsewhere(refund: Refund) -> str | None:
    if refund.status != Refund.Status.REQUESTED:
        return "Another transaction id was entered already. Were the coins sent twice?"
    return None if refund.addresses.count() > 1 else "The customer has given one address at most."


def mark_sent_elsewhere(refund: Refund, *, actor: str, transaction_id: str, address: str, reason: str) -> None:
    """Record that the coins went to an address that the customer has replaced since. Raises DecisionRefused."""
    transaction_id = _clean(transaction_id)
    demand_reason(reason)
    with transaction.atomic():
        order = refund.order.lock()
        current = Refund.objects.select_for_update(of=("self",)).get(pk=refund.pk)
        demand(objection_to_sent_elsewhere(current))
        paid = current.addresses.filter(address=address.strip()).last()
        if paid is None:
            raise DecisionRefused("The customer never gave this address. Copy it from the list of their addresses.")
        order.note("staff", f"Sent to an earlier address, {paid}: {reason}"[:300], actor=actor)
        _send(current, actor=actor, transaction_id=transaction_id, destination_id=paid.pk)


def _clean(transaction_id: str) -> str:
    transaction_id = transaction_id.strip()
    if not re.fullmatch(TRANSACTION_ID, transaction_id):
        raise DecisionRefused(NO_TRANSACTION_ID)
    return transaction_id


def _send(refund: Refund, *, actor: str, transaction_id: str, **fields: Any) -> None:
    fields = {**fields, "transaction_id": transaction_id, "sent_at": Now()}
    try:
        # A savepoint: two orders share no lock, so only the constraint sees a transaction that is entered for both.
        with transaction.atomic():
            refund.move(Refund.Status.SENT, message=gettext_noop("The refund was sent."), actor=actor, **fields)
            _tell_sent(refund, transaction_id)
    except IntegrityError as err:
        raise DecisionRefused("This transaction id was entered for another refund. One of the two is wrong.") from err


def _tell_sent(refund: Refund, transaction_id: str) -> None:
    # Read anew: the address may be an earlier one than this instance knows.
    to = Refund.objects.select_related("destination").get(pk=refund.pk).destination
    queue_email(
        refund.order, Email.Kind.REFUND_SENT, coins=refund.coins, address=str(to or ""), transaction=transaction_id
    )


def objection_to_finishing(refund: Refund) -> str | None:
    if refund.status == Refund.Status.SENT:
        return None
    return f"The refund is “{refund.status}”; it cannot become “done” now."


def mark_done(refund: Refund, *, actor: str) -> None:
    """Record that the coins arrived; with the last open refund the order counts as refunded. Raises DecisionRefused."""
    with transaction.atomic():
        order = refund.order.lock()
        demand(objection_to_finishing(Refund.objects.select_for_update(of=("self",)).get(pk=refund.pk)))
        refund.move(Refund.Status.DONE, message=gettext_noop("The refund has arrived."), actor=actor, done_at=Now())
        queue_email(order, Email.Kind.REFUND_ARRIVED, coins=refund.coins)
        if refund.payment is not None:
            _end_payment(refund.payment.lock(), actor=actor)
        is_settled = not order.refunds.exclude(status=Refund.Status.DONE).exists()
        if order.status == Order.Status.REFUND_DUE and is_settled:
            order.mark_refunded(message=gettext_noop("Your money was sent back."), actor=actor)
    close_alert(AlertKind.REFUND_TO_SEND, refund, by=actor)


def _end_payment(payment: Payment, *, actor: str) -> None:
    """Count a payment as refunded once all that arrived has gone back; until then it stays what it is."""
    has_all_gone = not left_of(payment, status=Refund.Status.DONE)
    if has_all_gone and Payment.Status.REFUNDED in Payment.TRANSITIONS[payment.status]:
        payment.move(Payment.Status.REFUNDED, message=gettext_noop("The money of this payment went back."), actor=actor)


REFUND = Decision(
    name="refund",
    label="Refund all",
    permission="payments.refund_payment",
    objection=objection_to_refund,
    carry_out=request_refund,
    form=ReasonForm,
    needs_second=refund_takes_two,
    consequence="The customer is asked for an address, and you send the coins to it by hand. An order that is not"
    " delivered ends with it, unless another payment paid it; keys that were delivered stay with the customer.",
    done="all its coins go back. The customer is asked for an address; an alert tells you when it is there.",
)
REFUND_SURPLUS = Decision(
    name="refund-surplus",
    label="Refund the surplus",
    permission="payments.refund_surplus",
    objection=objection_to_surplus,
    carry_out=request_surplus,
    form=ReasonForm,
    consequence="What came beyond the price goes back. The order and its keys are not touched.",
    done="the surplus goes back. The customer is asked for an address; an alert tells you when it is there.",
)
REFUND_SHARE = Decision(
    name="refund-share",
    label="Refund what was not delivered",
    permission="payments.refund_share",
    objection=objection_to_share,
    carry_out=request_share,
    form=ReasonForm,
    consequence="The customer keeps the keys that they have and gets the money for the others, which will not be"
    " bought. The order ends with it.",
    done="the money for the rest goes back. The customer is asked for an address; an alert tells you when it is there.",
)
MARK_SENT = Decision(
    name="sent",
    label="Mark as sent",
    permission="payments.send_refund",
    objection=objection_to_sending,
    carry_out=mark_sent,
    form=SentForm,
    initial=lambda refund: {"destination": refund.destination_id},
    consequence="First send exactly this amount, in this coin, to this address from your wallet: BitLoot sends none.",
    done="sent. The customer sees the transaction; mark it done when the coins have arrived.",
)
MARK_SENT_ELSEWHERE = Decision(
    name="sent-elsewhere",
    label="Sent to an earlier address",
    permission="payments.send_elsewhere",
    objection=objection_to_sent_elsewhere,
    carry_out=mark_sent_elsewhere,
    form=SentElsewhereForm,
    needs_second=lambda _refund, _fields: True,
    consequence="Only if the customer gave another address after you had sent the coins. The ledger then names the"
    " address that was paid; nothing goes to the newest one.",
    done="sent, to the earlier address. The customer sees the transaction; mark it done when the coins have arrived.",
)
MARK_DONE = Decision(
    name="done",
    label="Mark as done",
    permission="payments.finish_refund",
    objection=objection_to_finishing,
    carry_out=mark_done,
    form=ConfirmForm,
    consequence="First look the transaction up on the network: the coins have arrived, and nothing more is owed.",
    done="done. With its last refund the order counts as refunded.",
)

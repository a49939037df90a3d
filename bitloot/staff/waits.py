"""What each order waits for: one answer for the staff API, the lists and the order's page."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from fulfillment import kinguin
from fulfillment.choices import HoldReason
from fulfillment.models import Reservation, SupplierGate
from orders.choices import OrderReason
from orders.models import Approval, Order
from payments.choices import ReviewReason
from payments.models import Payment, Refund


class WaitsFor(models.TextChoices):
    """Whom or what an order waits for; the labels finish “It waits for …”."""

    PAYMENT = "payment", "the customer's payment"
    CONFIRMATIONS = "confirmations", "the network's confirmations"
    REST_OF_PAYMENT = "rest_of_payment", "the rest of the payment"
    WORKER = "worker", "a worker"
    SUPPLIER_GATE = "supplier_gate", "purchases, which are paused or stopped"
    STOCK = "stock", "stock at the supplier"
    PRICE = "price", "a price within the cap"
    FUNDS = "funds", "balance at the supplier"
    SUPPLIER = "supplier", "the supplier"
    SEARCH = "search", "the search for a purchase whose outcome is unknown"
    SECOND_PERSON = "second_person", "a second member of staff"
    PERSON = "person", "a decision of staff"
    REFUND_ADDRESS = "refund_address", "the customer's address for the refund"
    REFUND_REST = "refund_rest", "the changed address to rest"
    REFUND_TO_SEND = "refund_to_send", "staff to send the coins"
    REFUND_ARRIVAL = "refund_arrival", "the refund to arrive"


@dataclass(frozen=True)
class Waits:
    what: WaitsFor
    sentence: str
    until: datetime | None = None  # when something happens without anybody deciding

    @property
    def then(self) -> str:
        """Return what happens at the end of `until`."""
        return _THEN.get(self.what, "The money is owed back")

    @classmethod
    def on(cls, what: WaitsFor, more: str = "", *, until: datetime | None = None) -> "Waits":
        return cls(what, f"It waits for {what.label}. {more}".strip(), until)


@dataclass(frozen=True)
class Facts:
    """The rows that an order hangs on, as they were read."""

    payments: list[Payment]
    purchases: list[Reservation]
    refunds: list[Refund]
    approvals: list[Approval]
    is_stopped: bool  # whether no purchase may leave now


# What comes when the time is over, where it is not that the money goes back.
_THEN: dict[str, str] = {
    WaitsFor.PAYMENT: "The order expires",
    WaitsFor.REFUND_REST: "The coins may be sent",
}
_RESERVATION = Reservation.Status
_MOVING = (Payment.Status.CONFIRMING, Payment.Status.CONFIRMED, Payment.Status.SENDING)
# What the pipeline tries again on its own (`look_again` in fulfillment/steps/resuming.py).
_PASSING: dict[str, WaitsFor] = {
    HoldReason.OUT_OF_STOCK: WaitsFor.STOCK,
    HoldReason.TOO_EXPENSIVE: WaitsFor.PRICE,
    HoldReason.NO_FUNDS: WaitsFor.FUNDS,
    HoldReason.SUPPLIER_UNAVAILABLE: WaitsFor.SUPPLIER,
    HoldReason.SUPPLIER_CONFIG: WaitsFor.SUPPLIER,
    HoldReason.REFUSED: WaitsFor.SUPPLIER,
}
_BY_PURCHASE: dict[str, WaitsFor] = {
    _RESERVATION.UNKNOWN: WaitsFor.SEARCH,
    _RESERVATION.SENDING: WaitsFor.SUPPLIER,
    _RESERVATION.RESERVED: WaitsFor.SUPPLIER,
    _RESERVATION.GIVEN: WaitsFor.SUPPLIER,
    _RESERVATION.PENDING: WaitsFor.WORKER,
}
_IN_WORK = (Order.Status.PAID, Order.Status.FULFILLING, Order.Status.PARTIALLY_FULFILLED)


def waits_for(orders: Sequence[Order]) -> dict[uuid.UUID, Waits | None]:
    """Return for each order what it waits for, or None if nothing more has to happen. Five queries for any number."""
    facts = _facts(orders)
    return {order.pk: _waits(order, facts[order.pk]) for order in orders}


def _facts(orders: Sequence[Order]) -> dict[uuid.UUID, Facts]:
    keys = [order.pk for order in orders]
    payments = _by_order(Payment.objects.filter(order__in=keys))
    open_purchases = Reservation.objects.filter(item__order__in=keys).exclude(status=_RESERVATION.DELIVERED)
    purchases = _by_order(open_purchases.select_related("item__product"))
    refunds = _by_order(Refund.objects.filter(order__in=keys).select_related("destination"))
    approvals = _by_order(Approval.objects.filter(order__in=keys, status=Approval.Status.WAITING))
    is_stopped = _is_stopped()
    return {key: Facts(payments[key], purchases[key], refunds[key], approvals[key], is_stopped) for key in keys}


def _by_order(rows: Iterable[Any]) -> dict[uuid.UUID, list[Any]]:
    found: dict[uuid.UUID, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.timeline_order_id].append(row)
    return found


def _waits(order: Order, facts: Facts) -> Waits | None:
    """The first answer holds: what staff have to do comes before what happens without them."""
    return _approval(facts) or _review(facts) or _by_status(order, facts)


def _by_status(order: Order, facts: Facts) -> Waits | None:
    if order.status in (Order.Status.PENDING, Order.Status.UNDERPAID):
        return _money(order, facts)
    if order.status in _IN_WORK:
        return _purchase(facts) or Waits.on(WaitsFor.WORKER)
    if order.status == Order.Status.HELD:
        return _held(order, facts)
    # A delivered order may still owe a surplus, or wait for the replacement of a key.
    return _refund(facts) or _nothing_arranged(order, facts) or _replacement(order, facts)


def _approval(facts: Facts) -> Waits | None:
    labels = "”, “".join(approval.label for approval in facts.approvals)
    return Waits.on(WaitsFor.SECOND_PERSON, f"“{labels}” has to be approved or declined.") if labels else None


def _review(facts: Facts) -> Waits | None:
    # Staff have already decided about a payment that has a refund; what comes next depends on the refund.
    refunded = {refund.payment_id for refund in facts.refunds}
    for payment in facts.payments:
        if payment.status == Payment.Status.REVIEW and payment.pk not in refunded:
            return Waits.on(WaitsFor.PERSON, ReviewReason.sentence_for(payment.reason))
    return None


def _money(order: Order, facts: Facts) -> Waits:
    if any(payment.status in _MOVING for payment in facts.payments):
        return Waits.on(WaitsFor.CONFIRMATIONS)
    if order.status == Order.Status.UNDERPAID:
        return Waits.on(WaitsFor.REST_OF_PAYMENT)
    return Waits.on(WaitsFor.PAYMENT, until=order.expires_at)


def _held(order: Order, facts: Facts) -> Waits:
    if order.reason in _PASSING and (passing := _purchase(facts)) is not None:
        return passing
    return Waits.on(WaitsFor.PERSON, _sentence(order.reason))


def _purchase(facts: Facts) -> Waits | None:
    """The purchase that needs staff the most speaks for the order."""
    found = [_of_purchase(purchase, is_stopped=facts.is_stopped) for purchase in facts.purchases]
    return min(filter(None, found), key=lambda waits: waits.what != WaitsFor.PERSON, default=None)


def _of_purchase(purchase: Reservation, *, is_stopped: bool) -> Waits | None:
    if purchase.status == _RESERVATION.HELD:
        return _of_held(purchase)
    if purchase.status == _RESERVATION.PENDING and is_stopped:
        return Waits.on(WaitsFor.SUPPLIER_GATE)
    what = _BY_PURCHASE.get(purchase.status)
    return Waits.on(what) if what else None


def _of_held(purchase: Reservation) -> Waits:
    what, sentence = _PASSING.get(purchase.reason), HoldReason.sentence_for(purchase.reason)
    # Only what was surely not bought, and is looked at again, passes without staff.
    if what is None or purchase.supplier_order_id or purchase.unknown_at or purchase.next_attempt_at is None:
        return Waits.on(WaitsFor.PERSON, sentence)
    since = purchase.waiting_since or purchase.changed_at
    until = since + timedelta(hours=purchase.item.product.stock_wait_hours)
    return Waits.on(what, sentence, until=until)


def _is_stopped() -> bool:
    closed = SupplierGate.objects.filter(pk=kinguin.client().host).exclude(status=SupplierGate.Status.OPEN)
    return settings.SAFE_MODE or closed.exists()


def _refund(facts: Facts) -> Waits | None:
    open_refunds = [refund for refund in facts.refunds if refund.status != Refund.Status.DONE]
    found = [_of_refund(refund) for refund in open_refunds]
    return min(found, key=lambda waits: waits.what != WaitsFor.REFUND_TO_SEND, default=None)


def _of_refund(refund: Refund) -> Waits:
    if refund.status == Refund.Status.SENT:
        return Waits.on(WaitsFor.REFUND_ARRIVAL, f"{refund.coins} were sent. Look whether they have arrived.")
    if refund.destination is None:
        return Waits.on(WaitsFor.REFUND_ADDRESS, f"{refund.coins} go back.")
    rests_until = refund.destination.rests_until
    if rests_until is not None and rests_until > timezone.now():
        return Waits.on(WaitsFor.REFUND_REST, "The customer may still object.", until=rests_until)
    return Waits.on(WaitsFor.REFUND_TO_SEND, f"{refund.coins} to {refund.destination}.")


def _nothing_arranged(order: Order, facts: Facts) -> Waits | None:
    if order.status != Order.Status.REFUND_DUE or facts.refunds:
        return None
    return Waits.on(WaitsFor.PERSON, "The money is owed back, and there is no refund.")


def _replacement(order: Order, facts: Facts) -> Waits | None:
    replacements = [purchase for purchase in facts.purchases if purchase.is_replacement]
    return _purchase(replace(facts, purchases=replacements)) if order.status == Order.Status.FULFILLED else None


def _sentence(reason: str) -> str:
    for reasons in (OrderReason, HoldReason, ReviewReason):
        if reason in reasons.values:
            return reasons.sentence_for(reason)
    return ""

"""What happens next with an order, and by when: the words of the API and of the order's page, in one place.

A sentence is for now, `late` is for after `expected_by`; a page that stays open changes over without asking.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from bitloot.core.clock import delay
from bitloot.core.sentences import Words
from bitloot.shop.usual import Span, until_confirmed, until_delivery
from fulfillment.choices import HoldReason
from fulfillment.models import Reservation
from fulfillment.money_back import objection_to_money_back
from fulfillment.steps.holding import NOT_FOR_SALE, RESUMABLE, WHY_IT_WAITS
from orders.choices import OrderReason
from orders.models import Order
from payments.models import Payment
from payments.troubles import trouble_of

# After a day without a key the pipeline gives a purchase to staff.
STAFF_TAKE_OVER = timedelta(days=1)
LEAST_PATIENCE = timedelta(minutes=5)
USUAL_DELIVERY, USUAL_NETWORK = timedelta(minutes=10), timedelta(hours=1)
_MOVING = frozenset({Order.Status.PAID, Order.Status.FULFILLING, Order.Status.PARTIALLY_FULFILLED})
UNPAID = frozenset({Order.Status.PENDING, Order.Status.UNDERPAID})
_ON_ITS_WAY = frozenset({Payment.Status.CONFIRMING, Payment.Status.CONFIRMED, Payment.Status.SENDING})
_UNCLEAR = gettext_lazy(
    "Our supplier has not told us clearly whether your key was bought, and we never buy one twice. Our staff are"
    " finding out, and we e-mail you."
)
_OTHER_KEY = gettext_lazy(
    "The key that our supplier sent cannot be used. Our staff are getting you another one, and we e-mail you."
)
_A_PART = gettext_lazy(
    "A part of your order cannot be delivered. You keep the rest; we write to you about the money for it."
)
_HELD: dict[str, Words] = {
    HoldReason.NO_KEYS: gettext_lazy(
        "Our supplier took the order but has not sent your key. Our staff are asking for it, and we e-mail you."
    ),
    HoldReason.UNKNOWN_PURCHASE: _UNCLEAR,
    HoldReason.FOUND_AT_SUPPLIER: _UNCLEAR,
    HoldReason.DOUBLE_PURCHASE: _UNCLEAR,
    HoldReason.FOREIGN_KEY: _OTHER_KEY,
    HoldReason.UNREADABLE_KEY: _OTHER_KEY,
    HoldReason.PARTLY_CANCELLED: _A_PART,
    HoldReason.PARTLY_DELIVERED: _A_PART,
    HoldReason.SUPPLIER_CANCELLED: gettext_lazy(
        "Our supplier cancelled the purchase of your key. Our staff will write to you about your money."
    ),
    OrderReason.PAYMENT_REFUNDED: gettext_lazy(
        "Your coins went back to you before the order was delivered, so nothing is handed"
        " out. Our staff will write to you."
    ),
    OrderReason.HELD_BY_STAFF: gettext_lazy(
        "Our staff stopped this order to look at it. Your money is safe. We'll write to you."
    ),
}


@dataclass(frozen=True)
class Outlook:
    waits_for: str | None = None  # customer, network, supplier or staff
    expected_by: datetime | None = None
    sentence: str = ""
    late: str = ""
    can_have_money_back: bool = False


def outlook_of(
    order: Order, payment: Payment | None, *, ready: int, has_failed: bool, asks_address: bool, is_stopped: bool
) -> Outlook:
    """Return what happens next; `is_stopped` says that a key is yet to be bought, and nothing is bought now."""
    if order.status == Order.Status.HELD:
        return _held(order, payment, ready=ready)
    if order.status in _MOVING:
        return _delivery(order, ready=ready, has_failed=has_failed, is_stopped=is_stopped)
    if payment is not None and payment.status in _ON_ITS_WAY:
        return _network(payment)
    if order.status in UNPAID:
        return _unpaid(order, payment)
    if order.status == Order.Status.REFUND_DUE:
        return Outlook("customer" if asks_address else "staff")
    return Outlook()


def is_overdue(order: Order) -> bool:
    """Whether the words changed because of the time alone."""
    return order.status in _MOVING and _since(order) + STAFF_TAKE_OVER < timezone.now()


def _since(order: Order) -> datetime:
    return order.paid_at or order.created_at


def _unpaid(order: Order, payment: Payment | None) -> Outlook:
    if payment is not None and payment.status == Payment.Status.REVIEW:
        return Outlook("staff")
    if payment is not None and payment.quote_runs:
        return Outlook("customer", payment.expires_at)
    # An underpaid order holds money, so it does not expire.
    return Outlook("customer", order.expires_at if order.status == Order.Status.PENDING else None)


def _network(payment: Payment) -> Outlook:
    span = until_confirmed(payment.pay_currency)
    since = payment.coins_seen_at or payment.created_at
    usual = _usually(span) or _("A few minutes for most coins, up to an hour for some.")
    late = _(
        "The network is slower than usual. Your money is safe: we continue as soon as it is confirmed, and e-mail you."
        " If nothing has moved by %(day)s, write to us with your order number."
    )
    return Outlook(
        "network",
        since + _patience(span, USUAL_NETWORK),
        _("The network is confirming it. %(usual)s You may close this page: we e-mail you.") % {"usual": usual},
        late % {"day": _day(since + STAFF_TAKE_OVER)},
    )


def _delivery(order: Order, *, ready: int, has_failed: bool, is_stopped: bool) -> Outlook:
    can_open = _can_open(ready)
    if has_failed:
        sentence = _("We could not get the rest. Our staff will e-mail you about the money for it.")
        return Outlook("staff", None, _joined(can_open, sentence))
    since, span = _since(order), until_delivery()
    if is_overdue(order):
        start = _("This takes far longer than it should, and our staff know. Your money is safe.")
        return Outlook("staff", None, _joined(can_open, start, _or_money_back()))
    if is_stopped:
        # Nobody knows until when, so no time is promised.
        start = _(
            "We have paused buying keys for the moment. As soon as we continue, we buy yours and e-mail you. Your money"
            " is safe."
        )
        return Outlook("staff", None, _joined(can_open, start, _or_money_back()))
    usual = _usually(span) or _("This usually takes a few minutes.")
    late = _(
        "This is taking longer than usual. We keep trying, and your money is safe. What is not here by %(day)s, our"
        " staff take over and write to you."
    )
    return Outlook(
        "supplier",
        since + _patience(span, USUAL_DELIVERY),
        _joined(can_open, _("The rest appears here automatically."))
        if ready
        else _joined(usual, _("You may close this page: we e-mail you when your key is ready.")),
        _joined(can_open, late % {"day": _day(since + STAFF_TAKE_OVER)}),
    )


def _can_open(ready: int) -> str:
    return _("You can open what is ready.") if ready else ""


def _or_money_back() -> str:
    if not settings.SUPPORT_EMAIL:
        return _("If you would rather have it back, write to us with your order number.")
    contact = _("If you would rather have it back, write to %(contact)s with your order number.")
    return contact % {"contact": settings.SUPPORT_EMAIL}


def _held(order: Order, payment: Payment | None, *, ready: int) -> Outlook:
    if order.reason not in RESUMABLE:
        if payment is not None and payment.status == Payment.Status.REFUNDED:
            # Whatever it was held for: the coins are not with us any more.
            return Outlook("staff", None, str(_HELD[OrderReason.PAYMENT_REFUNDED]))
        trouble = trouble_of(payment) if payment is not None else None
        sentence = str(_HELD.get(order.reason) or (trouble.sentence if trouble else ""))
        if ready and order.reason != OrderReason.PAYMENT_REFUNDED:
            sentence = _joined(_can_open(ready), sentence or str(order.customer_error or ""))
        return Outlook("staff", None, sentence)
    ends = _end_of_patience(order)
    why = _(WHY_IT_WAITS.get(order.reason, NOT_FOR_SALE))
    if ends is None:
        return Outlook(
            "staff", None, _joined(_can_open(ready), why, _("Our staff are looking at it, and we e-mail you."))
        )
    if ready:  # which stays theirs: only the money for the rest goes back, and staff see to that
        plan = _("We buy the rest as soon as we can. If we cannot get it by %(day)s, you get the money for it back.")
        late = _("We could not get the rest. Our staff will e-mail you about the money for it.")
        start = _joined(_("You can open what is ready."), why)
        return Outlook("supplier", ends, _joined(start, plan % {"day": _day(ends)}), _joined(start, late))
    can_have = objection_to_money_back(order) is None
    plan = _("We buy your key as soon as we can. If we cannot get it by %(day)s, your money goes back to you.")
    choice = _("You don't have to wait: you can have it back now.") if can_have else ""
    return Outlook(
        "supplier",
        ends,
        _joined(why, plan % {"day": _day(ends)}, choice),
        _joined(why, _("We are about to give your money back, and e-mail you.")),
        can_have_money_back=can_have,
    )


def _end_of_patience(order: Order) -> datetime | None:
    waiting = Reservation.objects.filter(item__order=order, replaces=None, status=Reservation.Status.HELD)
    ends = [
        (row.waiting_since or row.changed_at) + delay(row.item.product.stock_wait_hours * 3600)
        for row in waiting.select_related("item__product")
        if row.reason in RESUMABLE and row.supplier_order_id is None
    ]
    return min(ends, default=None)


def _patience(span: Span | None, default: timedelta) -> timedelta:
    return default if span is None else max(timedelta(seconds=span.mostly), LEAST_PATIENCE)


def _usually(span: Span | None) -> str:
    if span is None:
        return ""
    usually, mostly = _in_words(span.usually), _in_words(span.mostly)
    if mostly == usually:
        return _("This usually takes %(time)s.") % {"time": usually}
    return _("This usually takes %(time)s, sometimes %(longer)s.") % {"time": usually, "longer": mostly}


def _in_words(seconds: int) -> str:
    """Say a time as people do: nobody waits 37 minutes."""
    minutes = max(1, round(seconds / 60))
    if minutes >= 90:
        hours = round(minutes / 60)
        return ngettext("about %(number)s hour", "about %(number)s hours", hours) % {"number": hours}
    if minutes > 10:
        minutes = round(minutes / 5) * 5
    if minutes == 1:
        return _("about a minute")
    return ngettext("about %(number)s minute", "about %(number)s minutes", minutes) % {"number": minutes}


def _day(moment: datetime) -> str:
    return date_format(moment, pgettext("Django's format of a day and an hour", "l, j F, H:i")) + " UTC"


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)

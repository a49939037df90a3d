"""How a step ends: the next one follows, it waits and looks again, or it stops for staff."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_noop

from bitloot.core.clock import GIVE_UP_AFTER, backoff, delay
from bitloot.core.faults import failpoint
from bitloot.core.providers import Cause, ProviderError
from bitloot.core.sentences import Sentence
from fulfillment.choices import HoldReason, Notice
from fulfillment.models import Reservation
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Alert, Email, Order
from orders.services import queue_email
from orders.state import Step
from storage.models import Key

Status = Reservation.Status
LOOK_AGAIN_SECONDS = 900
REFUSED_SECONDS = 300
# Twenty minutes of backoff.
LEAST_TRIES = 10
NOT_WANTED = frozenset({Order.Status.REFUND_DUE, Order.Status.REFUNDED, Order.Status.CANCELLED})
MAX_LOOK_AGAIN_SECONDS = 7200
# What may pass: it is tried again until the product's patience ends.
RESUMABLE = frozenset(
    {
        HoldReason.OUT_OF_STOCK,
        HoldReason.TOO_EXPENSIVE,
        HoldReason.NO_FUNDS,
        HoldReason.SUPPLIER_CONFIG,
        HoldReason.SUPPLIER_UNAVAILABLE,
        HoldReason.REFUSED,
    }
)
CUSTOMER_SENTENCE = gettext_noop(
    "Our staff are looking at the delivery of your key. Your money and your order are safe."
)
PARTLY_DELIVERED = gettext_noop(
    "A part of your order cannot be delivered. You keep the rest; we write to you about the money."
)
WHY_IT_WAITS: dict[str, str] = {
    HoldReason.OUT_OF_STOCK: gettext_noop("Our supplier is out of stock."),
    HoldReason.TOO_EXPENSIVE: gettext_noop("The price at our supplier rose."),
}
NOT_FOR_SALE = gettext_noop("Our supplier cannot sell us your key at the moment.")


class Next(Enum):
    """What follows a step that is done waiting."""

    STEP = "the step of the status that the row has by now"
    NOTHING = "nothing, until a webhook, staff or a sweep wakes the row"


@dataclass(frozen=True)
class Wait:
    """Look at the row again after this time."""

    time: timedelta


StepResult = Next | Wait


def later(reservation: Reservation, err: ProviderError) -> StepResult:
    """A step that may be repeated waits out its backoff, and after a day goes to staff."""
    if err.cause is Cause.CREDENTIALS:
        # Our own trouble: no order is held for it, however long it takes, and no try is counted.
        mine = Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token)
        mine.update(last_error=str(err)[:300])
        return Wait(delay(REFUSED_SECONDS))
    attempts = reservation.attempts + 1
    # Age alone proves nothing: the row may have waited for stock, or for the end of SAFE_MODE.
    if attempts > LEAST_TRIES and age(reservation, reservation.reserved_at or reservation.created_at) > GIVE_UP_AFTER:
        sentence = f"The supplier gave no usable answer for a day: {err}"[:300]
        if reservation.supplier_order_id is None:
            return wait_or_give_up(reservation, HoldReason.SUPPLIER_UNAVAILABLE, sentence)
        return hold(reservation, HoldReason.SUPPLIER_UNAVAILABLE, sentence)
    Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).update(
        attempts=attempts, last_error=str(err)[:300]
    )
    reservation.attempts = attempts
    return Wait(backoff(attempts))


def age(reservation: Reservation, since: datetime | None) -> float:
    """Return the seconds from then to this claim; both are moments of the database's clock."""
    return 0.0 if since is None else (reservation.claimed_at - since) / delay(1)


def hold(
    reservation: Reservation,
    reason: HoldReason,
    message: str,
    *,
    sentence: str = CUSTOMER_SENTENCE,
    until: datetime | None = None,
    **fields: Any,
) -> StepResult:
    """Stop: reservation and order held, alert opened, customer told. The order of a replacement stays as it is.

    Locks the order, then the reservation. Raises LeaseLost.
    """
    with transaction.atomic():
        order = reservation.item.order.lock()
        # Held before, it keeps the reason of then; the alert below tells of this one.
        if reservation.status != Status.HELD:
            reservation.record(Status.HELD, message=message, reason=reason, last_error=message[:300], **fields)
            failpoint("hold.recorded")
        if _can_hold(order) and not reservation.is_replacement:
            order.hold(reason=reason, message=sentence)
            _tell_delayed(reservation, order, reason, until)
        alert(reservation, reason, f"{message} Open the purchase in the admin to decide.")
    failpoint("hold.committed")
    return Next.NOTHING


def wait_or_give_up(reservation: Reservation, reason: HoldReason, message: str) -> StepResult:
    """It cannot be bought now: hold and look again later, or owe the money back once the product's patience is over.

    The only place that decides between the two: patience counts from the first refusal on, and a catalogue that says
    yes in between does not restart it.
    """
    patience = reservation.item.product.stock_wait_hours * 3600
    held_since = reservation.changed_at if reservation.status == Status.HELD else None
    rest = patience - age(reservation, reservation.waiting_since or held_since)
    if rest <= 0:
        _give_up_buying(reservation, reason, message)
        return Next.NOTHING
    why = WHY_IT_WAITS.get(reason, NOT_FOR_SALE)
    hours = reservation.item.product.stock_wait_hours
    sentence = Sentence(
        "%(why)s We buy your key as soon as we can. If that takes longer than %(hours)s hours, we return your money.",
        why=why,
        hours=hours,
    )
    since = reservation.waiting_since or Now()
    until = timezone.now() + delay(rest)
    hold(reservation, reason, message, sentence=sentence, until=until, waiting_since=since)
    return Wait(delay(min(_pause(reservation), rest)))


def _pause(reservation: Reservation) -> float:
    """A quarter of an hour; longer the more purchases were refused, which costs the supplier more than a quote."""
    refused = reservation.permits.count()
    return float(min(LOOK_AGAIN_SECONDS * 2 ** min(max(refused - 1, 0), 10), MAX_LOOK_AGAIN_SECONDS))


def _give_up_buying(reservation: Reservation, reason: HoldReason, message: str) -> None:
    why = gettext_noop("The key did not become available in time.")
    # A purchase that was sent may not end as `cancelled`; by way of `held` the timeline says that nothing was bought.
    via = Step(Status.HELD, message) if reservation.status == Status.SENDING else None
    remedy = "Replace the key by hand." if reservation.is_replacement else "Settle the order."
    with transaction.atomic():
        order = reservation.item.order.lock()
        reservation.record(Status.CANCELLED, message=why, via=via, reason=reason, last_error=message[:300])
        if not reservation.is_replacement:
            owe_back(order, reason, why)
        alert(reservation, Notice.NEVER_AVAILABLE, f"{reservation} did not become available in time. {remedy}")


def _can_hold(order: Order) -> bool:
    return Order.Status.HELD in Order.TRANSITIONS[order.status] and order.status not in NOT_WANTED


def _tell_delayed(reservation: Reservation, order: Order, reason: HoldReason, until: datetime | None) -> None:
    """Mail the customer, once for each cause: an order may be held, bought again and held many times over."""
    cause = "staff"
    if until is not None:
        cause = reason.value if reason in WHY_IT_WAITS else "supplier"
    if Email.objects.filter(order=order, kind=Email.Kind.DELAYED, facts__cause=cause).exists():
        return
    ends: dict[str, Any] = {} if until is None else {"until": until.isoformat()}
    queue_email(order, Email.Kind.DELAYED, cause=cause, title=reservation.item.title, **ends)


def _tell_once(order: Order, kind: Email.Kind) -> None:
    if not Email.objects.filter(order=order, kind=kind).exists():
        queue_email(order, kind)


def waits_for_a_purchase(order: Order) -> bool:
    """Return whether the order is held only for one of its purchases, so that the worker may resume it.

    What staff held, or what lost its money, only staff resume. The caller holds the order's lock.
    """
    if order.status != Order.Status.HELD or not order.reason:
        return False
    return Reservation.objects.filter(item__order=order, replaces=None, reason=order.reason).exists()


def owe_back(order: Order, reason: HoldReason, message: str) -> None:
    """Owe the customer the money; staff decide about an order that was delivered in part."""
    if Key.objects.filter(item__order=order).exists():
        if Order.Status.HELD in Order.TRANSITIONS[order.status]:
            order.hold(reason=HoldReason.PARTLY_DELIVERED, message=PARTLY_DELIVERED)
            _tell_once(order, Email.Kind.PARTLY_UNDELIVERED)
        return
    if Order.Status.REFUND_DUE in Order.TRANSITIONS[order.status]:
        # Its receiver in payments opens the refunds, and each asks the customer for an address by mail.
        order.mark_refund_due(reason=reason, message=message)


def alert(reservation: Reservation, about: HoldReason | Notice, message: str) -> None:
    """Open an alert about the reservation: staff get one mail for each cause, however often it comes back."""
    mine = Alert.objects.filter(kind=AlertKind.RESERVATION, **Alert.key_of(reservation))
    if not mine.filter(message__startswith=f"[{about}]").exists():
        close_alert(AlertKind.RESERVATION, reservation)  # of another cause; it would take this one up in silence
    elif mine.filter(status=Alert.Status.OPEN).exclude(message__startswith=f"[{about}]").exists():
        # Told before, and an alert about this reservation is open. Its message stays: the messages are what remembers
        # which causes were told.
        return
    raise_alert(AlertKind.RESERVATION, reservation, f"[{about}] {message}", order=reservation.item.order)

"""How a step ends: the next one follows, it waits and looks again, or it stops for staff."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from django.db import transaction

from bitloot.core.clock import GIVE_UP_AFTER, backoff, delay
from bitloot.core.faults import failpoint
from bitloot.core.providers import Cause, ProviderError
from fulfillment.choices import HoldReason, Notice
from fulfillment.models import Reservation
from orders.alerts import raise_alert
from orders.choices import AlertKind
from orders.models import Email, Order
from orders.services import queue_email
from storage.models import Key

Status = Reservation.Status
LOOK_AGAIN_SECONDS = 900
REFUSED_SECONDS = 300
# Twenty minutes of backoff.
LEAST_TRIES = 10
NOT_WANTED = frozenset({Order.Status.REFUND_DUE, Order.Status.REFUNDED, Order.Status.CANCELLED})
RESUMABLE = frozenset(
    {HoldReason.OUT_OF_STOCK, HoldReason.TOO_EXPENSIVE, HoldReason.NO_FUNDS, HoldReason.SUPPLIER_CONFIG}
)
CUSTOMER_SENTENCE = "Something about the delivery needs a person. Your money and your order are safe."
CUSTOMER_SENTENCES: dict[str, str] = {
    HoldReason.PARTLY_DELIVERED: (
        "A part of your order cannot be delivered. You keep the rest; we write to you about the money."
    ),
    HoldReason.OUT_OF_STOCK: (
        "Our supplier is out of stock. We buy your key as soon as it is back, or return your money."
    ),
    HoldReason.TOO_EXPENSIVE: (
        "The price at our supplier rose. We buy your key as soon as we can, or return your money."
    ),
}


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
    """A step that may be repeated waits out its backoff, and after a day goes to a person."""
    if err.cause is Cause.CREDENTIALS:
        # Our own trouble: no order is held for it, however long it takes, and no try is counted.
        mine = Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token)
        mine.update(last_error=str(err)[:300])
        return Wait(delay(REFUSED_SECONDS))
    attempts = reservation.attempts + 1
    # Its age alone says little: the row may have waited for stock, or for the end of SAFE_MODE.
    if attempts > LEAST_TRIES and age(reservation, reservation.reserved_at or reservation.created_at) > GIVE_UP_AFTER:
        sentence = f"The supplier gave no usable answer for a day: {err}"[:300]
        return hold(reservation, HoldReason.SUPPLIER_UNAVAILABLE, sentence)
    Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).update(
        attempts=attempts, last_error=str(err)[:300]
    )
    reservation.attempts = attempts
    return Wait(backoff(attempts))


def age(reservation: Reservation, since: datetime | None) -> float:
    """Return the seconds from then to this claim; both are moments of the database's clock."""
    return 0.0 if since is None else (reservation.claimed_at - since) / delay(1)


def hold(reservation: Reservation, reason: HoldReason, message: str) -> StepResult:
    """Stop for a person: reservation and order held, alert opened, customer told. RESUMABLE reasons look again."""
    with transaction.atomic():
        order = reservation.item.order.lock()
        if reservation.status != Status.HELD:
            reservation.record(Status.HELD, message=message, reason=reason, last_error=message[:300])
            failpoint("hold.recorded")
        if Order.Status.HELD in Order.TRANSITIONS[order.status] and order.status not in NOT_WANTED:
            sentence = CUSTOMER_SENTENCES.get(reason, CUSTOMER_SENTENCE)
            order.hold(reason=reason, message=sentence)
            queue_email(order, Email.Kind.PROBLEM, reason=sentence)
        alert(reservation, reason, f"{message} Open the reservation in the admin to decide.")
    failpoint("hold.committed")
    return Wait(delay(LOOK_AGAIN_SECONDS)) if reason in RESUMABLE else Next.NOTHING


def waits_for_a_purchase(order: Order) -> bool:
    """Say whether the order is held only for one of its purchases, so that the machine may let it go on.

    What staff hold, or what lost its money, is for a person. The caller holds the order's lock.
    """
    if order.status != Order.Status.HELD or not order.reason:
        return False
    return Reservation.objects.filter(item__order=order, reason=order.reason).exists()


def owe_back(order: Order, reason: HoldReason, message: str) -> None:
    """Owe the customer the money; a person decides about an order of which some keys were delivered already."""
    if Key.objects.filter(item__order=order).exists():
        if Order.Status.HELD in Order.TRANSITIONS[order.status]:
            sentence = CUSTOMER_SENTENCES[HoldReason.PARTLY_DELIVERED]
            order.hold(reason=HoldReason.PARTLY_DELIVERED, message=sentence)
            queue_email(order, Email.Kind.PROBLEM, reason=sentence)
        return
    if Order.Status.REFUND_DUE in Order.TRANSITIONS[order.status]:
        order.mark_refund_due(reason=reason, message=message)
        queue_email(order, Email.Kind.PROBLEM, reason=f"{message} Our staff will write to you about your money.")


def alert(reservation: Reservation, about: HoldReason | Notice, message: str) -> None:
    raise_alert(AlertKind.RESERVATION, reservation, f"[{about}] {message}", order=reservation.item.order)

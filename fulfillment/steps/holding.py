"""How a step ends: it goes on, it waits and looks again, or it stops for a person."""

from datetime import datetime, timedelta

from django.db import transaction

from bitloot.core.clock import GIVE_UP_AFTER, backoff, delay
from bitloot.core.faults import failpoint
from bitloot.core.providers import ProviderError
from fulfillment.models import Reservation
from orders.alerts import raise_alert
from orders.models import Email, Order
from orders.services import queue_email
from storage.models import Key

Status = Reservation.Status
LOOK_AGAIN_SECONDS = 900
# Twenty minutes of backoff.
LEAST_TRIES = 10
NOT_WANTED = frozenset({Order.Status.REFUND_DUE, Order.Status.REFUNDED, Order.Status.CANCELLED})
RESUMABLE = frozenset({"out_of_stock", "too_expensive", "no_funds", "supplier_config"})
CUSTOMER_SENTENCES = {
    "partly_delivered": "A part of your order cannot be delivered. You keep the rest; we write to you about the money.",
    "": "Something about the delivery needs a person. Your money and your order are safe.",
    "out_of_stock": "Our supplier is out of stock. We buy your key as soon as it is back, or return your money.",
    "too_expensive": "The price at our supplier rose. We buy your key as soon as we can, or return your money.",
}

GO_ON = timedelta(0)
STOP = None
Pause = timedelta | None


def later(reservation: Reservation, err: ProviderError) -> Pause:
    """A step that may be repeated waits out its backoff, and after a day goes to a person."""
    attempts = reservation.attempts + 1
    # Its age alone says little: the row may have waited for stock, or for the end of SAFE_MODE.
    if attempts > LEAST_TRIES and age(reservation, reservation.reserved_at or reservation.created_at) > GIVE_UP_AFTER:
        return hold(reservation, "supplier_unavailable", f"The supplier gave no usable answer for a day: {err}"[:300])
    Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).update(
        attempts=attempts, last_error=str(err)[:300]
    )
    reservation.attempts = attempts
    return backoff(attempts)


def age(reservation: Reservation, since: datetime | None) -> float:
    """Return the seconds from then to this claim; both are moments of the database's clock."""
    return 0.0 if since is None else (reservation.claimed_at - since) / delay(1)


def hold(reservation: Reservation, reason: str, message: str) -> Pause:
    """Stop for a person: reservation and order held, alert opened, customer told. RESUMABLE reasons look again."""
    with transaction.atomic():
        order = reservation.item.order.lock()
        if reservation.status != Status.HELD:
            reservation.record(Status.HELD, message=message, reason=reason, last_error=message[:300])
            failpoint("hold.recorded")
        if Order.Status.HELD in Order.TRANSITIONS[order.status] and order.status not in NOT_WANTED:
            sentence = CUSTOMER_SENTENCES.get(reason, CUSTOMER_SENTENCES[""])
            order.hold(reason=reason, message=sentence)
            queue_email(order, Email.Kind.PROBLEM, reason=sentence)
        alert(reservation, reason, f"{message} Open the reservation in the admin to decide.")
    failpoint("hold.committed")
    return delay(LOOK_AGAIN_SECONDS) if reason in RESUMABLE else STOP


def is_without_money(order: Order) -> bool:
    """Say whether the order's payment went back by itself, so that nothing may be handed out until a person decides."""
    return order.status == Order.Status.HELD and order.reason == Order.MONEY_WENT_BACK


def waits_for_a_purchase(order: Order) -> bool:
    """Say whether the order is held only for one of its purchases, so that the machine may let it go on.

    What staff hold, or what lost its money, is for a person. The caller holds the order's lock.
    """
    if order.status != Order.Status.HELD or not order.reason:
        return False
    return Reservation.objects.filter(item__order=order, reason=order.reason).exists()


def owe_back(order: Order, reason: str, message: str) -> None:
    """Owe the customer the money; a person decides about an order of which some keys were delivered already."""
    if Key.objects.filter(item__order=order).exists():
        if Order.Status.HELD in Order.TRANSITIONS[order.status]:
            order.hold(reason="partly_delivered", message=CUSTOMER_SENTENCES["partly_delivered"])
            queue_email(order, Email.Kind.PROBLEM, reason=CUSTOMER_SENTENCES["partly_delivered"])
        return
    if Order.Status.REFUND_DUE in Order.TRANSITIONS[order.status]:
        order.mark_refund_due(reason=reason, message=message)
        queue_email(order, Email.Kind.PROBLEM, reason=f"{message} Our staff will write to you about your money.")


def alert(reservation: Reservation, kind: str, message: str) -> None:
    raise_alert("reservation", str(reservation), f"[{kind}] {message}", order=reservation.item.order)

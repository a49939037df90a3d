"""What webhooks, staff and customers ask of fulfilment. The pipeline does the moving."""

import logging
import re

from django.db import transaction
from django.db.models import Count, F
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.core import queries, wakeup
from bitloot.core.decisions import Decision, demand
from bitloot.core.outcome import Outcome
from fulfillment import kinguin
from fulfillment.exceptions import KeysGone, NotDeliverable, NothingStored, UnknownProduct
from fulfillment.kinguin import SupplierEvent
from fulfillment.models import Reservation
from fulfillment.steps.buying import BUYABLE
from fulfillment.steps.holding import waits_for_a_purchase
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Order
from orders.services import renew_link
from storage.exceptions import KeyShredded
from storage.models import Key
from storage.services import ready_keys

logger = logging.getLogger(__name__)

KINGUIN_PRODUCT = re.compile(r"[0-9a-f]{24}")
Status = Reservation.Status
TAKEN_BACK = ("canceled", "cancelled", "refunded")


def check_product(product_id: str) -> None:
    """Ask the supplier about a product of theirs. Raises UnknownProduct, or ProviderError if they do not answer."""
    client = kinguin.client()
    # They number their products as well, and that number is what the addresses of their shop show.
    if client.dialect == "ecommerce" and not KINGUIN_PRODUCT.fullmatch(product_id):
        raise UnknownProduct("Kinguin's productId has 24 digits from 0-9 and a-f; the short kinguinId is another one.")
    try:
        client.quote(product_id)
    except kinguin.OutOfStock as err:
        raise UnknownProduct(
            "Kinguin has no such product, or nobody sells it there now. Check the id, or save the product inactive."
        ) from err


def handle_supplier_event(event: SupplierEvent) -> Outcome:
    """Look at the reservation a webhook names, soon; what the webhook claims moves nothing by itself."""
    if event.kind != "order":
        return Outcome.ignored(event.kind)
    reservation = _named(event)
    if reservation is None:
        return Outcome.ignored("no purchase of ours")
    other_order = reservation.supplier_order_id and event.order_id and event.order_id != reservation.supplier_order_id
    if other_order:
        raise_alert(
            AlertKind.DOUBLE_PURCHASE,
            reservation,
            f"The supplier speaks of order {event.order_id} for {reservation}, we know {reservation.supplier_order_id}."
            " Look both up in the supplier's dashboard.",
        )
    if reservation.manual and event.order_id and event.status.lower() not in TAKEN_BACK:
        raise_alert(
            AlertKind.SURPLUS,
            reservation,
            f"The supplier has order {event.order_id} for {reservation}, which was delivered by hand. Return its keys.",
            order=reservation.item.order,
        )
    if reservation.status == Status.DELIVERED:
        return _after_delivery(reservation, event)
    run_now(reservation)
    return Outcome.processed(f"looking at {reservation}")


def run_now(reservation: Reservation) -> None:
    """Put the reservation on top of the queue; a worker that is at it looks again when it is done."""
    reservation.wake()
    wakeup.notify("fulfillment")


def objection_to_running(reservation: Reservation) -> str | None:
    if reservation.status == Status.DELIVERED:
        return "It is delivered already; there is nothing to do."
    if reservation.status in (Status.CANCELLED, Status.FAILED):
        return "It has ended; nothing was changed."
    if is_open_question(reservation):
        return "Whether it was bought is unknown. Search for it at the supplier instead."
    return _in_hand(reservation)


def objection_to_searching(reservation: Reservation) -> str | None:
    return _in_hand(reservation) if is_open_question(reservation) else "There is nothing to search for."


def run(reservation: Reservation, *, actor: str) -> None:
    """Let a worker take the next step now. Raises DecisionRefused."""
    with transaction.atomic():
        demand(objection_to_running(reservation.lock()))
        run_now(reservation)


def search(reservation: Reservation, *, actor: str) -> None:
    """Let a worker ask the supplier now whether the purchase exists; nothing is bought. Raises DecisionRefused."""
    with transaction.atomic():
        demand(objection_to_searching(reservation.lock()))
        run_now(reservation)


def objection_to_running_order(order: Order) -> str | None:
    can_run = order.status in (*BUYABLE, Order.Status.HELD, Order.Status.FULFILLED)
    if not can_run or order.paid_at is None:
        return "It is not paid, or its money goes back; nothing was changed."
    # A delivered order may still wait for the replacement of a key.
    unfinished = Reservation.objects.filter(item__order=order).exclude(status=Status.DELIVERED)
    return None if unfinished.exists() else "Every key of it is delivered; there is nothing to run."


def run_order(order: Order, *, actor: str) -> None:
    """Try every unfinished item of a paid order now. Locks the order. Raises NotDeliverable."""
    with transaction.atomic():
        order = order.lock()
        demand(objection_to_running_order(order), NotDeliverable)
        order.note("staff", "Staff asked for the delivery to run now.", actor=actor)
        for reservation in Reservation.objects.filter(item__order=order).exclude(status=Status.DELIVERED):
            run_now(reservation)


def objection_to_resuming(reservation: Reservation) -> str | None:
    if reservation.status != Status.HELD:
        return "It is not held; nothing was changed."
    if reservation.supplier_order_id or reservation.unknown_at:
        return "Something may have been bought for it, so it is not bought again. Run it, or search for it, instead."
    return None


def resume(reservation: Reservation, *, actor: str) -> None:
    """Let a held reservation be bought as if it were new. Locks order and reservation. Raises DecisionRefused."""
    with transaction.atomic():
        order = reservation.item.order.lock()
        # Asked before the move below, which empties the reason that it compares.
        goes_on = waits_for_a_purchase(order)
        # Since staff looked at it a worker may have begun to buy.
        demand(objection_to_resuming(reservation.lock()))
        reservation.move(
            Status.PENDING,
            message="Staff let it continue.",
            actor=actor,
            reason="",
            next_attempt_at=Now(),
            crashes=0,
            waiting_since=None,
        )
        close_alert(AlertKind.RESERVATION, reservation, by=actor)
        if goes_on:
            order.mark_fulfilling()
        run_now(reservation)


def keys_of(order: Order) -> list[Key]:
    """Return the keys that the customer may open now. Raises NothingStored or KeysGone.

    Of an order that was delivered in part, they stay with the customer when the money goes back.
    """
    if order.status in (Order.Status.REFUNDED, Order.Status.REFUND_DUE) and not _is_delivered_in_part(order):
        raise KeysGone
    try:
        keys = ready_keys(order)
    except KeyShredded as err:
        raise KeysGone from err
    if not keys:
        raise NothingStored
    return keys


def _is_delivered_in_part(order: Order) -> bool:
    items = order.items.annotate(number=Count("keys"))
    return items.filter(number__gt=0).exists() and items.filter(number__lt=F("quantity")).exists()


def objection_to_resending(order: Order) -> str | None:
    try:
        keys_of(order)
    except NothingStored:
        return "No key of it is here yet. The customer gets a mail once there is one."
    except KeysGone:
        return "Its keys were destroyed, or its money went back."
    return None


def resend(order: Order, *, actor: str) -> None:
    """Mail a fresh link to the keys of an order. Raises DecisionRefused."""
    with transaction.atomic():
        order = order.lock()
        demand(objection_to_resending(order))
        renew_link(order, actor=actor)


def is_open_question(reservation: Reservation) -> bool:
    """Whether nobody knows if something was bought: then only a search may follow."""
    return reservation.supplier_order_id is None and (
        reservation.status == Status.UNKNOWN or reservation.unknown_at is not None
    )


def _in_hand(reservation: Reservation) -> str | None:
    is_claimed = reservation.claimed_until is not None and reservation.claimed_until > timezone.now()
    return "A worker is handling it right now; try again in a moment." if is_claimed else None


def _named(event: SupplierEvent) -> Reservation | None:
    """Find it by our name, which nobody else gives, and only then by the supplier's."""
    for name, value in (("external_id", event.external_id), ("supplier_order_id", event.order_id)):
        if value and (found := queries.select(Reservation, {name: value})):
            return found[0]
    return None


def _after_delivery(reservation: Reservation, event: SupplierEvent) -> Outcome:
    if event.status.lower() not in TAKEN_BACK or reservation.manual:
        return Outcome.processed("nothing new: it is delivered")
    raise_alert(
        AlertKind.SUPPLIER_AFTER_DELIVERY,
        reservation,
        f"The supplier says “{event.status[:20]}” of {reservation}, which is delivered. Check the key with them.",
        order=reservation.item.order,
    )
    return Outcome.processed("alert: the supplier took back a delivered key")


RUN = Decision(
    name="run_now",
    label="Run now",
    permission="fulfillment.run_purchase",
    objection=objection_to_running,
    carry_out=run,
    done="a worker takes its next step within seconds",
)
SEARCH = Decision(
    name="search",
    label="Search at the supplier",
    permission="fulfillment.search_purchase",
    objection=objection_to_searching,
    carry_out=search,
    done="the supplier is asked for it within seconds; it is never bought again",
)
RESUME = Decision(
    name="resume",
    label="Let it continue",
    permission="fulfillment.resume_purchase",
    objection=objection_to_resuming,
    carry_out=resume,
    done="it is bought as if it were new, at today's price and cap",
)
RESEND = Decision(
    name="resend_delivery",
    label="Mail the keys' link again",
    permission="orders.renew_link",
    objection=objection_to_resending,
    carry_out=resend,
    done="a fresh link to its keys goes to the customer; older links no longer open the order",
)
RUN_ORDER = Decision(
    name="run_delivery",
    label="Run the delivery now",
    permission="fulfillment.run_delivery",
    objection=objection_to_running_order,
    carry_out=run_order,
    done="a worker looks at every item that is not delivered within seconds",
)

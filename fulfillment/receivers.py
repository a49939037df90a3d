"""News from the orders below: open the rows of work and notify the workers, nothing else."""

from typing import Any

from django.conf import settings
from django.dispatch import receiver

from bitloot.core import queries, wakeup
from fulfillment.models import Reservation
from orders.models import Order, OrderItem
from orders.signals import order_paid, order_refund_due


@receiver(order_paid)
def open_reservations(order: Order, **_: Any) -> None:
    """Open one reservation per item; an order paid again (after a hold) keeps those it has."""
    for item in queries.select(OrderItem, {"order": order.pk}):
        # The item's id is the name at the supplier: a repeat finds the row, and a search finds the purchase.
        reservation = Reservation(item=item, external_id=str(item.id), dialect=settings.KINGUIN_API)
        queries.insert(reservation, unless_taken="external_id")
    wakeup.notify("fulfillment")


@receiver(order_refund_due)
def look_at_reservations(order: Order, **_: Any) -> None:
    """Let the pipeline see that the order's money goes back: what is not bought yet will not be bought."""
    # Woken, not changed: a purchase under way has to end first, and only the worker that sent it knows how.
    for reservation in Reservation.objects.filter(item__order=order).exclude(status=Reservation.Status.DELIVERED):
        reservation.wake()
    wakeup.notify("fulfillment")

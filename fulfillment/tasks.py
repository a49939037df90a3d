from celery import shared_task

from bitloot.core.queue import drain
from fulfillment import balance, pipeline, sync
from fulfillment.models import Reservation


@shared_task(name="fulfillment.drain")
def drain_reservations() -> int:
    """Advance the reservations that are due."""
    return drain("fulfillment", Reservation.objects.all(), pipeline.advance_claimed, give_up=pipeline.give_up)


@shared_task(name="fulfillment.balance")
def watch_funds() -> None:
    """Look at our balance at the supplier, and tell staff before it is too low."""
    balance.watch()


@shared_task(name="fulfillment.stock")
def look_at_stock() -> int:
    """Ask the supplier about the products that are due, so that the shop knows what they cost and what is sold out."""
    return sync.sweep()

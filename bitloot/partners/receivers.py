from typing import Any

from django.dispatch import receiver

from bitloot.core import wakeup
from bitloot.partners.events import event_of, order_facts, payload
from bitloot.partners.services import enabled_endpoints, owe
from orders.models import Order
from orders.signals import order_moved


@receiver(order_moved, sender=Order)
def owe_news(order: Order, to: str, **_: Any) -> None:
    """Owe the news to each endpoint that asked for it, in the transaction that moves the order."""
    event = event_of(to)
    endpoints = [] if event is None else enabled_endpoints(order.placed_with, event)
    if event is not None and endpoints:
        owe(endpoints, payload(event, **order_facts(order, to)), order=order)
        wakeup.notify("partners")

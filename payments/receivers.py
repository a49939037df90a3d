from typing import Any

from django.dispatch import receiver

from orders.models import Order
from orders.signals import order_refund_due
from payments import refunds


@receiver(order_refund_due)
def open_refunds(order: Order, **_: Any) -> None:
    refunds.owe_back(order)

"""What a shop can be told of: one event for each status that an order reaches."""

from datetime import datetime
from typing import Any

from django.db.models import TextChoices
from django.utils import timezone

from orders.models import Order


class Event(TextChoices):
    UNDERPAID = "order.underpaid", "Paid in part"
    PAID = "order.paid", "Paid"
    PARTIALLY_FULFILLED = "order.partially_fulfilled", "Some of its keys are ready"
    FULFILLED = "order.fulfilled", "All of its keys are ready"
    HELD = "order.held", "Stopped until staff decide"
    EXPIRED = "order.expired", "Nobody paid in time"
    CANCELLED = "order.cancelled", "Cancelled before any money came"
    FAILED = "order.failed", "Could not be delivered"
    REFUND_DUE = "order.refund_due", "Its money goes back"
    REFUNDED = "order.refunded", "Its money went back"


# Sent by a button, to every endpoint whatever it asked for.
TEST = "webhook.test"


def event_of(status: str) -> Event | None:
    """Return the event of an order that reaches this status; not every one is news."""
    name = f"order.{status}"
    return Event(name) if name in Event.values else None


def payload(kind: str, **facts: str) -> dict[str, Any]:
    """Return the body in the form of Standard Webhooks. It holds no key, token, link or address."""
    return {"type": kind, "timestamp": _written(timezone.now()), "data": facts}


def order_facts(order: Order, status: str) -> dict[str, str]:
    return {
        "order_id": str(order.pk),
        "status": status,
        "fulfillment_status": Order.FULFILLMENT_WORD.get(status, "failed"),
        "total": str(order.total),
        "currency": order.currency,
    }


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

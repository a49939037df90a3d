"""The order as its customer sees it: orders, payments and fulfilment read together. Asks no provider."""

from collections import Counter
from decimal import Decimal
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bitloot.shop.serializers import OrderSerializer
from fulfillment.models import Reservation
from orders.access import order_for
from orders.models import Order, OrderEvent, OrderItem
from payments.balance import amount_due
from payments.models import Payment
from payments.serializers import RefundSerializer, payment_body
from storage.models import Key

_ITEM_WORD = {"delivered": "fulfilled", "cancelled": "failed", "failed": "failed"}
_PURCHASE_SENTENCES = {
    "pending": "The purchase of a key waits for its turn.",
    "sending": "A key is being bought.",
    "reserved": "A key was bought.",
    "given": "The supplier hands the key over.",
    "delivered": "The key is sealed and kept for you.",
    "unknown": "The supplier did not answer clearly; we are asking what became of the purchase.",
    "held": "The purchase of a key waits for a person.",
    "cancelled": "The purchase of a key was cancelled.",
    "failed": "A key could not be bought.",
}
# The payment that matters to the customer: money that came, then the one they are paying, then the newest.
_WEIGHT = {"finished": 4, "sending": 3, "confirmed": 3, "confirming": 3, "review": 3, "partially_paid": 2}


class OrderRead(APIView):
    throttle_scope = "read"

    @extend_schema(responses=OrderSerializer)
    def get(self, request: Request, order_id: str) -> Response:
        """Show the order, its payment, its items' delivery and its timeline."""
        return Response(order_body(order_for(request, order_id)))


def order_body(order: Order) -> dict[str, Any]:
    payment = _payment_to_show(order)
    return {
        "id": order.id,
        "status": order.status,
        "fulfillment_status": order.fulfillment_word,
        "total": str(order.total),
        "currency": order.currency,
        "email": order.masked_email,
        "created_at": order.created_at,
        "expires_at": order.expires_at,
        "error": order.customer_error,
        "items": _items(order),
        "amount_due": str(max(amount_due(order), Decimal(0))),
        "payment": None if payment is None else payment_body(payment),
        "refunds": RefundSerializer(order.refunds.all(), many=True).data,
        "timeline": [_line(event) for event in order.events.exclude(kind="staff")],
    }


def _line(event: OrderEvent) -> dict[str, Any]:
    """Show a line of the timeline; what passes between us and the supplier is told in general words."""
    message = _PURCHASE_SENTENCES.get(event.to_status, event.message) if event.kind == "reservation" else event.message
    return {"at": event.at, "kind": event.kind, "event": event.to_status or event.kind, "message": message}


def _payment_to_show(order: Order) -> Payment | None:
    payments = list(order.payments.order_by("created_at"))
    return max(payments, key=lambda payment: (_weight(payment), payment.created_at), default=None)


def _weight(payment: Payment) -> float:
    being_paid = payment.status == Payment.Status.CREATING and not payment.reason
    being_paid |= payment.status == Payment.Status.WAITING and (payment.expires_at or timezone.now()) > timezone.now()
    return 2.5 if being_paid else _WEIGHT.get(payment.status, 1)


def _items(order: Order) -> list[dict[str, Any]]:
    items = list(order.items.select_related("product"))
    statuses = dict(Reservation.objects.filter(item__order=order).values_list("item_id", "status"))
    kept = Key.objects.filter(item__order=order).exclude(status=Key.Status.SHREDDED)
    ready = Counter(kept.values_list("item_id", flat=True))
    return [_item(item, statuses.get(item.pk), ready[item.pk]) for item in items]


def _item(item: OrderItem, status: str | None, keys_ready: int) -> dict[str, Any]:
    product = item.product
    return {
        "id": item.id,
        "product": {"slug": product.slug, "title": item.title, "cover": product.cover},
        "quantity": item.quantity,
        "unit_price": str(item.unit_price),
        "status": "pending" if status is None else _ITEM_WORD.get(status, "processing"),
        "keys_ready": keys_ready,
    }

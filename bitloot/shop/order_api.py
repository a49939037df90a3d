"""The order as its customer sees it: orders, payments and fulfilment read together. Asks no provider."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q
from django.http import HttpResponseBase
from django.views.decorators.http import condition
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bitloot.shop.order_version import Version, version_of
from bitloot.shop.serializers import OrderSerializer
from orders.access import order_for
from orders.models import Order
from payments.balance import left_to_pay
from payments.models import Payment, Refund
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


_IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="The ETag of the last answer; 304 if nothing changed."
)


class OrderRead(APIView):
    throttle_scope = "read"

    @extend_schema(
        responses={200: OrderSerializer, 304: OpenApiResponse(description="Nothing changed.")},
        parameters=[_IF_NONE_MATCH],
    )
    def get(self, request: Request, order_id: str) -> HttpResponseBase:
        """Show the order, its payment, its items' delivery and its timeline."""
        order = order_for(request, order_id)
        # Before the rest is read: what changes in between is then shown with an older ETag, and again at the next poll.
        version = version_of(order)

        @condition(etag_func=lambda _request: version.etag)
        def answer(_request: Request) -> Response:
            return Response(order_body(order, version))

        return answer(request)


def order_body(order: Order, version: Version) -> dict[str, Any]:
    payments = list(order.payments.all()) if "payment" in version.parts else []
    payment = _payment_to_show(payments)
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
        "amount_due": str(left_to_pay(order, payments)),
        "payment": None if payment is None else payment_body(payment),
        "refunds": _refunds(order) if "refund" in version.parts else [],
        "timeline": _timeline(order),
    }


def _refunds(order: Order) -> Any:
    return RefundSerializer(Refund.objects.with_needs_memo().filter(order=order), many=True).data


def _timeline(order: Order) -> list[dict[str, Any]]:
    events = order.events.exclude(kind="staff").values_list("at", "kind", "to_status", "message")
    return [_line(*event) for event in events]


def _line(at: datetime, kind: str, to_status: str, message: str) -> dict[str, Any]:
    """Show a line of the timeline; what passes between us and the supplier is told in general words."""
    if kind == "reservation":
        message = _PURCHASE_SENTENCES.get(to_status, message)
    return {"at": at, "event": to_status or kind, "message": message}


def _payment_to_show(payments: Sequence[Payment]) -> Payment | None:
    return max(payments, key=lambda payment: (_weight(payment), payment.created_at), default=None)


def _weight(payment: Payment) -> float:
    being_paid = payment.status == Payment.Status.CREATING and not payment.reason
    return 2.5 if being_paid or payment.quote_runs else _WEIGHT.get(payment.status, 1)


def _items(order: Order) -> list[dict[str, Any]]:
    ready = Count("keys", filter=~Q(keys__status=Key.Status.SHREDDED))
    rows = order.items.annotate(ready=ready).values_list(
        "id", "title", "quantity", "unit_price", "product__slug", "product__cover", "reservation__status", "ready"
    )
    # A queryset that counts forgets the order of its model.
    return [_item(*row) for row in rows.order_by("title")]


def _item(
    pk: uuid.UUID, title: str, quantity: int, price: Decimal, slug: str, cover: str, status: str | None, ready: int
) -> dict[str, Any]:
    return {
        "id": pk,
        "product": {"slug": slug, "title": title, "cover": cover},
        "quantity": quantity,
        "unit_price": str(price),
        "status": "pending" if status is None else _ITEM_WORD.get(status, "processing"),
        "keys_ready": ready,
    }

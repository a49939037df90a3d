"""The order as its customer sees it: orders, payments and fulfilment read together. Asks no provider."""

from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bitloot.core import queries
from bitloot.core.api import PreconditionFailed, may_answer, versioned
from bitloot.core.clients import Scope
from bitloot.shop.order_version import Version, version_of
from bitloot.shop.outlook import UNPAID, is_overdue, outlook_of
from bitloot.shop.serializers import OrderSerializer
from bitloot.shop.words import region_name
from orders.access import TOKEN_PROBLEMS, Purpose, order_and_way_for
from orders.addresses import objection_to_changing
from orders.models import Order, OrderItem
from orders.state import OrderEvent
from payments.balance import left_to_pay
from payments.coins import offered
from payments.models import Payment, Refund
from payments.serializers import CoinSerializer, RefundSerializer, extra_body, payment_body
from payments.sync import note_look
from storage.models import Key

_ITEM_WORD = {"delivered": "fulfilled", "cancelled": "failed", "failed": "failed"}
_PURCHASE_SENTENCES = {
    "pending": _("A key is waiting to be bought."),
    "sending": _("A key is being bought."),
    "reserved": _("A key was bought."),
    "given": _("The supplier hands the key over."),
    "delivered": _("The key is sealed and kept for you."),
    "unknown": _("The supplier did not answer clearly; we are checking whether the purchase went through."),
    "held": _("Our staff are looking at the purchase of a key."),
    "cancelled": _("The purchase of a key was cancelled."),
    "failed": _("A key could not be bought."),
}
# The payment that matters to the customer: money that came, then the one they are paying, then the newest.
_WEIGHT = {"finished": 4, "sending": 3, "confirmed": 3, "confirming": 3, "review": 3, "partially_paid": 2}


_IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="The ETag of the last answer; 304 if nothing changed."
)
_ETAG = OpenApiParameter("ETag", str, OpenApiParameter.HEADER, description="For If-None-Match.", response=[200, 304])
_COINS = "coins"
_INCLUDE = OpenApiParameter(
    "include", str, enum=[_COINS], description="`coins` brings the coins on offer along while the order is unpaid."
)


class OrderRead(APIView):
    throttle_scope = "read"
    key_scopes = {"GET": Scope.READ}

    @may_answer(*TOKEN_PROBLEMS, PreconditionFailed)
    @extend_schema(
        responses={200: OrderSerializer, 304: OpenApiResponse(description="Nothing changed.")},
        parameters=[_IF_NONE_MATCH, _ETAG, _INCLUDE],
    )
    def get(self, request: Request, order_id: str) -> HttpResponse:
        """Show the order, its payment, its items' delivery and its timeline."""
        order, way = order_and_way_for(request, order_id)
        if request.query_params.get("include", "") not in ("", _COINS):
            raise ValidationError({"include": [_("Only “coins” can be included.")]})
        # Before the rest is read: what changes in between is shown with the older ETag, so the next poll sees it again.
        hold = order.reason if order.status == Order.Status.HELD else ""
        version = version_of(order, (way.purpose, hold, is_overdue(order), get_language()))
        if version.has_payments:
            note_look(order)

        # The coins are not in the ETag, which is the order's: polls need none, and one statement stays enough for them.
        return versioned(
            request,
            version.etag,
            lambda: Response(order_body(order, version, way.purpose) | _coins(order, request)),
        )


def _coins(order: Order, request: Request) -> dict[str, Any]:
    if order.status not in UNPAID or not request.query_params.get("include"):
        return {}
    return {"coins": CoinSerializer(offered(), many=True).data}


def order_body(order: Order, version: Version, purpose: Purpose) -> dict[str, Any]:
    payments = queries.select(Payment, {"order": order.pk}) if version.has_payments else []
    payment = _payment_to_show(payments)
    items = _items(order, version)
    refunds = _refunds(order) if version.has_refunds else []
    return {
        "id": order.id,
        "status": order.status,
        "fulfillment_status": order.fulfillment_word,
        "total": str(order.total),
        "currency": order.currency,
        # Anyone who placed the order has to see a mistyped address; a link may have been passed on.
        "email": order.masked_email if purpose == "mail" else order.email,
        "can_change_email": objection_to_changing(order, purpose) is None,
        "created_at": order.created_at,
        "expires_at": order.expires_at,
        "error": order.customer_error,
        **_outlook(order, payment, items, refunds, is_stopped=version.waits_for_us),
        "items": items,
        "amount_due": str(left_to_pay(order, payments)),
        "payment": None if payment is None else payment_body(payment),
        "extra_payment": extra_body(payments, payment),
        "refunds": refunds,
        "timeline": _timeline(order),
    }


def _outlook(
    order: Order,
    payment: Payment | None,
    items: list[dict[str, Any]],
    refunds: list[dict[str, Any]],
    *,
    is_stopped: bool,
) -> dict[str, Any]:
    outlook = outlook_of(
        order,
        payment,
        ready=sum(item["keys_ready"] for item in items),
        has_failed=any(item["status"] == "failed" for item in items),
        asks_address=any(refund["status"] == "requested" and not refund["address"] for refund in refunds),
        is_stopped=is_stopped,
    )
    return {
        "waits_for": outlook.waits_for,
        "expected_by": outlook.expected_by,
        "outlook": {"now": outlook.sentence, "late": outlook.late},
        "can_have_money_back": outlook.can_have_money_back,
    }


def _refunds(order: Order) -> Any:
    return RefundSerializer(Refund.objects.to_show().filter(order=order), many=True).data


def _timeline(order: Order) -> list[dict[str, Any]]:
    events = queries.select(OrderEvent, {"order": order.pk})
    return [_line(event) for event in sorted(events, key=attrgetter("pk")) if event.kind != "staff"]


def _line(event: OrderEvent) -> dict[str, Any]:
    """Show a line of the timeline; customers read general words for what passes between us and the supplier."""
    general = _PURCHASE_SENTENCES.get(event.to_status) if event.kind == "reservation" else None
    message = event.message_for_reader if general is None else str(general)
    return {"at": event.at, "kind": event.kind, "event": event.to_status or event.kind, "message": message}


def _payment_to_show(payments: Sequence[Payment]) -> Payment | None:
    # The customer was never shown where to pay this one, so it must not keep them from choosing another coin.
    shown = [payment for payment in payments if not payment.is_unknown_to_customer]
    return max(shown, key=lambda payment: (_weight(payment), payment.created_at), default=None)


def _weight(payment: Payment) -> float:
    being_paid = payment.status == Payment.Status.CREATING and not payment.reason
    # A quote that runs: after money that moves, before a part that came and waits for the rest.
    return 2.5 if being_paid or payment.quote_runs else _WEIGHT.get(payment.status, 1)


def _items(order: Order, version: Version) -> list[dict[str, Any]]:
    items = queries.select(OrderItem, {"order": order.pk}, join=("product",))
    keys = _keys(order) if version.has_keys else {}
    return [
        _item(item, version.purchases[item.pk], keys.get(item.pk, []))
        for item in sorted(items, key=attrgetter("title"))
    ]


def _keys(order: Order) -> dict[UUID, list[dict[str, Any]]]:
    keys: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
    kept = Key.objects.filter(item__order=order).exclude(status=Key.Status.SHREDDED)
    for item, key, opened_at in kept.values_list("item", "pk", "viewed_at"):
        keys[item].append({"id": key, "opened_at": opened_at})
    return keys


def _item(item: OrderItem, status: str | None, keys: list[dict[str, Any]]) -> dict[str, Any]:
    product = item.product
    return {
        "id": item.id,
        "product": {
            "slug": product.slug,
            "title": item.title,
            "cover": product.cover_path,
            "platform": product.platform,
            "region": region_name(product.region),
            "activation": product.activation,
        },
        "quantity": item.quantity,
        "unit_price": str(item.unit_price),
        "status": "pending" if status is None else _ITEM_WORD.get(status, "processing"),
        "keys_ready": len(keys),
        "keys": keys,
    }

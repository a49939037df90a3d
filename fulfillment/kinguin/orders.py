"""The orders dialect of BitLoot's original plan: an order delivers without a further call, its webhooks are signed."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from bitloot.core.providers import Transport, UnreadableAnswer
from bitloot.core.reader import Fields
from fulfillment.kinguin import wire
from fulfillment.kinguin.protocol import (
    BadWebhook,
    Health,
    NotSupported,
    SupplierEvent,
    SupplierKey,
    SupplierOrder,
    SupplierStatus,
)
from fulfillment.kinguin.without_catalogue import WithoutCatalogue

STATUSES = {
    "pending": SupplierStatus.PROCESSING,
    "ready": SupplierStatus.COMPLETED,
    "delivered": SupplierStatus.COMPLETED,
    "failed": SupplierStatus.CANCELED,
    "cancelled": SupplierStatus.CANCELED,
    "canceled": SupplierStatus.CANCELED,
}
EVENTS = {
    "order.ready": "ready",
    "order.delivered": "ready",
    "order.failed": "failed",
    "order.cancelled": "cancelled",
}


class OrdersClient(WithoutCatalogue):
    dialect = "orders"
    can_find = False
    must_give = False
    webhook_answer = (200, b'{"ok":true}')

    def __init__(self, transport: Transport) -> None:
        self._endpoint = wire.Endpoint(transport)
        self.host = self._endpoint.host

    def reserve(
        self, *, external_id: str, product_id: str, offer_id: str, quantity: int, price: Decimal, text_only: bool
    ) -> SupplierOrder:
        document = {"offerId": wire.path_id(offer_id, "offer"), "quantity": quantity, "autoDeliver": True}
        return _order(self._endpoint.call("POST", "/v1/orders", document=document), external_id)

    def give(self, order_id: str) -> None:
        """Do nothing: in this dialect an order delivers its keys without being told to."""

    def read(self, order_id: str) -> SupplierOrder:
        return _order(self._read(order_id), "")

    def delivered(self, order_id: str) -> list[SupplierKey]:
        return wire.numbered_keys(order_id, _serials(Fields(self._read(order_id), what="order")))

    def find(self, external_id: str) -> None:
        raise NotSupported("The orders dialect keeps no external id, so nothing can be searched for.")

    def cancel(self, order_id: str) -> None:
        raise NotSupported("The orders dialect cannot cancel; ask the supplier's support.")

    def health(self) -> Health:
        return wire.measured(self._check)

    def verify_webhook(self, headers: Mapping[str, str], raw: bytes, secrets: Sequence[str]) -> None:
        expected = [hmac.new(key, raw, hashlib.sha512).hexdigest().encode() for key in wire.require_secrets(secrets)]
        claimed = wire.header_bytes(wire.header(headers, "x-kinguin-signature").lower())
        if not wire.equals_any(claimed, expected):
            raise BadWebhook("X-KINGUIN-SIGNATURE does not fit the body.")

    def parse_webhook(self, headers: Mapping[str, str], raw: bytes) -> SupplierEvent:
        if raw.strip() in (b"", b"{}"):
            return SupplierEvent("ping")
        body = wire.webhook_body(raw) or {}
        order_id = wire.safe_id(body.get("id")) or wire.safe_id(body.get("orderId"))
        event = wire.word(body, "type", "event")
        if not order_id or event not in EVENTS:
            return SupplierEvent("unknown", order_id=order_id)
        return SupplierEvent("order", event, order_id, status=EVENTS[event])

    def _read(self, order_id: str) -> Any:
        path = f"/v1/orders/{wire.path_id(order_id, 'order')}"
        document = self._endpoint.call("GET", path)
        if Fields(document, what="order").raw("id") != order_id:
            raise UnreadableAnswer(f"The supplier answered with another order than {order_id}")
        return document

    def _check(self) -> None:
        self._endpoint.call("GET", "/v1/health")


def _order(document: Any, external_id: str) -> SupplierOrder:
    order = Fields(document, what="order")
    order_id = wire.safe_id(order.text("id"))
    if not order_id:
        raise UnreadableAnswer("The supplier answered with an order id of another form")
    return SupplierOrder(
        order_id=order_id,
        external_id=external_id,
        status=wire.status_of(order.raw("status"), STATUSES),
        keys_ready=len(_serials(order)),
    )


def _serials(order: Fields) -> list[Any]:
    """Return the keys as a list; an order of one may hold a single "key" instead."""
    return order.items("keys") or ([order.raw("key")] if "key" in order else [])

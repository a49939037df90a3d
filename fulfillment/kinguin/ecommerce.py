"""Kinguin's eCommerce API: the real one. Reserving buys at once; the keys are fetched from the order."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from bitloot.core.providers import Transport, UnreadableAnswer
from bitloot.core.reader import Fields
from fulfillment.kinguin import wire
from fulfillment.kinguin.protocol import (
    AmbiguousSearch,
    BadWebhook,
    Health,
    KinguinRejected,
    NotSupported,
    OutOfStock,
    Quote,
    SupplierEvent,
    SupplierKey,
    SupplierOrder,
    SupplierStatus,
    UnreadableKey,
    logger,
)

STATUSES = {
    "processing": SupplierStatus.PROCESSING,
    "completed": SupplierStatus.COMPLETED,
    "canceled": SupplierStatus.CANCELED,
    "refunded": SupplierStatus.REFUNDED,
}
EVENTS = ("order.status", "order.complete")  # the second is what older shops send
# A seller may upload images of 200 KiB, so three keys are what surely fits the size cap of an answer.
KEYS_PER_PAGE = 3
MAX_KEY_PAGES = 40
SEARCH_LIMIT = 100
MAX_ORDER_PAGES = 1000
_ORDER_ID = re.compile(r"[A-Za-z0-9]{6,40}")
_EVENT_NAME = re.compile(r"[A-Za-z._-]{1,40}")
_TIME = re.compile(r"[0-9TZ:.+ -]{1,40}")
_LOST = ("CANCELED", "CANCELLED", "REFUNDED", "RETURNED")


class EcommerceClient:
    dialect = "ecommerce"
    can_find = True
    must_give = False
    webhook_answer = (204, b"")

    def __init__(self, transport: Transport) -> None:
        self._endpoint = wire.Endpoint(transport)
        self.host = self._endpoint.host

    def quote(self, product_id: str) -> Quote:
        try:
            document = self._endpoint.call("GET", f"/v2/products/{wire.path_id(product_id, 'product')}")
        except KinguinRejected as err:
            if err.status != 404:
                raise
            # They answer 404 for a product that is sold out, too.
            raise OutOfStock(f"Kinguin does not sell product {product_id} now", status=404) from err
        return _quote(Fields(document, what="Kinguin product"), product_id)

    def reserve(
        self, *, external_id: str, product_id: str, offer_id: str, quantity: int, price: Decimal, text_only: bool
    ) -> SupplierOrder:
        line: dict[str, Any] = {"productId": wire.path_id(product_id, "product"), "qty": quantity, "price": price}
        if text_only:
            line["keyType"] = "text"
        if offer_id:
            line["offerId"] = offer_id
        document = {"products": [line], "orderExternalId": external_id}
        order = _order(self._endpoint.call("POST", "/v2/order", document=document))
        # Unreadable, not refused: something was bought, and the search by our id finds out what.
        if order.external_id != external_id:
            raise UnreadableAnswer(f"Kinguin answered the purchase {external_id} with another external id")
        return order

    def give(self, order_id: str) -> None:
        """Do nothing: in this dialect reserving already bought the keys."""

    def read(self, order_id: str) -> SupplierOrder:
        order = _order(self._endpoint.call("GET", f"/v1/order/{wire.path_id(order_id, 'order')}"))
        if order.order_id != order_id:
            raise UnreadableAnswer(f"Kinguin answered with another order than {order_id}")
        return order

    def delivered(self, order_id: str) -> list[SupplierKey]:
        rows: dict[str, Any] = {}
        for page in range(1, MAX_KEY_PAGES + 1):
            try:
                found = self._key_page(order_id, page)
            except UnreadableAnswer as err:
                if not rows:
                    raise
                # The pages before it are whole, and their keys are somebody's.
                rows[f"page {page}"] = err
                return wire.read_keys(rows.items(), _key)
            named = [(_key_id(row) or f"{page}.{number}", row) for number, row in enumerate(found, 1)]
            fresh = {key_id: row for key_id, row in named if key_id not in rows}
            rows |= fresh
            if len(found) < KEYS_PER_PAGE or not fresh:
                return wire.read_keys(rows.items(), _key)
        raise UnreadableAnswer(f"The keys of order {order_id} do not end after {MAX_KEY_PAGES} pages")

    def find(self, external_id: str) -> SupplierOrder | None:
        results = self._search(orderExternalId=external_id)
        # Undocumented: their search may match more than the exact id.
        exact = [_order(row) for row in results if isinstance(row, dict) and row.get("orderExternalId") == external_id]
        orders = {order.order_id: order for order in exact}
        if len(orders) > 1:
            # One of two that staff returned, or that the supplier ended, is no second purchase any more.
            left = [order for order in orders.values() if not order.status.is_ended]
            if len(left) != 1:
                raise AmbiguousSearch(external_id, sorted(orders))
            return left[0]
        # A full page without it proves nothing; "not found" would let it be bought again.
        if not orders and len(results) >= SEARCH_LIMIT:
            raise UnreadableAnswer(f"Kinguin's search for {external_id} is cut off before it found it")
        return next(iter(orders.values()), None)

    def list_since(self, moment: datetime) -> Iterator[SupplierOrder]:
        """Yield every order of our account placed since then, ours or not.

        Raises ProviderError; UnreadableAnswer at the end if some cannot be read, after all the others.
        """
        since, seen, odd = moment.astimezone(UTC).isoformat(timespec="seconds"), set[str](), 0
        for page in range(1, MAX_ORDER_PAGES + 1):
            rows = self._search(createdAtFrom=since, page=str(page))
            orders = list(_readable(rows))
            odd += len(rows) - len(orders)
            fresh = [order for order in orders if order.order_id not in seen]
            yield from fresh
            seen.update(order.order_id for order in fresh)
            if len(rows) < SEARCH_LIMIT or not fresh:
                if odd:
                    raise UnreadableAnswer(f"{odd} of Kinguin's orders since {since} cannot be read")
                return
        raise UnreadableAnswer(f"Kinguin's orders since {since} do not end after {MAX_ORDER_PAGES} pages")

    def cancel(self, order_id: str) -> None:
        raise NotSupported("Kinguin's API cannot cancel an order; return its keys, or ask Kinguin's support.")

    def return_keys(self, order_id: str) -> dict[str, str]:
        """Give back keys nobody has fetched, and return each key's status. Kinguin allows one request per order."""
        answer = self._endpoint.call("POST", f"/v2/order/{wire.path_id(order_id, 'order')}/keys/return")
        rows = (Fields(row, what="Kinguin returned key") for row in _list(answer, "returned keys"))
        return {row.text("id"): row.text("status").upper() for row in rows}

    def health(self) -> Health:
        return wire.measured(self._balance)

    def verify_webhook(self, headers: Mapping[str, str], raw: bytes, secrets: Sequence[str]) -> None:
        expected = wire.require_secrets(secrets)
        if not wire.equals_any(wire.header_bytes(wire.header(headers, "x-event-secret")), expected):
            raise BadWebhook("X-Event-Secret is missing or wrong.")

    def parse_webhook(self, headers: Mapping[str, str], raw: bytes) -> SupplierEvent:
        name = wire.header(headers, "x-event-name")
        name = name if _EVENT_NAME.fullmatch(name) else ""
        # The dashboard's "TEST URL" button sends nothing of note.
        if raw.strip() in (b"", b"{}"):
            return SupplierEvent("ping", name)
        body = wire.webhook_body(raw) or {}
        order_id = wire.safe_id(body.get("orderId"), _ORDER_ID)
        external_id = wire.safe_id(body.get("orderExternalId"))
        product_id = wire.safe_id(body.get("productId"))
        updated_at = body.get("updatedAt")
        kind: Literal["order", "product", "unknown"] = "product" if product_id else "unknown"
        if order_id or external_id:
            kind = "order"
        return SupplierEvent(
            kind=kind,
            event_type=name,
            order_id=order_id,
            external_id=external_id,
            status=wire.safe_id(body.get("status")),
            updated_at=updated_at if isinstance(updated_at, str) and _TIME.fullmatch(updated_at) else "",
            product_id=product_id,
        )

    def _search(self, **filters: str) -> list[Any]:
        params = {**filters, "limit": str(SEARCH_LIMIT)}
        search = Fields(self._endpoint.call("GET", "/v1/order", params=params), what="Kinguin search")
        if not isinstance(search.raw("results"), list):
            raise UnreadableAnswer("Kinguin's search has no list of results")
        return search.items("results")

    def _key_page(self, order_id: str, page: int) -> list[Any]:
        params = {"page": str(page), "limit": str(KEYS_PER_PAGE)}
        path = f"/v2/order/{wire.path_id(order_id, 'order')}/keys"
        try:
            found = self._endpoint.call("GET", path, params=params)
            return _list(found, "keys")
        except KinguinRejected as err:
            if err.kind == "OrderNotDispatchedYet":  # until 2024
                return []
            raise

    def _balance(self) -> Decimal | None:
        answer = Fields(self._endpoint.call("GET", "/v1/balance"), what="Kinguin balance")
        # A figure that we cannot read is not an outage: their refusal of a purchase decides in the end.
        return answer.aside(answer.optional_amount, "balance", None)


def _quote(product: Fields, product_id: str) -> Quote:
    if product.text("productId") != product_id:
        raise UnreadableAnswer(f"Kinguin answered with another product than {product_id}")
    price, qty = product.amount("price"), product.count("qty")
    if qty <= 0 or product.raw("isPreorder") is True:
        raise OutOfStock(f"Kinguin has no {product_id} in stock")
    if not price:
        raise UnreadableAnswer(f"Kinguin names no price for {product_id}")
    # Only some accounts are shown textQty; for the others the purchase itself refuses when there are images only.
    text_qty = product.aside(product.count, "textQty", qty) if "textQty" in product else qty
    return Quote(price, qty, max(0, text_qty))


def _order(document: Any) -> SupplierOrder:
    order = Fields(document, what="Kinguin order")
    order_id = order.text("orderId")
    if not _ORDER_ID.fullmatch(order_id):
        raise UnreadableAnswer("Kinguin answered with an order id of another form")
    rows = _rows(order.raw("products"))
    keys = [wire.word(key, "status").upper() for row in rows for key in _rows(row.get("keys"))]
    return SupplierOrder(
        order_id=order_id,
        external_id=order.aside(order.optional_text, "orderExternalId", ""),
        status=wire.status_of(order.raw("status"), STATUSES),
        cost=_cost(order),
        # One product may be split over several rows.
        keys_expected=sum(row["qty"] for row in rows if type(row.get("qty")) is int),
        keys_ready=keys.count("DELIVERED"),
        keys_lost=sum(key in _LOST for key in keys),
    )


def _cost(order: Fields) -> Decimal | None:
    """Return what was taken from the balance. An unreadable figure must not make a purchase unknown."""
    return order.aside(order.optional_amount, "paymentPrice" if "paymentPrice" in order else "totalPrice", None)


def _readable(rows: list[Any]) -> Iterator[SupplierOrder]:
    for row in rows:
        try:
            yield _order(row)
        except UnreadableAnswer as err:
            logger.warning("left out one of Kinguin's orders: %s", err)


def _key_id(row: Any) -> str:
    return wire.safe_id(row.get("id")) if isinstance(row, dict) else ""


def _key(key_id: str, row: Any) -> SupplierKey | None:
    if isinstance(row, UnreadableAnswer):
        raise UnreadableKey(key_id, str(row))
    if not _key_id(row):
        raise UnreadableKey(key_id, "it has no id")
    product_id = wire.safe_id(row.get("productId"))
    return wire.read_key(key_id, row.get("serial"), label=wire.word(row, "type"), product_id=product_id)


def _list(document: Any, what: str) -> list[Any]:
    if not isinstance(document, list):
        raise UnreadableAnswer(f"Kinguin's {what} are not a list")
    return document


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []

"""Kinguin's eCommerce API: the real one. Reserving buys at once; the keys are fetched from the order."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Literal

from bitloot.core.providers import Transport, UnreadableAnswer, Urgency
from bitloot.core.reader import MAX_TEXT, Fields
from bitloot.core.strict_json import is_storable
from fulfillment.kinguin import wire
from fulfillment.kinguin.protocol import (
    AmbiguousSearch,
    BadWebhook,
    Found,
    Health,
    KinguinRejected,
    Lookups,
    NotSupported,
    OutOfStock,
    Quote,
    SupplierEvent,
    SupplierKey,
    SupplierOrder,
    SupplierProduct,
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
# Descriptions and offers make a product some 20 KiB: this many surely fit the size cap of an answer.
PRODUCTS_PER_PAGE = 20
LEAST_NAME = 3  # characters that they search for
# Their own sandbox answers a search by name with 500 or 404, and has ten products: we look through them ourselves.
NO_NAME_SEARCH = "gateway.sandbox.kinguin.net"
MAX_ORDER_PAGES = 1000
MAX_DESCRIPTION = 100_000
MAX_PRICE = 100_000  # of one key; what is dearer is a mistake
MAX_GENRES, MAX_GENRE = 10, 40
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
        return _quote(self._product_fields(product_id, Urgency.FIRST), product_id)

    def search(self, *, name: str = "", platform: str = "", region: int | None = None, page: int = 1) -> Found:
        params = {"page": str(page), "limit": str(PRODUCTS_PER_PAGE)}
        if platform:
            params["platform"] = platform
        if region is not None:
            params["regionId"] = str(region)
        if self.host == NO_NAME_SEARCH:
            found = self._catalogue(params)
            return replace(found, products=[one for one in found.products if name.lower() in one.name.lower()])
        return self._catalogue(params | ({"name": name} if name else {}))

    def product(self, product_id: str) -> SupplierProduct:
        product = _product(self._product_fields(product_id, Urgency.CATALOGUE))
        if product.product_id != product_id:
            raise UnreadableAnswer(f"Kinguin answered with another product than {product_id}")
        return product

    def products(self, product_ids: Sequence[str]) -> dict[str, SupplierProduct]:
        asked = [product_id for product_id in product_ids if wire.safe_id(product_id)]
        if not asked:
            return {}
        found = self._catalogue({"productId": ",".join(asked), "limit": str(len(asked))})
        return {one.product_id: one for one in found.products if one.product_id in product_ids}

    def lookups(self) -> Lookups:
        platforms = _list(self._endpoint.call("GET", "/v1/platforms", urgency=Urgency.CATALOGUE), "platforms")
        regions = _list(self._endpoint.call("GET", "/v1/regions", urgency=Urgency.CATALOGUE), "regions")
        return Lookups(
            tuple(one for one in platforms if isinstance(one, str) and one and is_storable(one)),
            tuple((row["id"], wire.word(row, "name").strip()) for row in _rows(regions) if type(row.get("id")) is int),
        )

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
            # A key without an id keeps its place, so that it is complained about instead of lost.
            named = [(_key_id(row) or f"{page}.{number}", row) for number, row in enumerate(found, 1)]
            fresh = {key_id: row for key_id, row in named if key_id not in rows}
            rows |= fresh
            # Nothing new ends it as well: a server that ignores `page` would send the same keys forever.
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
            # Orders that are placed meanwhile move the pages, so one may come twice.
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

    def _product_fields(self, product_id: str, urgency: Urgency) -> Fields:
        try:
            path = f"/v2/products/{wire.path_id(product_id, 'product')}"
            document = self._endpoint.call("GET", path, urgency=urgency)
        except KinguinRejected as err:
            if err.status != 404:
                raise
            # They answer 404 for a product that is sold out, too.
            raise OutOfStock(f"Kinguin does not sell product {product_id} now", status=404) from err
        return Fields(document, what="Kinguin product")

    def _catalogue(self, params: Mapping[str, str]) -> Found:
        answer = self._endpoint.call("GET", "/v1/products", params=params, urgency=Urgency.CATALOGUE)
        page = Fields(answer, what="Kinguin catalogue")
        rows = page.items("results", required=True)
        products: dict[str, SupplierProduct] = {}
        odd = 0
        for row in rows:
            try:
                product = _product(Fields(row, what="Kinguin product"))
            except UnreadableAnswer as err:
                logger.warning("left out one of Kinguin's products: %s", err)
                odd += 1
            else:
                products.setdefault(product.product_id, product)  # a page may repeat one while the catalogue changes
        return Found(list(products.values()), max(page.aside(page.count, "item_count", len(rows)), len(products)), odd)

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
    return Quote(price, qty, _text_qty(product, qty))


def _text_qty(product: Fields, qty: int) -> int:
    # Only some accounts are shown textQty; for the others the purchase itself refuses when there are images only.
    return max(0, product.aside(product.count, "textQty", qty) if "textQty" in product else qty)


def _product(product: Fields) -> SupplierProduct:
    """Read what may stand in our shop. Stock and price have to be readable; what only describes it may be odd."""
    product_id = product.text("productId", limit=64)
    if not wire.safe_id(product_id):
        raise UnreadableAnswer("Kinguin answered with a product id of another form")
    qty = max(0, product.count("qty"))
    price = product.amount("price") if qty or "price" in product else Decimal(0)
    if (qty and not price) or price > MAX_PRICE:
        raise UnreadableAnswer(f"Kinguin names no price for {product_id}")
    return SupplierProduct(
        product_id=product_id,
        number=product.aside(product.count, "kinguinId", 0),
        name=product.text("name").strip(),
        platform=_said(product, "platform"),
        region=_said(product, "regionalLimitations"),
        price=price,
        qty=qty,
        text_qty=_text_qty(product, qty),
        is_preorder=product.raw("isPreorder") is True,
        description=_said(product, "description", limit=MAX_DESCRIPTION),
        activation=_said(product, "activationDetails", limit=MAX_DESCRIPTION),
        genres=_genres(product),
        age_rating=_said(product, "ageRating"),
        release_date=_day(product.raw("releaseDate")),
        cover_url=_cover(product.raw("images")),
    )


def _said(product: Fields, name: str, *, limit: int = MAX_TEXT) -> str:
    return product.aside(partial(product.optional_text, limit=limit), name, "").strip()


def _genres(product: Fields) -> tuple[str, ...]:
    said: list[Any] = product.aside(product.items, "genres", [])
    words = (genre for genre in said if isinstance(genre, str) and is_storable(genre))
    return tuple(word for word in words if 0 < len(word) <= MAX_GENRE)[:MAX_GENRES]


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None


def _cover(images: Any) -> str:
    cover = images.get("cover") if isinstance(images, dict) else None
    return wire.link(cover, "url", "thumbnail") if isinstance(cover, dict) else ""


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

"""Kinguin's eCommerce API, the real one: /kinguin/esa/api."""

import hmac
import json
import secrets
import time
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from sqlite3 import Row
from typing import Any

from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from sandbox import catalogue, purchases
from sandbox.calls import Call, Endpoint, Family, View, respond
from sandbox.purchases import AlreadyUsed, Line, NoFunds, Unavailable
from sandbox.store import Refused, Tx
from sandbox.world import euros, seconds_stamp

BASE = "/kinguin/esa/api"
DIALECT = "ecommerce"
MAX_LINES = 10
MAX_QTY = 9
MAX_TOTAL_QTY = 90
MAX_PRICE = 100_000
MAX_PAGE = 100
PAGE = 25
LEAST_NAME = 3
RELEASED = "2025-03-14"
# As theirs come: markup, entities, and now and then a script that somebody pasted.
DESCRIPTION = (
    "<p><strong>{}</strong> is an invented product of the sandbox.</p>\r\n<ul><li>It isn&#39;t real.</li>"
    "<li>Nobody plays it.</li></ul><script>alert(1)</script>"
)

# Kind: the status and the words. Only some statuses are documented; the rest is what integrators report.
KINDS: dict[str, tuple[int, str | None]] = {
    "Authorization": (401, "Invalid authentication data."),
    "InsufficientBalance": (400, "There are not enough funds to place an order."),
    "ProductUnavailable": (422, "Unable to find any offer matching order request criteria."),
    "OrderFailed": (422, "There was a problem with placing order."),
    "ConstraintViolation": (400, 'Invalid "products" property.'),
    "OrderNotFound": (404, "Order not found."),
    "OrderNotSupported": (422, "Order is not supported."),
    "Preorder": (400, "Pre-order can not be bought together with regular products."),
    "ResourceLock": (409, "Conflict with current resource version."),
    "NoKeysToReturn": (422, "Return keys is not allowed for current resource version."),
    "HttpClient": (404, None),
    "Error": (500, "Internal Server Error."),
}
FAULT_KINDS = {
    "refuse": "OrderFailed",
    "insufficient_balance": "InsufficientBalance",
    "out_of_stock": "ProductUnavailable",
    "5xx_before": "Error",
    "5xx_after": "Error",
}


def list_products(call: Call) -> Response:
    wanted = {name: _comma_list(call, name) for name in ("productId", "kinguinId", "platform", "regionId")}
    name = call.args.get("name", "").lower()
    if name and len(name) < LEAST_NAME:
        raise _invalid(call, "name", name, f"This value is too short. It should have {LEAST_NAME} characters or more.")
    found = [
        product
        for row in call.world.store.read("SELECT * FROM product WHERE qty > 0 ORDER BY kinguin_id")
        if (product := _product(row))
        and name in product["name"].lower()
        and all(not values or str(product[key]) in values for key, values in wanted.items())
    ]
    return respond({"results": _page(call, found), "item_count": len(found)})


def show_product(call: Call, product_id: str) -> Response:
    row = call.world.store.read_one("SELECT * FROM product WHERE id = ? AND qty > 0", product_id)
    if row is None:
        raise error(call, "HttpClient", retryable=False)
    return respond(_product(row))


def show_product_by_number(call: Call, kinguin_id: int) -> Response:
    row = call.world.store.read_one("SELECT id FROM product WHERE kinguin_id = ?", kinguin_id)
    return show_product(call, row["id"] if row else "")


def create_order(call: Call) -> Response:
    external_id = call.body.get("orderExternalId")
    try:
        lines = _lines(call)
    except Refused as refused:
        note(call, f"refused with {refused.status}")
        raise
    if call.fault.name == "accept_late":
        return _accept_late(call, external_id, lines)
    purchase_id = call.world.write(lambda tx: _place(call, tx, external_id, lines))
    return respond(_order(call, purchase_id, keys=False), 201)


def show_order(call: Call, order_id: str) -> Response:
    return respond(_order(call, order_id, keys=True))


def search_orders(call: Call) -> Response:
    if call.fault.name == "search_lag":
        return respond({"results": [], "item_count": 0})
    where = ["dialect = 'ecommerce'", "searchable <= ?"]
    values: list[Any] = [time.time()]
    for parameter, column in {"orderExternalId": "external_id", "orderId": "id", "status": "status"}.items():
        if parameter in call.args:
            where.append(f"{column} = ?")
            values.append(call.args[parameter])
    if "createdAtFrom" in call.args:
        where.append("created >= ?")
        values.append(_moment(call, "createdAtFrom"))
    sql = f"SELECT id FROM purchase WHERE {' AND '.join(where)} ORDER BY created DESC"  # noqa: S608 - fixed columns
    found = call.world.store.read(sql, *values)
    return respond(
        {"results": [_order(call, row["id"], keys=True) for row in _page(call, found)], "item_count": len(found)}
    )


def list_keys(call: Call, order_id: str) -> Response:
    purchase = _purchase(call, order_id)
    rows = call.world.store.read(
        "SELECT licence.*, kinguin_id, offer_id FROM licence JOIN product ON product.id = product_id"
        " WHERE purchase_id = ? AND licence.status = 'DELIVERED' ORDER BY line, licence.id",
        purchase["id"],
    )
    shown = _page(call, rows)
    unseen = [row["id"] for row in shown if not row["claimed"]]
    if unseen:
        call.world.write(lambda tx: [tx.run("UPDATE licence SET claimed = 1 WHERE id = ?", key) for key in unseen])
    return respond([_key(row) | json.loads(purchase["odd"] or "{}") for row in shown])


def return_keys(call: Call, order_id: str) -> Response:
    purchase_id = _purchase(call, order_id)["id"]
    if not call.world.write(lambda tx: purchases.return_keys(call.world, tx, purchase_id)):
        raise error(call, "NoKeysToReturn")
    rows = call.world.store.read("SELECT id, status FROM licence WHERE purchase_id = ? ORDER BY line, id", purchase_id)
    return respond([dict(row) for row in rows])


def show_balance(call: Call) -> Response:
    wallet = call.world.store.read("SELECT cents FROM wallet")[0]
    return respond({"balance": euros(wallet["cents"])})


def error(call: Call, kind: str, *, status: int = 0, detail: str | None = None, **context: Any) -> Refused:
    usual, words = KINDS[kind]
    code = status or usual
    body: dict[str, Any] = {"kind": kind, "status": code}
    if detail or words:
        body["detail"] = detail or words
    body["type"] = HTTPStatus(code).phrase.replace("Entity", "Content")
    if kind != "Authorization":
        body |= {"path": call.path.removeprefix("/kinguin/esa"), "method": call.method}
        body |= {"timestamp": seconds_stamp(time.time()), "trace": secrets.token_hex(5)}
    return Refused(code, body | context)


def note(call: Call, reason: str) -> None:
    def log(tx: Tx) -> None:
        _log_received(call, tx)
        purchases.refused(tx, dialect=DIALECT, external_id=_external_id(call), reason=reason)

    call.world.write(log)


def external_id_of(call: Call, order_id: str) -> str:
    row = call.world.store.read_one("SELECT external_id FROM purchase WHERE id = ?", order_id)
    return (row["external_id"] if row else None) or order_id


def _authorize(call: Call) -> None:
    given = call.headers.get("X-Api-Key") or call.headers.get("Api-Ecommerce-Auth") or ""
    if not hmac.compare_digest(given.encode(), call.world.config.kinguin_api_key.encode()):
        raise error(call, "Authorization")


def _refusal(call: Call, name: str) -> Refused:
    if name == "429":
        return Refused(429, {"status": 429, "type": "Too Many Requests", "detail": "Too many requests."})
    kind = FAULT_KINDS.get(name, name)
    if kind == "ProductUnavailable" and call.method == "GET":
        return error(call, "HttpClient", retryable=False)
    return error(call, kind)


def _accept_late(call: Call, external_id: str | None, lines: list[Line]) -> Response:
    payload = {"dialect": DIALECT, "external_id": external_id, "lines": [asdict(line) for line in lines]}
    seconds = call.fault.number("late_s", call.world.config.late_s)

    def postpone(tx: Tx) -> None:
        _log_received(call, tx)
        tx.later(seconds, "place", payload)

    call.world.write(postpone)
    return respond({}, 202)


def _log_received(call: Call, tx: Tx) -> None:
    request = call.get_data().decode(errors="replace")
    purchases.received(tx, dialect=DIALECT, external_id=_external_id(call), request=request)


def _place(call: Call, tx: Tx, external_id: str | None, lines: list[Line]) -> str:
    _log_received(call, tx)
    try:
        return purchases.place(call.world, tx, dialect=DIALECT, lines=lines, external_id=external_id, fault=call.fault)
    except (AlreadyUsed, Unavailable, NoFunds) as refusal:
        reason = type(refusal).__name__
        purchases.refused(tx, dialect=DIALECT, external_id=external_id, reason=reason)
        raise _refused(call, refusal) from refusal


def _refused(call: Call, refusal: AlreadyUsed | Unavailable | NoFunds) -> Refused:
    if isinstance(refusal, NoFunds):
        return error(call, "InsufficientBalance")
    if isinstance(refusal, Unavailable):
        return error(call, "ProductUnavailable", detail=f"Requested {refusal} is not available.")
    used = call.body["orderExternalId"]
    context = {"propertyPath": "orderExternalId", "invalidValue": used}
    match call.fault.number("duplicate_status", call.world.config.duplicate_status):
        case 409:
            return error(call, "ResourceLock", detail=f'Order external id "{used}" is already in use.')
        case 400:
            detail = 'Invalid "orderExternalId" property. This value is already used.'
            return error(call, "ConstraintViolation", detail=detail, **context)
    return error(call, "ConstraintViolation", status=422, detail="orderExternalId already used", **context)


def _external_id(call: Call) -> str | None:
    value = call.body.get("orderExternalId")
    return None if value is None else str(value)


def _lines(call: Call) -> list[Line]:
    """Read the order's lines; refuse what the real API's validation refuses."""
    products = call.body.get("products")
    external_id = call.body.get("orderExternalId")
    if not isinstance(products, list) or not 1 <= len(products) <= MAX_LINES:
        raise _invalid(call, "products", products, f"This collection should contain 1 to {MAX_LINES} elements.")
    if external_id is not None and not isinstance(external_id, str):
        raise _invalid(call, "orderExternalId", external_id, "This value should be of type string.")
    by_number = call.path.endswith("/v1/order")
    lines = [_line(call, at, product, by_number=by_number) for at, product in enumerate(products)]
    for at, line in enumerate(lines):
        if line.product_id in [earlier.product_id for earlier in lines[:at]]:
            only = 'This collection should contain only elements with unique value in "productId" property.'
            raise _invalid(call, f"products[{at}].productId", line.product_id, only)
    if sum(line.qty for line in lines) > MAX_TOTAL_QTY:
        at_most = f'Sum of total values of "qty" must be lower than or equal {MAX_TOTAL_QTY}.'
        raise _invalid(call, "products", sum(line.qty for line in lines), at_most)
    return lines


def _line(call: Call, at: int, product: Any, *, by_number: bool) -> Line:
    if not isinstance(product, dict):
        raise _invalid(call, f"products[{at}]", product, "This value should be an object.")
    qty: Any = product.get("qty")
    price: Any = product.get("price")
    key_type = product.get("keyType")
    if type(qty) is not int or not 1 <= qty <= MAX_QTY:
        raise _invalid(call, f"products[{at}].qty", qty, f"This value should be between 1 and {MAX_QTY}.")
    if type(price) not in (int, Decimal) or not 0 < price <= MAX_PRICE:
        raise _invalid(call, f"products[{at}].price", price, "This value should be a positive number.")
    if key_type not in (None, "text"):
        raise _invalid(call, f"products[{at}].keyType", key_type, 'The only allowed value is "text".')
    return Line(_product_id(call, at, product, by_number=by_number), qty, price, product.get("offerId"), key_type)


def _product_id(call: Call, at: int, product: dict[str, Any], *, by_number: bool) -> str:
    if not by_number and isinstance(product.get("productId"), str):
        return str(product["productId"])
    if by_number and type(product.get("kinguinId")) is int:
        row = call.world.store.read_one("SELECT id FROM product WHERE kinguin_id = ?", product["kinguinId"])
        return row["id"] if row else str(product["kinguinId"])
    name = "kinguinId" if by_number else "productId"
    raise _invalid(call, f"products[{at}].{name}", product.get(name), "This value should not be blank.")


def _invalid(call: Call, path: str, value: Any, problem: str) -> Refused:
    detail = f'Invalid "{path}" property. {problem}'
    return error(call, "ConstraintViolation", detail=detail, propertyPath=path, invalidValue=value)


def _purchase(call: Call, order_id: str) -> Row:
    row = call.world.store.read_one("SELECT * FROM purchase WHERE id = ? AND dialect = 'ecommerce'", order_id)
    if row is None:
        raise error(call, "OrderNotFound")
    return row


def _order(call: Call, order_id: str, *, keys: bool) -> dict[str, Any]:
    purchase = _purchase(call, order_id)
    lines = json.loads(purchase["lines"])
    rows = [_order_line(line) for line in lines]
    if keys:
        sql = "SELECT id, status, line FROM licence WHERE purchase_id = ? ORDER BY line, id"
        licences = call.world.store.read(sql, order_id)
        for at, row in enumerate(rows):
            row["keys"] = [{"id": key["id"], "status": key["status"]} for key in licences if key["line"] == at]
    order = {
        "totalPrice": euros(purchase["cents"]),
        "requestTotalPrice": euros(sum(line["asked"] * line["qty"] for line in lines)),
        "status": purchase["status"],
        "userEmail": "buyer@sandbox.test",
        "storeId": 17,
        "createdAt": seconds_stamp(purchase["created"]),
        "orderId": purchase["id"],
        "orderExternalId": purchase["external_id"],
        "paymentPrice": euros(purchase["cents"]),
        "products": rows,
        "totalQty": sum(line["qty"] for line in lines),
        "isPreorder": False,
    }
    return {name: value for name, value in order.items() if value is not None}


def _order_line(line: dict[str, Any]) -> dict[str, Any]:
    item = catalogue.BY_PRODUCT_ID[line["product_id"]]
    row = {
        "kinguinId": item.kinguin_id,
        "offerId": item.offer_id,
        "productId": item.product_id,
        "qty": line["qty"],
        "name": item.name,
        "price": euros(line["cents"]),
        "totalPrice": euros(line["cents"] * line["qty"]),
        "requestPrice": euros(line["asked"]),
        "isPreorder": False,
        "releaseDate": RELEASED,
    }
    return row | ({"keyType": line["key_type"]} if line["key_type"] else {})


def _key(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "serial": row["serial"],
        "type": row["type"],
        "name": catalogue.BY_PRODUCT_ID[row["product_id"]].name,
        "kinguinId": row["kinguin_id"],
        "offerId": row["offer_id"],
        "productId": row["product_id"],
    }


def _product(row: Row) -> dict[str, Any]:
    item = catalogue.BY_PRODUCT_ID[row["id"]]
    shared = {"name": item.name, "price": euros(row["cents"]), "qty": row["qty"], "textQty": row["text_qty"]}
    offer = {
        **shared,
        "offerId": row["offer_id"],
        "availableQty": row["qty"],
        "availableTextQty": row["text_qty"],
        "merchantName": catalogue.MERCHANT,
        "isPreorder": False,
        "releaseDate": RELEASED,
        "wholesale": {"enabled": False, "tiers": []},
    }
    product = {
        **shared,
        "originalName": item.name,
        "description": DESCRIPTION.format(item.name),
        "developers": ["Sandbox Studio"],
        "publishers": ["Sandbox House"],
        "genres": [item.genre],
        "platform": item.platform,
        "releaseDate": RELEASED,
        "cheapestOfferId": [row["offer_id"]],
        "isPreorder": False,
        "regionalLimitations": catalogue.REGION_NAMES[item.region],
        "regionId": item.region,
        "activationDetails": "Open the client.<br />\r\nChoose &quot;Activate a product&quot; and type the key.",
        "kinguinId": row["kinguin_id"],
        "productId": row["id"],
        "languages": ["English", "German"],
        "tags": ["dlc" if "DLC" in item.name else "base"],
        "offers": [offer],
        "offersCount": 1,
        "totalQty": row["qty"],
        "merchantName": [catalogue.MERCHANT],
        "ageRating": item.age_rating,
        "images": {"screenshots": []},
        "updatedAt": seconds_stamp(row["updated"]),
    }
    return {name: value for name, value in product.items() if value is not None}


def _moment(call: Call, name: str) -> float:
    try:
        return datetime.fromisoformat(call.args[name]).timestamp()
    except ValueError as err:
        raise _invalid(call, name, call.args[name], "This value is not a valid datetime.") from err


def _page(call: Call, rows: list[Any]) -> list[Any]:
    limit = min(max(call.args.get("limit", PAGE, type=int), 1), MAX_PAGE)
    start = (max(call.args.get("page", 1, type=int), 1) - 1) * limit
    return rows[start : start + limit]


def _comma_list(call: Call, name: str) -> list[str]:
    return [value for value in call.args.get(name, "").split(",") if value]


FAMILY = Family(authorize=_authorize, refusal=_refusal, delayed=True)


def _rule(method: str, path: str, view: View, op: str, **more: Any) -> Rule:
    return Rule(BASE + path, methods=[method], endpoint=Endpoint(FAMILY, view, f"kinguin.{op}", **more))


def _subject(call: Call) -> str:
    return _external_id(call) or call.args.get("orderExternalId") or "-"


_ORDER: dict[str, Any] = {"subject": external_id_of}
_CREATE: dict[str, Any] = {"subject": _subject, "note": note}

RULES = [
    _rule("GET", "/v1/products", list_products, "products"),
    _rule("GET", "/v1/products/<int:kinguin_id>", show_product_by_number, "product"),
    _rule("GET", "/v2/products/<product_id>", show_product, "product", subject=lambda call, product_id: product_id),
    _rule("POST", "/v1/order", create_order, "order.create", **_CREATE),
    _rule("POST", "/v2/order", create_order, "order.create", **_CREATE),
    _rule("GET", "/v1/order", search_orders, "order.search", subject=_subject),
    _rule("GET", "/v1/order/<order_id>", show_order, "order.get", **_ORDER),
    _rule("GET", "/v2/order/<order_id>/keys", list_keys, "order.keys", **_ORDER),
    _rule("POST", "/v2/order/<order_id>/keys/return", return_keys, "order.return", **_ORDER),
    _rule("GET", "/v1/balance", show_balance, "balance"),
    _rule("GET", "/v1/regions", lambda call: respond(catalogue.REGIONS), "lookup"),
    _rule("GET", "/v1/platforms", lambda call: respond(catalogue.PLATFORMS), "lookup"),
    _rule("GET", "/v1/genres", lambda call: respond(catalogue.GENRES), "lookup"),
]

"""The two dialects of BitLoot's partners: reservations, and orders with automatic delivery.

Neither knows an external id. Both sell text keys only: their answers have no place for a key's type.
"""

import hashlib
import hmac
import time
from sqlite3 import Row
from typing import Any

from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from sandbox import catalogue, purchases
from sandbox.calls import Call, Endpoint, Family, View, respond
from sandbox.purchases import Line, NoFunds, Unavailable
from sandbox.store import Refused, Tx

RESERVATIONS = "/kinguin/reservations"
ORDERS = "/kinguin/orders"
TOKEN_SECONDS = 3600
MAX_QTY = 9
ERRORS = {
    "refuse": (422, "rejected"),
    "insufficient_balance": (402, "insufficient_balance"),
    "out_of_stock": (409, "out_of_stock"),
    "429": (429, "too_many_requests"),
    "5xx_before": (500, "internal_error"),
    "5xx_after": (500, "internal_error"),
}
ORDER_STATUSES = {"processing": "pending", "completed": "ready", "canceled": "cancelled", "refunded": "cancelled"}


def issue_token(call: Call) -> Response:
    given = {**call.form.to_dict(), **call.body}
    config = call.world.config
    known = (config.kinguin_client_id, config.kinguin_client_secret)
    if not all(map(_same, (given.get("client_id"), given.get("client_secret")), known)):
        raise _error(401, "invalid_client")
    expires = int(time.time()) + TOKEN_SECONDS
    token = f"{expires}.{_token_mac(call, expires)}"
    return respond({"access_token": token, "token_type": "bearer", "expires_in": TOKEN_SECONDS})


def create_reservation(call: Call) -> Response:
    line = _line(call, "reservations", call.body.get("productId"))
    purchase_id = call.world.write(lambda tx: _place(call, tx, "reservations", line))
    return respond({"reservationId": purchase_id, "status": "reserved"}, 201)


def give_reservation(call: Call, order_id: str) -> Response:
    purchase = _purchase(call, "reservations", order_id)
    if purchase["status"] in ("canceled", "refunded"):
        raise _error(409, "reservation_cancelled")
    call.world.write(lambda tx: _give(call, tx, order_id))
    return respond(
        {"reservationId": order_id, "status": _reservation_status(_purchase(call, "reservations", order_id))}
    )


def show_reservation(call: Call, order_id: str) -> Response:
    purchase = _purchase(call, "reservations", order_id)
    status = _reservation_status(purchase)
    return respond({"reservationId": order_id, "status": status, "codes": _codes(call, order_id)})


def create_order(call: Call) -> Response:
    offer = call.world.store.read_one("SELECT id FROM product WHERE offer_id = ?", str(call.body.get("offerId")))
    line = _line(call, "orders", offer["id"] if offer else call.body.get("offerId"))
    purchase_id = call.world.write(lambda tx: _place(call, tx, "orders", line))
    return respond(_order(call, purchase_id), 201)


def show_order(call: Call, order_id: str) -> Response:
    return respond(_order(call, order_id))


def note(call: Call, reason: str) -> None:
    dialect = "orders" if call.path.startswith(ORDERS) else "reservations"

    def log(tx: Tx) -> None:
        _log_received(call, tx, dialect)
        purchases.refused(tx, dialect=dialect, external_id=None, reason=reason)

    call.world.write(log)


def _bearer(call: Call) -> str:
    scheme, _, token = call.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _check_token(call: Call) -> None:
    expires, _, mac = _bearer(call).partition(".")
    alive = expires.isascii() and expires.isdigit() and int(expires) > time.time()
    if not alive or not _same(mac, _token_mac(call, int(expires))):
        raise _error(401, "invalid_token")


def _check_api_key(call: Call) -> None:
    if not _same(_bearer(call), call.world.config.kinguin_api_key):
        raise _error(401, "unauthorized")


def _token_mac(call: Call, expires: int) -> str:
    secret = call.world.config.kinguin_client_secret.encode()
    return hmac.new(secret, f"token:{expires}".encode(), hashlib.sha256).hexdigest()


def _same(given: Any, expected: str) -> bool:
    return isinstance(given, str) and bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def _line(call: Call, dialect: str, product_id: Any) -> Line:
    qty = call.body.get("quantity")
    if type(qty) is not int or not 1 <= qty <= MAX_QTY:
        note(call, "refused with 400")
        raise _error(400, "invalid_quantity")
    item = catalogue.BY_PRODUCT_ID.get(str(product_id))
    if item is None or not item.is_text:
        note(call, "refused with 404")
        raise _error(404, "unknown_product" if dialect == "reservations" else "unknown_offer")
    return Line(item.product_id, qty, key_type="text")


def _log_received(call: Call, tx: Tx, dialect: str) -> None:
    request = call.get_data().decode(errors="replace")
    purchases.received(tx, dialect=dialect, external_id=None, request=request)


def _place(call: Call, tx: Tx, dialect: str, line: Line) -> str:
    _log_received(call, tx, dialect)
    try:
        return purchases.place(call.world, tx, dialect=dialect, lines=[line], external_id=None, fault=call.fault)
    except (Unavailable, NoFunds) as refusal:
        purchases.refused(tx, dialect=dialect, external_id=None, reason=type(refusal).__name__)
        raise _refused(refusal) from refusal


def _give(call: Call, tx: Tx, order_id: str) -> None:
    try:
        purchases.give(call.world, tx, order_id)
    except NoFunds as refusal:
        raise _refused(refusal) from refusal


def _refused(refusal: Unavailable | NoFunds) -> Refused:
    return _error(*ERRORS["insufficient_balance" if isinstance(refusal, NoFunds) else "out_of_stock"])


def _error(status: int, name: str) -> Refused:
    return Refused(status, {"error": name, "message": name.replace("_", " ").capitalize() + "."})


def _purchase(call: Call, dialect: str, order_id: str) -> Row:
    sql = "SELECT * FROM purchase WHERE id = ? AND dialect = ?"
    row = call.world.store.read_one(sql, order_id, dialect)
    if row is None:
        raise _error(404, "not_found")
    return row


def _reservation_status(purchase: Row) -> str:
    if purchase["status"] == "processing":
        return "given" if purchase["sold"] else "reserved"
    return "delivered" if purchase["status"] == "completed" else "cancelled"


def _codes(call: Call, order_id: str) -> list[str]:
    sql = "SELECT serial FROM licence WHERE purchase_id = ? AND status = 'DELIVERED' ORDER BY line, id"
    return [row["serial"] for row in call.world.store.read(sql, order_id)]


def _order(call: Call, order_id: str) -> dict[str, Any]:
    purchase = _purchase(call, "orders", order_id)
    order: dict[str, Any] = {"id": order_id, "status": ORDER_STATUSES[purchase["status"]]}
    codes = _codes(call, order_id)
    if order["status"] == "cancelled":
        order["error"] = "The order was cancelled by the supplier."
    elif len(codes) == 1:
        order["key"] = codes[0]
    elif codes:
        order["keys"] = codes
    return order


def _refusal(call: Call, name: str) -> Refused:
    return _error(*ERRORS.get(name, ERRORS["refuse"]))


def _product(call: Call) -> str:
    return str(call.body.get("productId") or call.body.get("offerId") or "-")


_OPEN = Family(authorize=lambda call: None, refusal=_refusal, delayed=True)
_TOKEN = Family(authorize=_check_token, refusal=_refusal, delayed=True)
_API_KEY = Family(authorize=_check_api_key, refusal=_refusal, delayed=True)


def _rule(method: str, path: str, family: Family, view: View, op: str, **more: Any) -> Rule:
    return Rule(path, methods=[method], endpoint=Endpoint(family, view, f"kinguin.{op}", **more))


_CREATE: dict[str, Any] = {"subject": _product, "note": note}
_ONE: dict[str, Any] = {"subject": lambda call, order_id: order_id}

RULES = [
    _rule("POST", f"{RESERVATIONS}/auth/token", _OPEN, issue_token, "token"),
    _rule("POST", f"{RESERVATIONS}/reservations", _TOKEN, create_reservation, "reservation.create", **_CREATE),
    _rule("POST", f"{RESERVATIONS}/reservations/<order_id>/give", _TOKEN, give_reservation, "reservation.give", **_ONE),
    _rule(
        "GET", f"{RESERVATIONS}/reservations/<order_id>/delivered", _TOKEN, show_reservation, "reservation.get", **_ONE
    ),
    _rule("POST", f"{ORDERS}/v1/orders", _API_KEY, create_order, "order.create", **_CREATE),
    _rule("GET", f"{ORDERS}/v1/orders/<order_id>", _API_KEY, show_order, "order.get", **_ONE),
    _rule("GET", f"{ORDERS}/v1/health", _API_KEY, lambda call: respond({"status": "ok"}), "health"),
]

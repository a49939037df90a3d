"""The order's bearer: derived from the order, never stored. Who holds it may read and open the order."""

import base64
import hmac
import uuid
from hashlib import sha256
from typing import Any, Literal

from django.conf import settings
from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from rest_framework.request import Request

from bitloot.core import queries
from orders.exceptions import LinkReplaced, OrderNotFound
from orders.models import Order

Purpose = Literal["api", "mail"]
_SALT = "bitloot.orders.token"
_MARK: dict[Purpose, str] = {"api": "a", "mail": "m"}


def make_token(order: Order, purpose: Purpose) -> str:
    """Return the bearer for the API, or the one for mailed links, which ends with the next link generation."""
    return _sign(order.id, purpose, order.link_generation if purpose == "mail" else 0)


def order_link(order: Order) -> str:
    """Return the address of the customer's page; the token stays in the fragment, which no server ever sees."""
    return f"{settings.SITE_URL}/orders/{order.id}#{make_token(order, 'mail')}"


def open_order(order_id: uuid.UUID | str, token: str) -> Order:
    """Return the order that `token` opens.

    Raises OrderNotFound, the same for an unknown order and a wrong token, and LinkReplaced for an older mailed link.
    """
    try:
        wanted = uuid.UUID(str(order_id))
    except ValueError as err:
        raise OrderNotFound from err
    if str(wanted) != str(order_id) or not token.isascii():
        raise OrderNotFound
    if hmac.compare_digest(token, _sign(wanted, "api", 0)):
        return _load(wanted)
    generation = _generation_of(wanted, token)
    order = _load(wanted)
    if generation != order.link_generation:
        raise LinkReplaced
    return order


def bearer(request: HttpRequest | Request) -> str:
    """Return the token of the Authorization header; anything but one clean Bearer value counts as none."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and "," not in token else ""


def link_of(request: HttpRequest | Request) -> tuple[str, int]:
    """Return the kind ("api" or "mail") and the generation of the link that `order_for` has accepted."""
    mark, *rest = bearer(request).split(".")
    kind = next((purpose for purpose, known in _MARK.items() if known == mark), "")
    return kind, int(rest[0]) if len(rest) > 1 and rest[0].isdigit() else 0


def order_for(request: HttpRequest | Request, order_id: Any) -> Order:
    """Return the order that the request's bearer opens; the only way in for customers. Raises OrderNotFound."""
    token = bearer(request)
    if not token:
        raise OrderNotFound
    return open_order(order_id, token)


def _generation_of(order_id: uuid.UUID, token: str) -> int:
    mark, _, number = token.partition(".")[0], None, token.partition(".")[2].partition(".")[0]
    generation = int(number) if mark == "m" and number.isdigit() and len(number) < 10 else 0
    if generation == 0 or not hmac.compare_digest(token, _sign(order_id, "mail", generation)):
        raise OrderNotFound
    return generation


def _load(order_id: uuid.UUID) -> Order:
    try:
        return queries.get(Order, order_id)
    except Order.DoesNotExist as err:
        raise OrderNotFound from err


def _sign(order_id: uuid.UUID, purpose: Purpose, generation: int) -> str:
    mac = salted_hmac(_SALT, f"{order_id}:{purpose}:{generation}", algorithm=sha256().name).digest()
    mark = _MARK[purpose] if purpose == "api" else f"{_MARK[purpose]}.{generation}"
    return f"{mark}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

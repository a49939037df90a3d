"""The order's bearer: derived from the order, never stored. Anyone who holds it may read and open the order.

An API key opens the orders that were placed with it; what it may do with them, its scopes say (bitloot.core.clients).
"""

import time
import uuid
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request

from bitloot.core import logs, queries
from bitloot.core.clients import ApiClient, client_of
from bitloot.core.signing import is_signed, sign
from orders.exceptions import LinkExpired, LinkReplaced, OrderNotFound
from orders.models import Order

LinkPurpose = Literal["api", "mail"]
Purpose = LinkPurpose | Literal["key"]  # an API key, which holds no token of the order
_SALT = "bitloot.orders.token"
_PURPOSES: dict[str, LinkPurpose] = {"a": "api", "m": "mail"}
_MARKS = {purpose: mark for mark, purpose in _PURPOSES.items()}
# A mailed link is what a customer still has after a year; a program or a tab can ask for a new token at any time.
LIVES: dict[LinkPurpose, timedelta] = {"api": timedelta(days=30), "mail": timedelta(days=400)}
# What `order_for` and its like raise.
TOKEN_PROBLEMS = (OrderNotFound, LinkReplaced, LinkExpired)


class Token(NamedTuple):
    """What a genuine token holds: who it was made for, in which generation, when."""

    purpose: LinkPurpose
    generation: int
    issued_at: int


class Way(NamedTuple):
    """By what a request came to an order: a link or token of this generation, or an API key."""

    purpose: Purpose
    generation: int


def make_token(order: Order, purpose: LinkPurpose, *, issued_at: float | None = None) -> str:
    """Return a bearer of today's link generation: for the API, or for a mailed link."""
    # In whole seconds: a repeated request gets the same token as the first one.
    token = Token(purpose, order.link_generation, int(time.time() if issued_at is None else issued_at))
    return f"{_MARKS[purpose]}.{token.generation}.{token.issued_at}.{sign(_SALT, _signed_text(order.id, token))}"


def order_link(order: Order) -> str:
    """Return the address of the customer's page; the token stays in the fragment, which no server ever sees."""
    return f"{settings.SITE_URL}/orders/{order.id}#{make_token(order, 'mail')}"


def open_order(order_id: uuid.UUID | str, token: str) -> Order:
    """Return the order that `token` opens.

    Raises OrderNotFound, the same for an unknown order and a wrong token; for a genuine one LinkReplaced if the order's
    links were ended since, and LinkExpired if it is too old.
    """
    return open_with(order_id, token)[0]


def open_with(order_id: uuid.UUID | str, token: str) -> tuple[Order, Token]:
    """Like `open_order`, and return what the token holds."""
    wanted = _canonical(order_id)
    genuine = _read(wanted, token)  # before the row: guesses cost no query, and take as long for unknown orders
    order = _load(wanted)
    logs.note(order=order.pk)
    if genuine.generation != order.link_generation:
        raise LinkReplaced
    if genuine.issued_at + LIVES[genuine.purpose].total_seconds() < time.time():
        raise LinkExpired
    return order, genuine


def bearer(request: HttpRequest | Request) -> str:
    """Return the token of the Authorization header; anything but one clean Bearer value counts as none."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and "," not in token else ""


def order_for(request: HttpRequest | Request, order_id: Any) -> Order:
    """Return the order that the request's bearer opens, a token or an API key; the only way in for customers.

    Raises as `open_order` does.
    """
    return order_and_way_for(request, order_id)[0]


def order_and_way_for(request: HttpRequest | Request, order_id: Any) -> tuple[Order, Way]:
    if (client := client_of(request)) is not None:
        order = _open_own(order_id, client)
        return order, Way("key", order.link_generation)
    order, token = open_with(order_id, bearer(request))
    return order, Way(token.purpose, token.generation)


def _open_own(order_id: Any, client: ApiClient) -> Order:
    """Return an order that was placed with this API key; another's is not there, as one that never was."""
    order = _load(_canonical(order_id))
    if order.placed_with != client.id:
        raise OrderNotFound
    logs.note(order=order.pk)
    return order


def _canonical(order_id: Any) -> uuid.UUID:
    try:
        wanted = uuid.UUID(str(order_id))
    except ValueError as err:
        raise OrderNotFound from err
    if str(wanted) != str(order_id):  # UUID() also reads braces, capitals and URNs: one order has one address
        raise OrderNotFound
    return wanted


def _read(order_id: uuid.UUID, text: str) -> Token:
    """Return what a token of ours says, without a look into the database. Raises OrderNotFound."""
    mark, *numbers = text[:40].split(".")[:3]
    if mark not in _PURPOSES or len(numbers) != 2 or not all(_is_number(number) for number in numbers):
        raise OrderNotFound
    token = Token(_PURPOSES[mark], int(numbers[0]), int(numbers[1]))
    # Written anew from the numbers, so that each token has one spelling: “01” is not “1”.
    signature = text.removeprefix(f"{mark}.{token.generation}.{token.issued_at}.")
    if not is_signed(_SALT, _signed_text(order_id, token), signature):
        raise OrderNotFound
    return token


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12


def _load(order_id: uuid.UUID) -> Order:
    try:
        return queries.get(Order, order_id)
    except Order.DoesNotExist as err:
        raise OrderNotFound from err


def _signed_text(order_id: uuid.UUID, token: Token) -> str:
    return f"{order_id}:{token.purpose}:{token.generation}:{token.issued_at}"


def lock_for_holder(order: Order) -> Order:
    """Lock the order for someone who showed a token of it. Raises LinkReplaced if its links were ended since.

    Of two requests with one token, the first may end it; the second must change nothing.
    """
    locked = order.lock()
    if locked.link_generation != order.link_generation:
        raise LinkReplaced
    return locked

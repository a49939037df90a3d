from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request

from orders.exceptions import OrderNotFound
from orders.models import Order
from orders.tokens import open_order


def bearer(request: HttpRequest | Request) -> str:
    """Return the token of the Authorization header; anything but one clean Bearer value counts as none."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and "," not in token else ""


def order_for(request: HttpRequest | Request, order_id: Any) -> Order:
    """Return the order that the request's bearer opens; the only way in for customers. Raises OrderNotFound."""
    token = bearer(request)
    if not token:
        raise OrderNotFound
    return open_order(order_id, token)

"""Programs that prove who they are with an API key: what every room may know of one. `bitloot.partners` keeps them."""

import uuid
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db.models import TextChoices
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request


class Scope(TextChoices):
    PRODUCTS = "products:read", "Read products and coins"
    PLACE = "orders:place", "Place orders and start their payments"
    READ = "orders:read", "List and read its own orders"
    REFUNDS = "refunds:ask", "Ask for its orders' money back, and give the address it goes to"
    KEYS = "keys:open", "Open the keys of its own orders"


class ScopeMissing(Exception):
    """The API key may not do this; the message names the scope, or what does it instead."""


@dataclass(frozen=True)
class ApiClient:
    """One API key, as a request showed it."""

    id: uuid.UUID
    email: str
    scopes: frozenset[str]
    requests_per_minute: int
    unpaid_per_hour: int


class ClientMay(BasePermission):
    """Lets an API key do what its scopes name; anybody else passes, and the view asks for the order's token."""

    # What a view without `key_scopes` takes from an API key.
    NOTHING: ClassVar[dict[str, Scope]] = {}

    def has_permission(self, request: Request, view: Any) -> bool:
        client = client_of(request)
        if client is None or request.method not in view.allowed_methods:
            return True  # what no method of the view takes is answered with 405
        scopes = getattr(view, "key_scopes", self.NOTHING)
        needed = scopes.get("GET" if request.method in SAFE_METHODS else request.method)
        if needed is None:
            raise ScopeMissing("This takes no API key. Use the order's own token, or another route.")
        if needed not in client.scopes:
            raise ScopeMissing(f"This API key may not do this: it lacks the scope {needed}.")
        return True


def client_of(request: Any) -> ApiClient | None:
    """Return whose API key the request showed, if it showed one."""
    shown = getattr(request, "auth", None)
    return shown if isinstance(shown, ApiClient) else None

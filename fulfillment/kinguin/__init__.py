"""The supplier: one client per dialect behind one protocol. `client()` is the one that KINGUIN_API names."""

from functools import lru_cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from bitloot.core.providers import Transport
from fulfillment.kinguin import ecommerce, orders, reservations
from fulfillment.kinguin.ecommerce import EcommerceClient
from fulfillment.kinguin.orders import OrdersClient
from fulfillment.kinguin.protocol import (
    SOLD_OUT,
    AmbiguousSearch,
    BadWebhook,
    Found,
    Health,
    KinguinClient,
    KinguinCredentialsRefused,
    KinguinRejected,
    Lookups,
    NotSupported,
    Outcome,
    OutOfStock,
    Quote,
    SupplierEvent,
    SupplierKey,
    SupplierOrder,
    SupplierProduct,
    SupplierStatus,
    UnreadableKey,
    WebhookNotConfigured,
    classify,
)
from fulfillment.kinguin.reservations import ReservationsClient

# What a webhook of any dialect may be called; a filter offers them.
EVENT_TYPES = (*ecommerce.EVENTS, *orders.EVENTS, *reservations.EVENTS)

__all__ = [
    "EVENT_TYPES",
    "SOLD_OUT",
    "AmbiguousSearch",
    "BadWebhook",
    "EcommerceClient",
    "Found",
    "Health",
    "KinguinClient",
    "KinguinCredentialsRefused",
    "KinguinRejected",
    "Lookups",
    "NotSupported",
    "OrdersClient",
    "OutOfStock",
    "Outcome",
    "Quote",
    "ReservationsClient",
    "SupplierEvent",
    "SupplierKey",
    "SupplierOrder",
    "SupplierProduct",
    "SupplierStatus",
    "UnreadableKey",
    "WebhookNotConfigured",
    "classify",
    "client",
]


def client() -> KinguinClient:
    return _client(
        settings.KINGUIN_API,
        settings.KINGUIN_BASE_URL,
        settings.KINGUIN_API_KEY,
        settings.KINGUIN_CLIENT_ID,
        settings.KINGUIN_CLIENT_SECRET,
    )


@lru_cache(maxsize=4)
def _client(dialect: str, base_url: str, api_key: str, client_id: str, client_secret: str) -> KinguinClient:
    if not base_url:
        raise ImproperlyConfigured("Set KINGUIN_BASE_URL; docs/kinguin.md tells where to find it.")
    if dialect == "reservations":
        _require(KINGUIN_CLIENT_ID=client_id, KINGUIN_CLIENT_SECRET=client_secret)
        transport = Transport(provider="kinguin", base_url=base_url, headers={})
        return ReservationsClient(transport, client_id=client_id, client_secret=client_secret)
    _require(KINGUIN_API_KEY=api_key)
    if dialect == "orders":
        headers = {"Authorization": f"Bearer {api_key}"}
        return OrdersClient(Transport(provider="kinguin", base_url=base_url, headers=headers))
    if dialect == "ecommerce":
        return EcommerceClient(Transport(provider="kinguin", base_url=base_url, headers={"X-Api-Key": api_key}))
    raise ImproperlyConfigured(f"KINGUIN_API is {dialect!r}; it has to be ecommerce, reservations or orders.")


def _require(**values: str) -> None:
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise ImproperlyConfigured(f"Set {' and '.join(missing)}; docs/kinguin.md tells where to find it.")

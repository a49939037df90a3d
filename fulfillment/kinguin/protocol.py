"""What every Kinguin dialect speaks: our words, the errors and the one table that judges a purchase."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Literal, Protocol

from bitloot.core.providers import Cause, CredentialsRefused, ProviderError, ProviderNotSent, ProviderRejected

logger = logging.getLogger(__name__)


class KinguinRejected(ProviderRejected):
    """An answer in Kinguin's error vocabulary. Only classify() tells whether it proves that nothing was bought."""

    def __init__(self, message: str, *, status: int | None, kind: str = "", detail: str = "") -> None:
        super().__init__(message, status=status)
        self.kind = kind
        self.detail = detail


class KinguinCredentialsRefused(KinguinRejected, CredentialsRefused):
    """They refuse our key, or credentials fresh from the environment: nothing was looked at, nothing was bought."""


class TokenExpired(KinguinRejected):
    """A kept token was refused at the door, so the purchase was not looked at; the next try fetches another."""


class OutOfStock(ProviderRejected):
    """The product cannot be bought now; Kinguin does not say whether it ever could."""


class NotSupported(ProviderRejected):
    """This dialect has no such call."""


class UnreadableKey(ProviderError):
    """A key arrived that cannot be shown to anybody. `readable` holds the order's other keys."""

    cause = Cause.NONSENSE

    def __init__(self, key_id: str, reason: str, readable: "Sequence[SupplierKey]" = ()) -> None:
        super().__init__(f"Key {key_id} is unreadable: {reason}. Look at the order in Kinguin's dashboard.")
        self.key_id = key_id
        self.readable = list(readable)


class AmbiguousSearch(ProviderError):
    """Several orders carry one external id of ours: a double purchase. Nothing may be adopted automatically."""

    def __init__(self, external_id: str, order_ids: Sequence[str]) -> None:
        super().__init__(f"Kinguin has {len(order_ids)} orders for {external_id}: {', '.join(order_ids)}")
        self.order_ids = list(order_ids)


class BadWebhook(Exception):
    """The call does not carry our webhook secret."""


class WebhookNotConfigured(Exception):
    """There is no webhook secret, so no call can be believed."""


class SupplierStatus(StrEnum):
    PROCESSING = "processing"
    COMPLETED = "completed"
    CANCELED = "canceled"
    REFUNDED = "refunded"
    UNKNOWN = "unknown"

    @property
    def is_ended(self) -> bool:
        """Whether the supplier has taken the order back: no key comes of it any more."""
        return self in (SupplierStatus.CANCELED, SupplierStatus.REFUNDED)


class Outcome(StrEnum):
    """What is known after a purchase that did not simply succeed."""

    NOT_SENT = "not_sent"
    REFUSED_CONFIG = "refused_config"
    REFUSED_FUNDS = "refused_funds"
    REFUSED_STOCK = "refused_stock"
    REFUSED_OTHER = "refused_other"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Quote:
    price: Decimal
    qty: int
    text_qty: int


SOLD_OUT = Quote(Decimal(0), 0, 0)


@dataclass(frozen=True)
class SupplierProduct:
    """A product as the supplier's catalogue describes it. Texts are theirs: nothing of them may be shown as it is."""

    product_id: str
    number: int  # what the addresses of their shop show
    name: str
    platform: str
    region: str
    price: Decimal
    qty: int
    text_qty: int
    is_preorder: bool = False
    description: str = field(default="", repr=False)
    activation: str = field(default="", repr=False)
    genres: tuple[str, ...] = ()
    age_rating: str = ""
    release_date: date | None = None
    cover_url: str = ""

    @property
    def quote(self) -> Quote:
        """What a purchase would go by: a pre-order cannot be bought now."""
        has_stock = self.qty > 0 and self.price > 0 and not self.is_preorder
        return Quote(self.price, self.qty, self.text_qty) if has_stock else SOLD_OUT


@dataclass(frozen=True)
class Found:
    """One page of a search. `odd` counts the products that could not be read; `total` is the supplier's number."""

    products: list[SupplierProduct]
    total: int
    odd: int = 0


@dataclass(frozen=True)
class Lookups:
    """What a search may be narrowed by: platforms by name, regions by number."""

    platforms: tuple[str, ...] = ()
    regions: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class SupplierOrder:
    """An order as the supplier sees it. `cost` is None if they did not say it, `external_id` "" if they keep none.

    The counts are of keys: asked for, ready to be fetched, and lost (canceled, refunded or returned).
    """

    order_id: str
    external_id: str
    status: SupplierStatus
    cost: Decimal | None = None
    keys_expected: int = 0
    keys_ready: int = 0
    keys_lost: int = 0


@dataclass(frozen=True)
class SupplierKey:
    key_id: str
    serial: bytes = field(repr=False)
    content_type: str
    product_id: str


@dataclass(frozen=True)
class Health:
    ok: bool
    balance: Decimal | None
    latency_ms: float
    problem: str = ""
    cause: Cause | None = None


@dataclass(frozen=True)
class SupplierEvent:
    """What a webhook claims: a reason to look, never a fact. Ids are safe for a URL or empty."""

    kind: Literal["order", "product", "ping", "unknown"]
    event_type: str = ""
    order_id: str = ""
    external_id: str = ""
    status: str = ""
    updated_at: str = ""
    product_id: str = ""


class KinguinClient(Protocol):
    @property
    def dialect(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def can_find(self) -> bool: ...
    @property
    def must_give(self) -> bool: ...
    @property
    def webhook_answer(self) -> tuple[int, bytes]: ...

    def quote(self, product_id: str) -> Quote | None:
        """Return price and stock, None if the dialect has no catalogue. Raises OutOfStock."""

    def search(self, *, name: str = "", platform: str = "", region: int | None = None, page: int = 1) -> Found:
        """Return a page of the catalogue. Raises NotSupported if the dialect has none, like the three below."""

    def product(self, product_id: str) -> SupplierProduct:
        """Return a product of the catalogue, sold out ones only while the supplier shows them. Raises OutOfStock."""

    def products(self, product_ids: Sequence[str]) -> dict[str, SupplierProduct]:
        """Return those that one call shows, by id: what is missing may be sold out, gone or unreadable."""

    def lookups(self) -> Lookups: ...

    def reserve(
        self, *, external_id: str, product_id: str, offer_id: str, quantity: int, price: Decimal, text_only: bool
    ) -> SupplierOrder:
        """Buy. Sent once at most; give every error to classify() before anything else is done."""

    def give(self, order_id: str) -> None:
        """Have the keys of a purchase handed over, where that is a step of its own (`must_give`)."""

    def read(self, order_id: str) -> SupplierOrder: ...

    def delivered(self, order_id: str) -> list[SupplierKey]:
        """Return the keys that are ready. Raises UnreadableKey."""

    def find(self, external_id: str) -> SupplierOrder | None:
        """Return the order that carries our external id. Raises AmbiguousSearch, or NotSupported without can_find."""

    def cancel(self, order_id: str) -> None: ...

    def health(self) -> Health:
        """Ask a harmless question; never raises ProviderError."""

    def verify_webhook(self, headers: Mapping[str, str], raw: bytes, secrets: Sequence[str]) -> None:
        """Raise BadWebhook or WebhookNotConfigured unless the call carries one of the secrets."""

    def parse_webhook(self, headers: Mapping[str, str], raw: bytes) -> SupplierEvent:
        """Return what a verified call claims; anything unreadable is kind "unknown"."""


# Kinds that prove that nothing was bought. Everything else, OrderFailed and ResourceLock included, proves nothing.
_PROVEN_REFUSALS = {
    "Authorization": Outcome.REFUSED_CONFIG,
    "Authentication": Outcome.REFUSED_CONFIG,
    "InsufficientBalance": Outcome.REFUSED_FUNDS,
    "ProductUnavailable": Outcome.REFUSED_STOCK,
    "Preorder": Outcome.REFUSED_STOCK,
    "OrderNotSupported": Outcome.REFUSED_STOCK,
    "ConstraintViolation": Outcome.REFUSED_OTHER,
    # The words of the other two dialects.
    "insufficient_balance": Outcome.REFUSED_FUNDS,
    "out_of_stock": Outcome.REFUSED_STOCK,
    "unknown_product": Outcome.REFUSED_STOCK,
    "unknown_offer": Outcome.REFUSED_STOCK,
}
_NAMES_EXTERNAL_ID = re.compile(r"external[\s_-]*id", re.IGNORECASE)


def classify(err: ProviderError, external_id: str = "") -> Outcome:
    """Judge the error of a purchase: a refusal counts only where it proves that nothing was bought."""
    if isinstance(err, ProviderNotSent | TokenExpired):
        return Outcome.NOT_SENT
    if not isinstance(err, KinguinRejected):
        return Outcome.UNKNOWN
    if err.status in (401, 403):
        return Outcome.REFUSED_CONFIG
    # Three third parties report three statuses for an external id that is already used; the text is what they share.
    named = _NAMES_EXTERNAL_ID.search(err.detail) or (external_id and external_id in err.detail)
    if named and (err.kind == "ConstraintViolation" or err.status in (409, 422)):
        return Outcome.DUPLICATE
    return _PROVEN_REFUSALS.get(err.kind, Outcome.UNKNOWN)

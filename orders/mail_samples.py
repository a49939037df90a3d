"""A sample of every mail, for `preview_emails` and for tests: made up, and the same each time."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from django.conf import settings

from orders.choices import AlertKind
from orders.mail_letters import BRING_TOKEN, Letter, write
from orders.models import Alert, Email, Order, OrderItem, Product

_PLACED_AT = datetime(2026, 11, 28, 20, 15, tzinfo=UTC)
_UNTIL = datetime(2026, 11, 29, 22, 15, tzinfo=UTC)
_ORDER_ID = UUID("5e0a3c39-7a3d-4b0e-9f55-0d8f6a1c2b3d")
_TITLES = ("2 × Ember Drift", "1 × Harbour of Glass")
_REFUND: dict[str, str | bool] = {"coins": "0.064 LTC", "address": "…7fK2qd"}
Kind = Email.Kind
# By kind and, after a hyphen, by what else the template says.
FACTS: dict[str, dict[str, str | bool]] = {
    **{kind.value: {} for kind in Kind},
    Kind.PAYMENT_CHECKED + "-in-parts": {"in_parts": True},
    Kind.PAYMENT_CHECKED + "-ended": {"ended": True},
    Kind.UNDERPAID: {"missing": "5.00", "coins": "0.064 LTC"},
    Kind.UNDERPAID + "-again": {"missing": "5.00"},
    Kind.OVERPAID: {"coins": "0.064 LTC"},
    Kind.DELAYED: {"cause": "out_of_stock", "title": "Ember Drift", "until": _UNTIL.isoformat()},
    Kind.DELAYED + "-price": {"cause": "too_expensive", "title": "Ember Drift", "until": _UNTIL.isoformat()},
    Kind.DELAYED + "-supplier": {"cause": "supplier", "title": "Ember Drift", "until": _UNTIL.isoformat()},
    Kind.DELAYED + "-staff": {"cause": "staff", "title": "Ember Drift"},
    Kind.REFUND_ASKED: {"coins": "0.064 LTC", "refund": "all", "undelivered": False},
    Kind.REFUND_ASKED + "-undelivered": {"coins": "0.064 LTC", "refund": "all", "undelivered": True},
    Kind.REFUND_ASKED + "-surplus": {"coins": "0.064 LTC", "refund": "surplus", "undelivered": False},
    Kind.REFUND_ASKED + "-share": {"coins": "0.064 LTC", "refund": "share", "undelivered": False},
    Kind.REFUND_ADDRESS: _REFUND,
    Kind.REFUND_ADDRESS + "-changed": {**_REFUND, "until": _UNTIL.isoformat()},
    Kind.REFUND_SENT: {**_REFUND, "transaction": "9f2c4be1d07a6385c2f4"},
    Kind.REFUND_ARRIVED: {"coins": "0.064 LTC"},
    Kind.PARTNER_NOTICE: {
        "host": "hooks.partner.example",
        "key": "blk_5e0a3c39…",
        "trouble": "Nothing arrived for 3 days. It answered 503.",
    },
    Kind.ALERT + "-again": {"again": True},
}


@dataclass(frozen=True)
class Sample:
    name: str
    language: str
    letter: Letter


def samples() -> Iterator[Sample]:
    """Write every sample in every language; staff's mails are in English only."""
    for name, facts in FACTS.items():
        kind = Kind(name.partition("-")[0])
        for language, _ in settings.LANGUAGES[:1] if kind in Email.IN_ENGLISH else settings.LANGUAGES:
            yield Sample(name, language, _letter(kind, language, facts))


def _letter(kind: Kind, language: str, facts: dict[str, str | bool]) -> Letter:
    order = Order(
        id=_ORDER_ID, email="kim@example.org", total=Decimal("21.47"), currency="EUR", language=language,
        status=Order.Status.HELD, created_at=_PLACED_AT, expires_at=_UNTIL,
    )  # fmt: skip
    mail = Email(order=order, kind=kind, to=order.email, facts=facts, created_at=_PLACED_AT)
    if kind == Kind.STAFF_NOTICE:
        mail.reason = "kim signed in from a network that they had not used before."
    if kind == Kind.ALERT:
        mail.reason = "Staff stopped this order to look at it. Decide about it."
        mail.alert = Alert(
            pk=7, kind=AlertKind.ORDER_HELD, about_pk=str(order.pk), order=order, message=mail.reason,
            opened_at=_PLACED_AT, notify_at=_UNTIL,
        )  # fmt: skip
    secrets: dict[str, object] = {"code": "042917", "code_ends_at": _UNTIL} if kind == Kind.ACCESS_CODE else {}
    if kind == Kind.YOUR_ORDERS:
        secrets["found"] = [{"order": order, "title": title, "link": _link(order)} for title in _TITLES]
    if kind in BRING_TOKEN:
        secrets["link"] = _link(order)
    return write(mail, _items(order), **secrets)


def _link(order: Order) -> str:
    return f"{settings.SITE_URL}/orders/{order.pk}#a-sample-without-a-token"


def _items(order: Order) -> list[OrderItem]:
    cover = "bitloot/covers/ember-drift.svg"
    drift = Product(slug="ember-drift", title="Ember Drift", cover=cover, is_active=True)
    glass = Product(slug="harbour-of-glass", title="Harbour of Glass", is_active=True)
    return [
        OrderItem(order=order, product=drift, title=drift.title, quantity=2, unit_price=Decimal("7.49")),
        OrderItem(order=order, product=glass, title=glass.title, quantity=1, unit_price=Decimal("6.49")),
    ]

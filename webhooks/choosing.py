"""Which webhooks are meant: one filter for the admin's list, the staff API, the command and the runs of replays."""

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Self

from django.db.models import Q, QuerySet
from django.utils.dateparse import parse_date, parse_datetime

from fulfillment.models import Reservation
from orders.models import Order
from payments.models import Payment
from webhooks.models import WebhookLog

MAX_ORDERS = 200
NO_NAME = "none"  # no payment or purchase is called so
# What the admin's list calls its filters, and what they are here.
_OF_THE_LIST = {
    "id__in": "ids", "status__exact": "status", "status": "status", "provider__exact": "provider",
    "provider": "provider", "event_type": "event_type", "external_id": "external_id", "external_id__in": "external_ids",
    "received_at__gte": "since", "received_at__lt": "until", "q": "search",
}  # fmt: skip
_NOT_FILTERS = frozenset({"p", "o", "e", "_changelist_filters"})


class UnknownFilter(ValueError):
    """The list is filtered by something that a replay does not know; it would take more than is shown."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which webhooks are meant; an empty field filters nothing."""

    ids: Sequence[int] = ()
    status: str = ""
    provider: str = ""
    event_type: str = ""
    external_id: str = ""
    external_ids: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    search: str = ""  # an id of any kind, an order's id, a customer's address

    @classmethod
    def of_list(cls, query: Mapping[str, str]) -> Self:
        """Read the address of the admin's list. Raises UnknownFilter."""
        found: dict[str, Any] = {}
        for name, value in query.items():
            if name in _NOT_FILTERS or not value:
                continue
            if name not in _OF_THE_LIST:
                raise UnknownFilter(name)
            found[_OF_THE_LIST[name]] = value
        return cls.from_json(found)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote, or somebody who writes lists as `1,2`. Raises UnknownFilter."""
        known = {field.name for field in fields(cls)}
        if unknown := set(document) - known:
            raise UnknownFilter(", ".join(sorted(unknown)))
        try:
            return cls(**{name: _READ.get(name, _text)(value) for name, value in document.items() if value})
        except (ValueError, TypeError) as err:
            raise UnknownFilter(str(err)) from err

    def without_address(self) -> Self:
        """Name the payments and purchases of a customer instead of the customer, whom no run is to remember."""
        if "@" not in self.search:
            return self
        names = set(names_of(_orders(self.search)))
        kept = names & set(self.external_ids) if self.external_ids else names
        # Never an empty list: an empty filter filters nothing, and the run would replay every webhook there is.
        return replace(self, search="", external_ids=sorted(kept) or [NO_NAME])

    def as_json(self) -> dict[str, Any]:
        values = {name: value for name, value in asdict(self).items() if value}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}

    def __str__(self) -> str:
        words = {"ids": "number", "external_ids": "external id", "external_id": "external id", "search": "found by"}
        parts = []
        for name, value in self.as_json().items():
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            parts.append(f"{words.get(name, name.replace('_', ' '))} {shown}")
        return "; ".join(parts) or "all webhooks"


def chosen(wanted: Chosen) -> QuerySet[WebhookLog]:
    conditions = {
        "pk__in": wanted.ids,
        "status": wanted.status,
        "provider": wanted.provider,
        "event_type": wanted.event_type,
        "external_id": wanted.external_id,
        "external_id__in": wanted.external_ids,
        "received_at__gte": wanted.since,
        "received_at__lt": wanted.until,
    }
    rows = WebhookLog.objects.filter(**{name: value for name, value in conditions.items() if value})
    if not wanted.search:
        return rows
    found = Q(pk__in=[])
    for condition in found_by(wanted.search):
        found |= condition
    return rows.filter(found)


_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)


def found_by(term: str) -> Iterator[Q]:
    """Yield the conditions of which a webhook that this term finds meets one; each has an index."""
    term = term.replace("\x00", "").strip()
    # The index is case-sensitive, and people paste ids in either case.
    texts = sorted({term, term.lower(), term.upper()})
    yield Q(external_id__in=texts)
    yield Q(event_type__in=texts)
    if term.isascii() and term.isdigit() and len(term) < 19:
        yield Q(pk=int(term))
    if _UUID.fullmatch(term):
        yield Q(request_id=uuid.UUID(term))
    if names := names_of(_orders(term)):
        yield Q(external_id__in=names)


def names_of(orders: Sequence[Any]) -> list[str]:
    """Return what the providers call the payments and purchases of these orders."""
    if not orders:
        return []
    purchases = Reservation.objects.filter(item__order__in=orders).values_list("external_id", "supplier_order_id")
    payments = Payment.objects.filter(order__in=orders).values_list("external_id", flat=True)
    return sorted({name for pair in purchases for name in pair if name} | {name for name in payments if name})


def names_beside(external_id: str) -> list[str]:
    """Return every name of the payment or purchase that has this one: a purchase has ours and the supplier's."""
    ours = Q(external_id=external_id) | Q(supplier_order_id=external_id)
    pairs = Reservation.objects.filter(ours).values_list("external_id", "supplier_order_id")
    return sorted({external_id, *(name for pair in pairs for name in pair if name)})


def _orders(term: str) -> list[Any]:
    if "@" in term:
        return list(Order.objects.filter(email__iexact=term).values_list("pk", flat=True)[:MAX_ORDERS])
    try:
        return [uuid.UUID(term.rsplit(maxsplit=1)[-1])] if term else []
    except ValueError:
        return []


def _text(value: Any) -> str:
    return str(value).replace("\x00", "")


def _numbers(value: Any) -> list[int]:
    return [int(part) for part in (value.split(",") if isinstance(value, str) else value)]


def _texts(value: Any) -> list[str]:
    return [_text(part) for part in (value.split(",") if isinstance(value, str) else value)]


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        found = value
    elif (day := parse_date(str(value))) is not None:
        found = datetime(day.year, day.month, day.day, tzinfo=UTC)
    elif (moment := parse_datetime(str(value))) is not None:
        found = moment
    else:
        raise ValueError(f"no time: {value}")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


_READ: dict[str, Any] = {
    "ids": _numbers,
    "external_ids": _texts,
    "since": _moment,
    "until": _moment,
}

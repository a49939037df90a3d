"""What happened to money, day by day, for a bookkeeper: one line per order, payment, refund and purchase."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Q
from django.db.models.functions import Coalesce

from bitloot.accounting.ledger import value_of
from bitloot.core.money import plain
from fulfillment.models import Reservation
from orders.models import Order
from payments.models import Payment, Refund

# `amount` is in the shop's currency, `coins` in the coin; both are positive, the kind says which way they went.
COLUMNS = ("at", "kind", "order", "id", "status", "amount", "currency", "coins", "coin", "reference")

Span = tuple[datetime, datetime]
Line = dict[str, Any]


def journal(since: date, until: date, *, kinds: Sequence[str], using: str) -> Iterator[Line]:
    """Yield the lines from the first day to the last, both included, kind by kind and oldest first.

    `using` is the database that they are read from.
    """
    span = (_midnight(since), _midnight(until + timedelta(days=1)))
    for kind in kinds:
        for line in _SOURCES[kind](span, using):
            yield dict.fromkeys(COLUMNS) | {"kind": kind} | line


def _orders(span: Span, using: str) -> Iterator[Line]:
    for row in Order.objects.using(using).filter(_within("created_at", span)).order_by("created_at", "pk").iterator():
        money = {"amount": plain(row.total), "currency": row.currency}
        yield {"at": row.created_at, "order": row.pk, "id": row.pk, "status": row.status, **money}


def _payments(span: Span, using: str) -> Iterator[Line]:
    # A part that came has no moment at which it finished.
    moment = Coalesce("finished_at", "coins_seen_at", "created_at")
    rows = Payment.objects.using(using).filter(actually_paid__gt=0).annotate(at=moment, worth=value_of())
    for row in rows.filter(_within("at", span)).order_by("at", "pk").iterator():
        money = {"amount": plain(row.worth), "currency": row.price_currency.upper()}
        coins = {"coins": plain(row.actually_paid), "coin": row.pay_currency}
        yield {"at": row.at, "status": row.status, "reference": row.external_id, **_of(row), **money, **coins}


def _refunds(span: Span, using: str) -> Iterator[Line]:
    rows = Refund.objects.using(using).filter(_within("sent_at", span)).select_related("order")
    for row in rows.order_by("sent_at", "pk").iterator():
        money = {"amount": plain(row.worth), "currency": row.order.currency}
        coins = {"coins": plain(row.amount), "coin": row.currency}
        yield {"at": row.sent_at, "status": row.status, "reference": row.transaction_id, **_of(row), **money, **coins}


def _purchases(span: Span, using: str) -> Iterator[Line]:
    bought = Reservation.objects.using(using).filter(_within("reserved_at", span), supplier_order_id__isnull=False)
    for row in bought.select_related("item").order_by("reserved_at", "pk").iterator():
        money = {"amount": "" if row.cost is None else plain(row.cost), "currency": "EUR"}  # the supplier's
        names = {"order": row.item.order_id, "id": row.pk, "reference": row.supplier_order_id}
        yield {"at": row.reserved_at, "status": row.status, **names, **money}


def _of(row: Payment | Refund) -> Line:
    return {"order": row.order_id, "id": row.pk}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _within(column: str, span: Span) -> Q:
    return Q(**{f"{column}__gte": span[0], f"{column}__lt": span[1]})


_SOURCES: dict[str, Callable[[Span, str], Iterator[Line]]] = {
    "order": _orders,
    "payment": _payments,
    "refund": _refunds,
    "purchase": _purchases,
}
KINDS = tuple(_SOURCES)

"""“Today”: how the business goes, in the last 24 hours or 30 days. Read from indexes, and kept for seconds.

Of 30 days only the present one is read with each look. Adding up all joins the purchases of a month with their orders,
and what was placed on earlier days hardly moves any more: yesterday is read every quarter of an hour, older days every
few hours.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core.cache import caches
from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, QuerySet, Sum
from django.db.models.functions import TruncDay, TruncHour
from django.http import HttpRequest
from django.utils import timezone

from bitloot.core import replica
from bitloot.core.admin.formatting import list_url, span
from bitloot.core.money import cents
from fulfillment.choices import HoldReason
from fulfillment.models import Reservation
from orders.choices import OrderReason
from orders.models import Order
from payments.choices import ReviewReason
from payments.models import Payment, Refund

MOST_TIMED = 5_000  # orders whose time to key is looked at, the newest
MOST_REASONS = 6
YESTERDAY_KEPT_SECONDS = 900
DAY_KEPT_SECONDS = 6 * 3600
DAYS_RENEWED_SECONDS = 3 * 3600  # earlier than that, by beat, so that nobody waits for all of them
_FAILED = (Order.Status.HELD, Order.Status.FAILED, Order.Status.REFUND_DUE)
_BEING_BOUGHT = (Order.Status.PAID, Order.Status.FULFILLING, Order.Status.PARTIALLY_FULFILLED)
_CONFIRMING = (Payment.Status.CONFIRMING, Payment.Status.CONFIRMED, Payment.Status.SENDING)

_PAID = Q(paid_at__isnull=False)
_DELIVERED = Q(fulfilled_at__isnull=False)
_ORDERS = {
    "orders": Count("pk"),
    "paid": Count("pk", filter=_PAID),
    "delivered": Count("pk", filter=_DELIVERED),
    "revenue": Sum("total", filter=_PAID),
    "worth": Sum("total", filter=_DELIVERED),
}
_REFUNDS = {"refunds": Sum("worth")}
_COSTS = {"spent": Sum("cost"), "sold": Sum("cost", filter=Q(item__order__fulfilled_at__isnull=False))}
_ADDED_UP = ((Order, _ORDERS), (Reservation, _COSTS), (Refund, _REFUNDS))

Slots = dict[datetime, dict[str, Any]]


@dataclass(frozen=True)
class Period:
    name: str
    slots: int
    length: timedelta
    trunc: Any
    kept_seconds: int

    def slot_of(self, moment: datetime) -> datetime:
        start = moment.replace(minute=0, second=0, microsecond=0)
        return start if self.length < timedelta(days=1) else start.replace(hour=0)

    def starts(self) -> list[datetime]:
        last = self.slot_of(timezone.now())
        return [last - self.length * number for number in range(self.slots - 1, -1, -1)]


DAY = Period("24 hours", 24, timedelta(hours=1), TruncHour, 15)
MONTH = Period("30 days", 30, timedelta(days=1), TruncDay, 300)
PERIODS = {"24h": DAY, "30d": MONTH}


@dataclass(frozen=True)
class Figure:
    name: str
    value: str
    line: Sequence[Any]
    hint: str = ""


def today(request: HttpRequest) -> dict[str, Any]:
    chosen = request.GET.get("period", "24h")
    chosen = chosen if chosen in PERIODS else "24h"
    period = PERIODS[chosen]
    # Of this process: the shared cache writes JSON, and these are objects.
    cache, key = caches["local"], f"staff.today.{chosen}"
    read: dict[str, Any] | None = cache.get(key)
    if read is None:
        using = replica.for_lists()
        reasons = _reasons(period.starts()[0], using)
        read = {"figures": _figures(period, using), "reasons": reasons, "flight": _in_flight(using)}
        cache.set(key, read, period.kept_seconds)
    return {**read, "period": period.name, "chosen": chosen, "periods": list(PERIODS)}


def _figures(period: Period, using: str) -> list[Figure]:
    starts = period.starts()
    slots = _by_day(starts, using) if period is MONTH else _added_up(period, starts[0], using)
    times = _times_to_key(period, starts[0], using)

    def line(name: str) -> list[Decimal]:
        return [Decimal(slots.get(start, {}).get(name) or 0) for start in starts]

    paid, delivered = line("paid"), line("delivered")
    cost, worth = line("spent"), line("worth")
    rates = [delivered[n] / paid[n] * 100 if paid[n] else None for n in range(len(starts))]
    margin = [earned - spent for earned, spent in zip(worth, line("sold"), strict=True)]
    success = f"{sum(delivered) / sum(paid):.0%}" if sum(paid) else "–"
    every = [seconds for part in times.values() for seconds in part]
    return [
        Figure("Orders", f"{sum(line('orders'))}", line("orders")),
        Figure("Paid", f"{sum(paid)}", paid),
        Figure("Delivered", f"{sum(delivered)}", delivered),
        Figure("Revenue", _money(line("revenue")), line("revenue"), "The total of paid orders."),
        Figure("Cost", _money(cost), cost, "What the supplier took."),
        Figure("Margin", _money(margin), margin, "Delivered orders, less what they cost us."),
        Figure("Success", success, rates, "Delivered of paid orders."),
        Figure("Paid to key, half within", _time(every, 50), [_quantile(times.get(start, []), 50) for start in starts]),
        Figure("Paid to key, 95 % within", _time(every, 95), [_quantile(times.get(start, []), 95) for start in starts]),
        Figure("Refunds", _money(line("refunds")), line("refunds"), "What goes back to customers."),
    ]  # fmt: skip


def renew_closed_days() -> None:
    """Read the closed days anew before they are forgotten, in the background."""
    if caches["default"].add("staff.days_renewed", 1, DAYS_RENEWED_SECONDS):
        _read_closed(MONTH.starts()[:-1], replica.for_lists())


def _by_day(starts: Sequence[datetime], using: str) -> Slots:
    closed = {start: caches["default"].get(_key(start)) for start in starts[:-1]}
    if missing := [start for start, figures in closed.items() if figures is None]:
        closed |= _read_closed(missing, using)
    return {**closed, **_added_up(MONTH, starts[-1], using)}


def _read_closed(days: Sequence[datetime], using: str) -> Slots:
    """Add these days up, from the first to the last in one go; keep each, and return them."""
    found = _added_up(MONTH, days[0], using, until=days[-1] + MONTH.length)
    yesterday = MONTH.starts()[-2]
    # As text: the cache writes JSON.
    read = {day: {name: str(value or 0) for name, value in found.get(day, {}).items()} for day in days}
    for day, figures in read.items():
        seconds = YESTERDAY_KEPT_SECONDS if day == yesterday else DAY_KEPT_SECONDS
        caches["default"].set(_key(day), figures, seconds)
    return read


def _key(day: datetime) -> str:
    return f"staff.day.{day:%Y-%m-%d}"


def _added_up(period: Period, since: datetime, using: str, *, until: datetime | None = None) -> Slots:
    span = {"created_at__gte": since} | ({"created_at__lt": until} if until else {})
    slots: Slots = defaultdict(dict)
    for model, sums in _ADDED_UP:
        found: Any = model._default_manager.using(using).filter(**span).order_by()
        rows = found.annotate(slot=period.trunc("created_at"))
        for row in rows.values("slot").annotate(**sums):
            slots[row.pop("slot")].update(row)
    return slots


def _times_to_key(period: Period, since: datetime, using: str) -> dict[datetime, list[float]]:
    done = Order.objects.using(using).filter(created_at__gte=since, fulfilled_at__isnull=False, paid_at__isnull=False)
    # Subtracted by the database: a moment takes much longer to read than a span of time.
    took = ExpressionWrapper(F("fulfilled_at") - F("paid_at"), output_field=DurationField())
    times: dict[datetime, list[float]] = defaultdict(list)
    for created, span_of_time in done.order_by("-created_at").values_list("created_at", took)[:MOST_TIMED]:
        times[period.slot_of(created)].append(span_of_time.total_seconds())
    return times


def _quantile(values: Sequence[float], percent: int) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[-(-len(ordered) * percent // 100) - 1]  # the nearest rank, rounded up


def _time(values: Sequence[float], percent: int) -> str:
    found = _quantile(values, percent)
    return "–" if found is None else span(found)


def _money(values: Sequence[Decimal]) -> str:
    return f"{cents(sum(values, Decimal(0)))} EUR"


def _reasons(since: datetime, using: str) -> list[tuple[str, int]]:
    rows = Order.objects.using(using).filter(created_at__gte=since, status__in=_FAILED).exclude(reason="").order_by()
    counted = rows.values_list("reason").annotate(number=Count("pk")).order_by("-number", "reason")[:MOST_REASONS]
    return [(_label(reason), number) for reason, number in counted]


def _label(reason: str) -> str:
    for reasons in (OrderReason, HoldReason, ReviewReason):
        if reason in reasons.values:
            return reasons.label_for(reason)
    return reason


def _in_flight(using: str) -> list[dict[str, Any]]:
    """Return where money is on its way now: how many, how much, and their list."""
    payments = _sums(Payment.objects.using(using), (Payment.Status.WAITING, *_CONFIRMING), "price_amount")
    orders = _sums(Order.objects.using(using), (*_BEING_BOUGHT, Order.Status.HELD, Order.Status.REFUND_DUE), "total")
    return [
        _flight("Waiting for coins", payments, (Payment.Status.WAITING,), "payments.payment"),
        _flight("Confirming", payments, _CONFIRMING, "payments.payment"),
        _flight("Being bought", orders, _BEING_BOUGHT, "orders.order"),
        _flight("Held", orders, (Order.Status.HELD,), "orders.order"),
        _flight("Owed back", orders, (Order.Status.REFUND_DUE,), "orders.order"),
    ]


def _sums(rows: QuerySet[Any], statuses: Sequence[str], amount: str) -> dict[str, tuple[int, Decimal]]:
    found = rows.filter(status__in=statuses).order_by().values_list("status").annotate(Count("pk"), Sum(amount))
    return {status: (number, Decimal(worth or 0)) for status, number, worth in found}


def _flight(name: str, found: dict[str, tuple[int, Decimal]], statuses: Sequence[str], model: str) -> dict[str, Any]:
    parts = [found[status] for status in statuses if status in found]
    worth = cents(sum((worth for _, worth in parts), Decimal(0)))
    url = list_url(model, status__in=",".join(statuses))
    return {"name": name, "count": sum(number for number, _ in parts), "worth": worth, "url": url}

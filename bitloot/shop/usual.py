"""How long things usually take: what customers are told comes from the last seven days."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db.models import QuerySet
from django.utils import timezone

from bitloot.core.figures import percentile
from orders.models import Order
from payments.models import Payment

WEEK = timedelta(days=7)
NEWEST = 500
LEAST = 10  # fewer say nothing
KEPT_SECONDS = 600


@dataclass(frozen=True)
class Span:
    """Half of all cases took no longer than `usually`, 95 of 100 no longer than `mostly`; seconds."""

    usually: int
    mostly: int


def until_delivery() -> Span | None:
    """Return how long it took from the payment to the last key, or None while too few are known."""
    return _kept("usual:delivery", _deliveries)


def until_confirmed(coin: str) -> Span | None:
    """Return how long the network took from the first sight of the coins to the payment's end."""
    return _kept(f"usual:network:{coin}", lambda: _payments(coin))


def _kept(name: str, read: Callable[[], QuerySet[Any, Any]]) -> Span | None:
    # At most one small statement in ten minutes, not one per request; no figures are kept as such, too.
    known: list[int] | None = cache.get(name)
    if known is None:
        known = _percentiles(read()[:NEWEST])
        cache.set(name, known, KEPT_SECONDS)
    return Span(*known) if known else None


def _deliveries() -> QuerySet[Any, Any]:
    done = Order.objects.filter(status=Order.Status.FULFILLED, paid_at__isnull=False)
    return done.filter(created_at__gte=timezone.now() - WEEK).values_list("paid_at", "fulfilled_at")


def _payments(coin: str) -> QuerySet[Any, Any]:
    done = Payment.objects.filter(status=Payment.Status.FINISHED, pay_currency=coin, coins_seen_at__isnull=False)
    return done.filter(created_at__gte=timezone.now() - WEEK).values_list("coins_seen_at", "finished_at")


def _percentiles(times: Iterable[tuple[datetime, datetime]]) -> list[int]:
    took = [max(0, round((end - start).total_seconds())) for start, end in times if end is not None]
    return [percentile(took, 50), percentile(took, 95)] if len(took) >= LEAST else []

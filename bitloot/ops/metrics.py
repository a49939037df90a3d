"""`/metrics`: the state of the store as its rows have it, the same from whichever process is asked.

Gauges are read when somebody asks, at most every few seconds; the counters of the asked process stand beside them.
"""

import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import django
from django.conf import settings
from django.core.cache import cache
from django.db.models import Count, Min, Model, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bitloot.core.figures import percentile
from bitloot.core.models import Sweep
from bitloot.core.queue import queues
from fulfillment.models import Reservation, SupplierCall, SupplierGate
from orders.models import Alert, AlertChannel, Email, Order
from payments.models import Payment, Refund
from storage.models import Key
from webhooks.models import WebhookLog

KEPT_SECONDS = 10
NEWEST = 500  # deliveries and calls of which times are told: an index read, however many there are
DAY = timedelta(days=1)
QUANTILES = (0.5, 0.95)
Sample = tuple[tuple[str, ...], float]
Read = Callable[[], Iterable[Sample]]


def _count_by(field: str, rows: Callable[[], QuerySet[Any]]) -> Read:
    def read() -> Iterator[Sample]:
        for value, count in rows().order_by().values_list(field).annotate(count=Count("pk")):
            yield (value,), count

    return read


def _by_status(model: type[Model]) -> Read:
    return _count_by("status", model._default_manager.all)


def _due() -> Iterator[Sample]:
    for model in queues():
        yield (str(model._meta.model_name),), model._default_manager.filter(next_attempt_at__lte=Now()).count()


def _oldest() -> Iterator[Sample]:
    """A queue that nobody drains grows old: no worker, or none that reaches it."""
    for model in queues():
        due = model._default_manager.filter(next_attempt_at__lte=Now())
        oldest = due.aggregate(oldest=Min("next_attempt_at"))["oldest"]
        waited = (timezone.now() - oldest).total_seconds() if oldest else 0.0
        yield (str(model._meta.model_name),), waited


def _retrying() -> Iterator[Sample]:
    for model in queues():
        again = model._default_manager.filter(next_attempt_at__isnull=False, attempts__gt=0)
        yield (str(model._meta.model_name),), again.count()


def _sweeps() -> Iterator[Sample]:
    for name, ended_at in Sweep.objects.values_list("name", "ended_at"):
        yield (name,), ended_at.timestamp()


def _open_alerts() -> QuerySet[Alert]:
    return Alert.objects.filter(status=Alert.Status.OPEN)


def _paid_to_key() -> Iterator[Sample]:
    done = Order.objects.filter(status=Order.Status.FULFILLED, paid_at__isnull=False, created_at__gte=Now() - DAY)
    times = done.order_by("-created_at").values_list("paid_at", "fulfilled_at")[:NEWEST]
    yield from _quantiles((), [(end - start).total_seconds() for start, end in times if start and end])


def _newest_calls() -> list[tuple[str, str, int]]:
    return list(SupplierCall.objects.order_by("-pk").values_list("call", "outcome", "milliseconds")[:NEWEST])


def _calls() -> Iterator[Sample]:
    yield from Counter((call, outcome) for call, outcome, _ in _newest_calls()).items()


def _call_seconds() -> Iterator[Sample]:
    times: dict[str, list[float]] = defaultdict(list)
    for call, _, milliseconds in _newest_calls():
        times[call].append(milliseconds / 1000)
    for call, seconds in times.items():
        yield from _quantiles((call,), seconds)


def _quantiles(labels: tuple[str, ...], values: list[float]) -> Iterator[Sample]:
    for quantile in QUANTILES if values else ():
        yield (*labels, str(quantile)), percentile(values, round(quantile * 100))


def _gates() -> Iterator[Sample]:
    for gate in SupplierGate.objects.all():
        yield (gate.host,), float(gate.status == SupplierGate.Status.OPEN and not settings.SAFE_MODE)


def _balances() -> Iterator[Sample]:
    for host, balance in SupplierGate.objects.values_list("host", "balance"):
        if balance is not None:
            yield (host,), float(balance)


def _webhooks_of_a_day() -> Iterator[Sample]:
    for status in WebhookLog.Status.values:  # one index range each
        yield (status,), WebhookLog.objects.filter(status=status, received_at__gte=Now() - DAY).count()


def _last_ipn() -> Iterator[Sample]:
    newest = WebhookLog.objects.filter(provider=WebhookLog.Provider.NOWPAYMENTS).order_by("-pk").first()
    if newest is not None:
        yield (), newest.received_at.timestamp()


def _open_payments() -> Iterator[Sample]:
    """What moves at the provider: while it does, IPNs come, or something is wrong with them."""
    yield (), Payment.objects.filter(status__in=("confirming", "confirmed", "sending")).count()


def _last_alert() -> Iterator[Sample]:
    for name, moment in AlertChannel.objects.values_list("name", "delivered_at"):
        if moment is not None:
            yield (name,), moment.timestamp()


def _build() -> Iterator[Sample]:
    yield (platform.python_version(), django.get_version()), 1


GAUGES: tuple[tuple[str, str, tuple[str, ...], Read], ...] = (
    ("bitloot_build_info", "Versions that run.", ("python", "django"), _build),
    ("bitloot_orders", "Orders by status.", ("status",), _by_status(Order)),
    ("bitloot_payments", "Payments by status.", ("status",), _by_status(Payment)),
    ("bitloot_reservations", "Purchases at the supplier by status.", ("status",), _by_status(Reservation)),
    ("bitloot_refunds", "Refunds by status.", ("status",), _by_status(Refund)),
    ("bitloot_keys", "Keys by status.", ("status",), _by_status(Key)),
    ("bitloot_mails", "Mails by status.", ("status",), _by_status(Email)),
    ("bitloot_queue_due", "Rows that a worker should take now.", ("queue",), _due),
    ("bitloot_queue_oldest_seconds", "How long the oldest of those has waited.", ("queue",), _oldest),
    ("bitloot_queue_retrying", "Rows that failed and wait for another try.", ("queue",), _retrying),
    ("bitloot_sweep_last_success_timestamp", "When a periodic task last ended well.", ("sweep",), _sweeps),
    ("bitloot_alerts_open", "Open alerts by kind.", ("kind",), _count_by("kind", _open_alerts)),
    ("bitloot_alert_last_delivered_timestamp", "When a channel took its last alert.", ("channel",), _last_alert),
    ("bitloot_paid_to_key_seconds", "Payment to last key, of a day's newest orders.", ("quantile",), _paid_to_key),
    ("bitloot_supplier_calls", "The newest 500 calls to the supplier, by outcome.", ("call", "outcome"), _calls),
    ("bitloot_supplier_call_seconds", "How long they took.", ("call", "quantile"), _call_seconds),
    ("bitloot_supplier_gate_open", "1 while purchases may leave.", ("host",), _gates),
    ("bitloot_supplier_balance_eur", "The balance that was read last.", ("host",), _balances),
    ("bitloot_webhooks_day", "Webhooks of the last 24 hours by status.", ("status",), _webhooks_of_a_day),
    ("bitloot_last_ipn_timestamp", "When the newest IPN came.", (), _last_ipn),
    ("bitloot_payments_moving", "Payments whose coins are on their way.", (), _open_payments),
)


class RowsCollector(Collector):
    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name the gauges without reading a row: this is asked when the collector is registered."""
        return [GaugeMetricFamily(name, text, labels=labels) for name, text, labels, _ in GAUGES]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        read: dict[str, list[Any]] | None = cache.get("metrics")
        if read is None:
            # As lists: the cache writes JSON.
            read = {name: [[list(labels), value] for labels, value in rows()] for name, _, _, rows in GAUGES}
            cache.set("metrics", read, KEPT_SECONDS)
        for name, text, labels, _ in GAUGES:
            family = GaugeMetricFamily(name, text, labels=labels)
            for values, number in read[name]:
                family.add_metric(values, number)
            yield family

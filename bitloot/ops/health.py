"""For orchestrators: is the process alive, and can it do its work?"""

import os
from datetime import timedelta

from django.conf import settings
from django.contrib import admin
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from bitloot.core import exporter, shared_metrics
from bitloot.core.database import what_is_missing
from bitloot.core.queue import queues
from bitloot.ops.metrics import RowsCollector
from fulfillment.models import SupplierGate
from orders.models import Alert
from payments.models import Coin
from storage.probe import recent_problems
from storage.sealing import master_key_ready
from storage.services import unknown_master_keys

_UNKNOWN_MASTERS = "health.unknown_masters"
LATE = timedelta(seconds=90)


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """503 only if the database or the master key is missing. Strangers read one word, staff and METRICS_TOKEN why."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        missing = _missing()
        tells_all = _may_read_details(request)
        degraded = _degraded() if tells_all and not missing else []
    except DatabaseError:
        # Without it nobody is known to be staff.
        missing, tells_all, degraded = "database", _has_metrics_token(request), []
    details: dict[str, object] = {"reason": missing} if missing else {"degraded": degraded}
    word, status = "degraded" if degraded else "ok", 200
    if missing:
        word, status = "unavailable", 503
    return JsonResponse({"status": word, **(details if tells_all else {})}, status=status)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    if not _has_metrics_token(request):
        return HttpResponse(status=404)
    return HttpResponse(generate_latest(_rows()) + generate_latest(_counters()), content_type=CONTENT_TYPE_LATEST)


def _rows() -> CollectorRegistry:
    """Return what the rows say. Not in REGISTRY: on the pages of worker and beat it would hide that no web answers."""
    registry = CollectorRegistry()
    registry.register(RowsCollector())
    return registry


def _counters() -> CollectorRegistry:
    """Return the counters of all processes of this web server if they are shared, else those of this one."""
    if shared_metrics.FOLDER not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


def _has_metrics_token(request: HttpRequest) -> bool:
    return exporter.has_token(request.META.get("HTTP_AUTHORIZATION", ""))


def _may_read_details(request: HttpRequest) -> bool:
    return _has_metrics_token(request) or admin.site.has_permission(request)


def _missing() -> str:
    """Return what the shop cannot work without and does not have, or ""."""
    if missing := what_is_missing():
        return f"waits for {missing}"
    return "" if master_key_ready() and not _keys_nobody_can_open() else "master key"


def _keys_nobody_can_open() -> bool:
    """Looked at once a minute: it reads an index over all keys."""
    found = cache.get(_UNKNOWN_MASTERS)
    if found is None:
        found = bool(unknown_master_keys())
        cache.set(_UNKNOWN_MASTERS, found, 60)
    return bool(found)


def _degraded() -> list[str]:
    problems = []
    for model in queues():
        if model._default_manager.filter(next_attempt_at__lt=Now() - LATE).exists():
            name = model._meta.verbose_name_plural
            problems.append(f"{name}: work waits for over {LATE.seconds} s; is a worker running?")
    if settings.SAFE_MODE:
        problems.append("safe mode: nothing is bought")
    problems += [f"supplier {gate.host}: {gate.status}" for gate in SupplierGate.objects.exclude(status="open")]
    if not Coin.objects.filter(is_offered=True).exists():
        problems.append("payments: no coin is on offer yet")
    problems += [f"object store: {problem}" for problem in recent_problems()]
    if open_alerts := Alert.objects.filter(status=Alert.Status.OPEN).count():
        problems.append(f"{open_alerts} open alerts; see the admin")
    return problems

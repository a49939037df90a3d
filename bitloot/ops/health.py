"""For orchestrators: is the process alive, and can it do its work?"""

import hmac
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bitloot.core.database import what_is_missing
from bitloot.ops import metrics as _gauges  # noqa: F401 - registers them
from fulfillment.models import Reservation, SupplierGate
from orders.models import Alert, Email, Notification
from payments.models import Coin, Payment
from storage.models import Key
from storage.probe import recent_problems
from storage.sealing import master_key_ready
from storage.services import unknown_master_keys
from webhooks.models import WebhookLog

_UNKNOWN_MASTERS = "health.unknown_masters"
LATE = timedelta(seconds=90)


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """503 only if the database or the master key is missing; the rest is named as degraded."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        missing = what_is_missing()
        degraded = [] if missing else _degraded()
    except DatabaseError:
        return JsonResponse({"status": "unavailable", "reason": "database"}, status=503)
    if missing:
        return JsonResponse({"status": "unavailable", "reason": f"waits for {missing}"}, status=503)
    if not master_key_ready() or _keys_nobody_can_open():
        return JsonResponse({"status": "unavailable", "reason": "master key"}, status=503)
    return JsonResponse({"status": "degraded" if degraded else "ok", "degraded": degraded})


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    given = request.META.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ").encode("utf-8", "replace")
    if not settings.METRICS_TOKEN or not hmac.compare_digest(given, settings.METRICS_TOKEN.encode()):
        return HttpResponse(status=404)
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def _keys_nobody_can_open() -> bool:
    """Looked at once a minute: it reads an index over all keys."""
    found = cache.get(_UNKNOWN_MASTERS)
    if found is None:
        found = bool(unknown_master_keys())
        cache.set(_UNKNOWN_MASTERS, found, 60)
    return bool(found)


def _degraded() -> list[str]:
    problems = []
    queues: list[tuple[str, Any]] = [
        ("webhooks", WebhookLog),
        ("payments", Payment),
        ("fulfillment", Reservation),
        ("storage", Key),
        ("mail", Email),
        ("notifications", Notification),
    ]
    for name, model in queues:
        if model.objects.filter(next_attempt_at__lt=Now() - LATE).exists():
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

"""“Machines”: the providers, the balance, keys' store, queues and alert channels, as last seen. Asks nobody."""

import platform
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import django
from django.conf import settings
from django.db import connection
from django.db.models import Sum
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone

from bitloot.core.admin.formatting import NOTHING, age, link, state_badge
from bitloot.core.clock import delay
from bitloot.core.figures import percentile
from bitloot.core.models import WorkerSeen
from bitloot.core.presence import LIVES
from bitloot.core.queue import QueueRow
from fulfillment.call_log import ANSWERS
from fulfillment.models import Reservation, SupplierCall, SupplierGate
from orders.models import Email, Notification
from orders.notifications import last_deliveries
from payments.models import Payment
from storage.models import Key
from storage.probe import known_problems
from webhooks.models import ReplayRun, WebhookLog

LATE_SECONDS = 60
MAX_DUE = 1_000
MOST_CALLS = 200
MOST_WORKERS = 20
SPENT_OVER = timedelta(days=7)
# A supplier that says no is well, too. `CallLog` keeps 20 characters of an error's name.
_GOOD = frozenset({"ok", *(error.__name__[:20] for error in ANSWERS)})
# Each queue, and when a row of it was last finished: a queue that is worked at moves this, also when nothing is due.
_QUEUES: tuple[tuple[str, type[QueueRow], str], ...] = (
    ("Webhooks", WebhookLog, "processed_at"),
    ("Payments", Payment, "read_at"),
    ("Purchases", Reservation, "changed_at"),
    ("Keys", Key, "stored_at"),
    ("Mails", Email, "sent_at"),
    ("Alerts to channels", Notification, "sent_at"),
    ("Replays", ReplayRun, "finished_at"),
)


def machines(request: HttpRequest) -> dict[str, Any]:
    return {
        "safe_mode": settings.SAFE_MODE,
        "providers": [_kinguin(), _nowpayments()],
        "gates": [_gate(gate) for gate in SupplierGate.objects.order_by("host")],
        "store": known_problems(),
        "queues": [_queue(*queue) for queue in _QUEUES],
        "workers": [_worker(worker) for worker in WorkerSeen.objects.order_by("-seen_at")[:MOST_WORKERS]],
        "channels": [
            {"name": last.channel, "delivered": age(last.delivered_at), "error": last.error}
            for last in last_deliveries()
        ],
        "versions": _versions(),
    }


def _kinguin() -> dict[str, Any]:
    calls = list(SupplierCall.objects.order_by("-pk").values_list("at", "outcome", "milliseconds")[:MOST_CALLS])
    answered = [at for at, outcome, _ in calls if outcome in _GOOD]
    failed = sum(outcome not in _GOOD for _, outcome, _ in calls)
    return {
        "name": "Kinguin",
        "last": age(max(answered, default=None)),
        "errors": f"{failed} of the last {len(calls)} calls" if calls else NOTHING,
        "latency": _latency([milliseconds for _, _, milliseconds in calls]),
        "is_bad": bool(calls) and failed * 5 > len(calls),
    }


def _nowpayments() -> dict[str, Any]:
    """Return how their answers about the newest payments were; the time that they took is in the metrics only."""
    newest = list(Payment.objects.order_by("-created_at").values_list("read_at", "unread_since")[:MOST_CALLS])
    unread = sum(since is not None for _, since in newest)
    return {
        "name": "NOWPayments",
        "last": age(max((read for read, _ in newest if read), default=None)),
        "errors": f"{unread} of the newest {len(newest)} payments cannot be read" if newest else NOTHING,
        "latency": NOTHING,
        "is_bad": bool(newest) and unread * 5 > len(newest),
    }


def _latency(milliseconds: Sequence[int]) -> str:
    if not milliseconds:
        return NOTHING
    return f"{percentile(milliseconds, 50)} ms, 95 % within {percentile(milliseconds, 95)} ms"


def _gate(gate: SupplierGate) -> dict[str, Any]:
    return {"link": link(gate, gate.host), "state": state_badge(gate), "gate": gate, "runway": runway(gate.balance)}


def runway(balance: Decimal | None) -> str:
    """Return how long the balance lasts at the rate of the last week, in words."""
    if balance is None:
        return ""
    recent = Reservation.objects.filter(created_at__gte=Now() - SPENT_OVER)
    spent = Decimal(recent.aggregate(sum=Sum("cost"))["sum"] or 0)
    if not spent:
        return "nothing was bought this week"
    days = balance * SPENT_OVER.days / spent
    return f"lasts {days:.0f} days at this week's rate" if days >= 1 else "lasts less than a day at this week's rate"


def _queue(name: str, model: type[QueueRow], finished: str) -> dict[str, Any]:
    rows = model._default_manager.filter(next_attempt_at__lte=Now()).order_by("next_attempt_at")
    due, oldest = rows[: MAX_DUE + 1].count(), rows.values_list("next_attempt_at", flat=True).first()
    return {
        "name": name,
        "due": f"{MAX_DUE}+" if due > MAX_DUE else str(due),
        "oldest": age(oldest),
        "last": age(_last_finished(model, finished)),
        "is_late": oldest is not None and (timezone.now() - oldest).total_seconds() > LATE_SECONDS,
    }


def _worker(worker: WorkerSeen) -> dict[str, Any]:
    is_missing = (timezone.now() - worker.seen_at).total_seconds() > delay(LIVES).total_seconds()
    return {"worker": worker, "seen": age(worker.seen_at), "started": age(worker.started_at), "is_missing": is_missing}


def _last_finished(model: type[QueueRow], finished: str) -> datetime | None:
    """Look at the newest rows only: there is no index on the end, and the newest rows end last."""
    newest = _NEWEST.get(model, "-pk")
    moments = model._default_manager.order_by(newest).values_list(finished, flat=True)[:MOST_CALLS]
    return max(filter(None, moments), default=None)


_NEWEST: dict[type[QueueRow], str] = {
    Payment: "-created_at",
    Reservation: "-created_at",
    Key: "-received_at",
    ReplayRun: "-created_at",
}


def _versions() -> list[tuple[str, str]]:
    database = connection.vendor
    if connection.vendor == "postgresql":
        database = f"postgresql {'.'.join(map(str, connection.get_database_version()))}"
    return [("Python", platform.python_version()), ("Django", django.get_version()), ("Database", database)]

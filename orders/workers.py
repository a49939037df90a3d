"""Staff hear of a worker that is missing while work waits, from a process that is still there to say so."""

from django.db.models.functions import Now

from bitloot.core.clock import delay
from bitloot.core.models import WorkerSeen
from bitloot.core.presence import living
from bitloot.core.queue import queues
from orders.alerts import WORKERS, close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Alert

MISSING_SECONDS = 180
LATE_SECONDS = 90


def watch() -> Alert | None:
    """Raise the alert if a worker is missing while rows are due, and close it once none is; return the open one."""
    late = _late_queues()
    message = _missing() if late else ""
    if not message:
        close_alert(AlertKind.NO_WORKER, WORKERS, by="automatic: the work is done again")
        return None
    return raise_alert(AlertKind.NO_WORKER, WORKERS, f"{message} Work waits: {', '.join(late)}.")


def _late_queues() -> list[str]:
    late = Now() - delay(LATE_SECONDS)
    return [
        str(model._meta.verbose_name_plural)
        for model in queues()
        if model._default_manager.filter(next_attempt_at__lt=late).exists()
    ]


def _missing() -> str:
    """Return which workers are missing, in a sentence; nothing if each that did not say goodbye is there."""
    gone = WorkerSeen.objects.filter(seen_at__lt=Now() - delay(MISSING_SECONDS)).order_by("-seen_at")
    if not living().exists():
        last = gone.first()
        return f"No worker is running; {last} was the last." if last else "No worker has been running for a day."
    names = [str(worker) for worker in gone[:5]]
    return f"These workers are gone without having been stopped: {'; '.join(names)}." if names else ""

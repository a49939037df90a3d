"""What a worker cannot tell anybody: that there is none, or that nothing starts its periodic tasks.

Each web process looks once a minute, in a thread of its own, and delivers alerts itself if no worker does. It also
writes down that unsigned webhooks were refused, so that no request without a signature writes a row.
"""

import logging
import threading
import time
from datetime import timedelta

from django.db.models.functions import Now

from bitloot.core import sweeps
from bitloot.core.clock import in_words
from bitloot.core.database import leave_connection, what_is_missing
from bitloot.core.queue import queues
from orders import workers
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.mail import send
from orders.models import Alert, Email, Notification
from webhooks import refusals

logger = logging.getLogger(__name__)

LOOK_SECONDS = 60
LATE = timedelta(minutes=5)
# From here on a worker is not expected to send an alert any more.
UNSENT = timedelta(seconds=30)
MOST_MAILS = 20


def start() -> None:
    """Look every minute from now on, until the process ends."""
    threading.Thread(target=_look_forever, name="watchdog", daemon=True).start()


def _look_forever() -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        try:
            # Before `migrate` the tables are not those of this code.
            if not what_is_missing():
                look()
        except Exception:
            logger.exception("The watchdog could not look; it tries again in a minute")
        finally:
            leave_connection()


def look() -> None:
    """Raise or close the alerts about workers, sweeps and refused webhooks, and send what no worker sends."""
    # One alert for one cause: rows wait because the worker is gone, or although one is there.
    if workers.watch() is None:
        _look_at_queues()
    _look_at_sweeps()
    refusals.report()
    _deliver_unsent()


def _look_at_queues() -> None:
    for model in queues():
        name = str(model._meta.verbose_name_plural)
        waiting = model._default_manager.filter(next_attempt_at__lt=Now() - LATE).count()
        if waiting:
            minutes = int(LATE.total_seconds() // 60)
            raise_alert(
                AlertKind.WORK_LATE,
                name,
                f"{waiting} {name} have waited for over {minutes} minutes although a worker is there. It cannot reach"
                " the database, it hangs, or there are too few: read its log, or start another one.",
            )
        else:
            close_alert(AlertKind.WORK_LATE, name, by="automatic: nothing waits")


def _look_at_sweeps() -> None:
    late = dict(sweeps.late())
    for name, ago in late.items():
        raise_alert(
            AlertKind.SWEEP_LATE,
            name,
            f"The periodic task “{name}” last ended well {in_words(ago)} ago. If all are late, beat does not run, or"
            " Redis does not pass its messages on; if it is this one alone, the worker's log says why it fails.",
        )
    for name in _open_about(AlertKind.SWEEP_LATE) - late.keys():
        close_alert(AlertKind.SWEEP_LATE, name, by="automatic: it ended again")


def _open_about(kind: AlertKind) -> set[str]:
    return set(Alert.objects.filter(kind=kind, status=Alert.Status.OPEN).values_list("about_pk", flat=True))


def _deliver_unsent() -> None:
    """Send the alerts that a worker should have sent by now; the claims keep two senders apart."""
    if Notification.objects.filter(next_attempt_at__lt=Now() - UNSENT).exists():
        from orders.tasks import drain_notifications  # only now: apprise takes memory that web has no other use for

        drain_notifications()
    overdue = Email.objects.filter(kind=Email.Kind.ALERT, next_attempt_at__lt=Now() - UNSENT)
    for pk in overdue.order_by("pk").values_list("pk", flat=True)[:MOST_MAILS]:
        for claimed in Email.objects.claim(only=pk):
            send(claimed)

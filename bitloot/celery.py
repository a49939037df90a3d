import gc
import logging
import os
import sys
import threading
import time
from typing import Any

from celery import Celery, bootsteps
from celery.concurrency import get_implementation
from celery.signals import celeryd_init, setup_logging, task_success, worker_shutting_down
from django.conf import settings

from bitloot.core import broker, exporter
from bitloot.core.database import leave_connection, what_is_missing
from bitloot.core.worker import this_process

gc.disable()  # until the apps are ready: see bitloot/apps.py
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")

logger = logging.getLogger(__name__)

WAIT_SECONDS = 1
# Asked, but never waited for: set() in a signal's handler would wait for a lock that wait() in the same thread holds.
_ending = threading.Event()

broker.install()
app = Celery("bitloot")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@celeryd_init.connect
def refuse_other_pools(options: dict[str, Any], **_: Any) -> None:
    """Rows are handled in threads of the worker's own process; forked children would have none of them."""
    # Celery itself takes `-P prefork`, its default, for “as configured”.
    if options["pool"] not in (None, get_implementation(settings.CELERY_WORKER_POOL)):
        sys.exit(f"BitLoot's worker runs with the pool “{settings.CELERY_WORKER_POOL}” only: start it without -P.")


@setup_logging.connect
def keep_our_logging(**_: Any) -> None:
    """Leave LOGGING in force: without a receiver, Celery would raise the level of every logger to WARNING."""


@task_success.connect
def note_sweep(sender: Any, **_: Any) -> None:
    """Note when a periodic task ended well, so that one that does not is noticed (bitloot.ops.watchdog)."""
    from bitloot.core import sweeps  # models are there only once the apps are loaded

    sweeps.ended(sender.name)
    leave_connection()


@worker_shutting_down.connect
def note_end(**_: Any) -> None:
    _ending.set()


def wait_for_tables() -> bool:
    """Return True once the database answers and has every table, or False once the worker is told to end."""
    said = ""
    while missing := what_is_missing():
        if missing != said:
            logger.warning("The worker waits for %s. It starts its work as soon as that is there.", missing)
            said = missing
        leave_connection()
        time.sleep(WAIT_SECONDS)
        if _ending.is_set():
            return False
    if said:
        logger.warning("The database is ready; the worker starts its work.")
    return True


class Drains(bootsteps.StartStopStep):
    """Starts the threads that handle rows; on a warm shutdown, waits for the rows that were claimed."""

    # After Beat, which forks a process: that one must not inherit threads or locks.
    requires = ("celery.worker.components:Pool", "celery.worker.components:Beat")
    presence: Any = None

    def start(self, parent: Any) -> None:
        if settings.METRICS_PORT:
            exporter.start(settings.METRICS_PORT)
        # Celery acts on SIGTERM in its loop of messages, which begins after this. To end the worker in this step would
        # leave an embedded beat behind: Celery stops only a worker that has started all its steps.
        if not wait_for_tables():
            return
        # Here: models can be imported only once Django is set up, and Celery reads this module before that.
        from bitloot.core.presence import Presence

        self.presence = Presence()
        this_process.start(sweep_seconds=settings.SWEEP_SECONDS, heartbeat=self.presence.note)

    def stop(self, parent: Any) -> None:
        this_process.stop()
        if self.presence is not None:
            self.presence.end()


app.steps["worker"].add(Drains)

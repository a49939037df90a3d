import os
import sys
from typing import Any

from celery import Celery, bootsteps
from celery.concurrency import get_implementation
from celery.signals import celeryd_init
from django.conf import settings

from bitloot.core.worker import this_process

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")

app = Celery("bitloot")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@celeryd_init.connect
def refuse_other_pools(options: dict[str, Any], **_: Any) -> None:
    """Rows are handled in threads of the worker's own process; forked children would have none of them."""
    # Celery itself takes `-P prefork`, its default, for “as configured”.
    if options["pool"] not in (None, get_implementation(settings.CELERY_WORKER_POOL)):
        sys.exit(f"BitLoot's worker runs with the pool “{settings.CELERY_WORKER_POOL}” only: start it without -P.")


class Drains(bootsteps.StartStopStep):
    """Starts the threads that handle rows; on a warm shutdown, waits for the rows that were claimed."""

    # After Beat, which forks a process: that one must not inherit threads or locks.
    requires = ("celery.worker.components:Pool", "celery.worker.components:Beat")

    def start(self, parent: Any) -> None:
        this_process.start(sweep_seconds=settings.SWEEP_SECONDS)

    def stop(self, parent: Any) -> None:
        this_process.stop()


app.steps["worker"].add(Drains)

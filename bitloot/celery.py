import logging
import os
import sys
import threading
from concurrent.futures import Executor
from typing import Any

from celery import Celery
from celery.signals import task_postrun, task_prerun, worker_ready
from django.db import close_old_connections
from kombu.transport import TRANSPORT_ALIASES

from bitloot.lib import bell

logger = logging.getLogger(__name__)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")
TRANSPORT_ALIASES["filesystem"] = "bitloot.lib.broker:Transport"

app = Celery("bitloot")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Celery would close the database connection after every task, and the next one would pay for another.
app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize


@task_prerun.connect
@task_postrun.connect
def drop_broken_connections(sender: Any, **_: Any) -> None:
    if not sender.request.is_eager:
        close_old_connections()


@worker_ready.connect
def answer_own_bells(sender: Any, **_: Any) -> None:
    """Drain in the worker's own threads what the worker rings for; the broker is for bells from elsewhere."""
    bell.answer_here(_Drains(sender.pool.executor, sender.pool.limit))


class _Drains:
    """Answers bells with the worker's threads; one that finds all of them at work is answered by the first to end."""

    def __init__(self, threads: Executor, places: int) -> None:
        self._threads, self._free = threads, places
        self._waiting: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, queue: str) -> bool:
        with self._lock:
            if not self._free:
                self._waiting.add(queue)
                return False
            self._free -= 1
        return self._start(queue)

    def _start(self, queue: str) -> bool:
        try:
            self._threads.submit(self._drain, queue)
        except RuntimeError:  # the worker is stopping
            with self._lock:
                self._free += 1
            return False
        return True

    def _drain(self, queue: str) -> None:
        try:
            app.tasks[f"{queue}.drain"]()
        except Exception:
            logger.exception("Draining %s failed; the sweep goes on with it", queue)
        finally:
            close_old_connections()
            # One look under the lock: a bell that came between "nobody waits" and "a thread is free" would be lost.
            with self._lock:
                following = self._waiting.pop() if self._waiting else None
                self._free += following is None
            if following is not None:
                self._start(following)


@worker_ready.connect
def look_at_once(**_: Any) -> None:
    """Work that waited for a worker need not wait for the next sweep as well."""
    for queue in ("webhooks", "payments", "fulfillment", "storage", "orders"):
        bell.ring_now(queue)
    app.send_task("payments.coins", ignore_result=True, retry=False, expires=30)

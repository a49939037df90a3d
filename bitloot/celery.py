import logging
import os
import sys
import threading
from concurrent.futures import Executor
from typing import Any

from celery import Celery
from celery.signals import task_postrun, task_prerun, worker_ready
from django.conf import settings
from kombu.transport import TRANSPORT_ALIASES

from bitloot.core import onecpu, sharing, turns, wakeup

logger = logging.getLogger(__name__)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")
TRANSPORT_ALIASES["filesystem"] = "bitloot.core.broker:Transport"

app = Celery("bitloot")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Celery would close the database connection after every task, and the next one would pay for another.
app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize


@task_prerun.connect
def take_connection(**_: Any) -> None:
    sharing.take()


@task_postrun.connect
def give_connection_back(**_: Any) -> None:
    sharing.give_back()


@worker_ready.connect
def answer_own_bells(sender: Any, **_: Any) -> None:
    """Drain in the worker's own threads what the worker rings for; the broker is for bells from elsewhere."""
    sharing.share()
    drains = _Drains(sender.pool.executor, sender.pool.limit)
    turns.when_spare(drains.answer)
    wakeup.answer_here(drains)
    if settings.WORKER_ONE_CPU:
        onecpu.settle()


class _Drains:
    """Answers bells with the worker's threads, as soon as a thread and a turn to compute are free.

    Queues take turns, too: after its slice, a thread goes on with the queue that has waited the longest.
    """

    def __init__(self, threads: Executor, places: int) -> None:
        self._threads, self._free = threads, places
        self._waiting: dict[str, None] = {}  # in the order in which they came
        self._lock = threading.Lock()

    def __call__(self, queue: str) -> bool:
        """Answer a bell, or note it; False if it has to wait."""
        with self._lock:
            self._waiting[queue] = None
        self.answer()
        return queue not in self._waiting

    def put_off(self, queue: str) -> bool:
        """Note the bell that started a drain for which there is no turn; False if there is one."""
        return not (turns.is_mine() or turns.spare()) and not self(queue)

    def wants_room(self, queue: str) -> bool:
        """Say whether a thread waits for a turn, or another queue for a drain."""
        return turns.crowded() or any(name != queue for name in tuple(self._waiting))

    def answer(self) -> None:
        """Start a drain for the bell that waits the longest, if there is one and what it takes is free."""
        if not self._waiting:
            return
        with self._lock:
            if not (self._waiting and self._free and turns.spare()):
                return
            queue = next(iter(self._waiting))
            del self._waiting[queue]
            self._free -= 1
        try:
            self._threads.submit(self._drain, queue)
        except RuntimeError:  # the worker is stopping
            with self._lock:
                self._waiting[queue] = None
                self._free += 1

    def _drain(self, queue: str | None) -> None:
        with turns.turn():
            while queue is not None:
                try:
                    app.tasks[f"{queue}.drain"]()
                except Exception:
                    logger.exception("Draining %s failed; the sweep goes on with it", queue)
                queue = self._next()
        self.answer()

    def _next(self) -> str | None:
        """Return the queue that waits the longest, or None, and then this thread has nothing more to do."""
        with self._lock:
            if not self._waiting or turns.crowded():
                self._free += 1
                return None
            queue = next(iter(self._waiting))
            del self._waiting[queue]
            return queue


@worker_ready.connect
def look_at_once(**_: Any) -> None:
    """Work that waited for a worker need not wait for the next sweep as well."""
    for queue in ("webhooks", "payments", "fulfillment", "storage", "orders"):
        wakeup.notify_now(queue)
    app.send_task("payments.coins", ignore_result=True, retry=False, expires=30)

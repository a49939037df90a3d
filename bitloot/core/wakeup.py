"""Wake-ups: a message that says "look now" and nothing else. Losing one costs a sweep period, never an order."""

import logging
import threading
import time
from functools import partial

from celery import current_app
from django.conf import settings
from django.db import transaction
from prometheus_client import Counter

from bitloot.core.worker import this_process

logger = logging.getLogger(__name__)

QUIET_SECONDS = 0.2
EXPIRES_SECONDS = 60
sent = Counter("bitloot_wakeups_sent", "Wake-ups handed to the broker", ["queue"])
lost = Counter("bitloot_wakeups_lost", "Wake-ups the broker did not take", ["queue"])


def notify(queue: str) -> None:
    """Wake the drain of `queue` when the current transaction commits. Never blocks and never raises."""
    # Robust: the work is committed, and a wake-up that fails must not look like work that failed.
    transaction.on_commit(partial(notify_now, queue), robust=True)


def notify_now(queue: str) -> None:
    """Wake the drain of `queue`: in this process if it is a worker with a free seat, by the broker otherwise.

    At most one message per queue, process and 200 ms, from a thread: neither a slow nor a dead broker delays anybody.
    """
    # A message through the broker for a worker's own next step costs 1 ms CPU per order and a tenth of the rate.
    if this_process.look(queue):
        return
    if settings.REDIS_URL:  # the embedded worker has no broker and sweeps twice a second instead
        messages.want(queue)


class Messages:
    """What waits for the thread that speaks to the broker."""

    def __init__(self) -> None:
        self._queues: set[str] = set()
        self._wake = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def want(self, queue: str) -> None:
        # In this order: the thread clears the signal before it reads the queues, so it misses neither.
        self._queues.add(queue)
        self._wake.set()
        with self._starting:
            # In a forked process the parent's thread is not alive.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._send_forever, name="wakeup", daemon=True)
                self._thread.start()

    def _send_forever(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._queues:
                _send(self._queues.pop())
            time.sleep(QUIET_SECONDS)


def _send(queue: str) -> None:
    try:
        current_app.send_task(f"{queue}.drain", ignore_result=True, retry=False, expires=EXPIRES_SECONDS)
        sent.labels(queue).inc()
    except Exception as err:  # noqa: BLE001 - however the broker fails, the sweep finds the row
        lost.labels(queue).inc()
        logger.warning("The broker did not take a wake-up for %s: %s", queue, type(err).__name__)


messages = Messages()

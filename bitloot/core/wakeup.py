"""Doorbells: a message that says "look now" and nothing else. Losing one costs a sweep period, never an order."""

import logging
import os
import threading
import time
from functools import partial
from typing import Protocol

from celery import current_app
from django.db import transaction
from prometheus_client import Counter

logger = logging.getLogger(__name__)

QUIET_SECONDS = 0.2
# A worker whose threads are all busy tells the others, but they have bells of their own.
BUSY_SECONDS = 1.0
EXPIRES_SECONDS = 60
rung = Counter("bitloot_bells_rung", "Doorbells handed to the broker", ["queue"])
lost = Counter("bitloot_bells_lost", "Doorbells the broker did not take", ["queue"])


class Here(Protocol):
    """What drains queues in this process."""

    def __call__(self, queue: str) -> bool:
        """Drain the queue; False if that has to wait for others to end."""

    def put_off(self, queue: str) -> bool:
        """Note a drain that is already started, and say True, if it has to wait for others to end."""

    def wants_room(self, queue: str) -> bool:
        """Say whether others wait for what a drain of this queue takes."""


_wanted: set[str] = set()
_wake = threading.Event()
_start = threading.Lock()
_ringer: tuple[int, threading.Thread] | None = None
_here: Here | None = None
_told: dict[str, float] = {}


def notify(queue: str) -> None:
    """Wake the drain of `queue` when the current transaction commits. Never blocks and never raises."""
    transaction.on_commit(partial(notify_now, queue), robust=True)


def notify_now(queue: str) -> None:
    """Wake the drain of `queue`: at most one message per queue, process and 200 ms leaves, from a thread of its own.

    A worker that has a thread to spare drains by itself, and tells nobody.
    """
    if _here is not None and _here(queue):
        return
    _wanted.add(queue)
    _wake.set()
    if _ringer is None or _ringer[0] != os.getpid():
        _start_ringer()


def answer_here(here: Here | None) -> None:
    """Have this process answer its own bells."""
    global _here
    _here = here


def put_off(queue: str) -> bool:
    """Say whether a drain had better end at once, because this process is busy and has noted to start it again."""
    return _here is not None and _here.put_off(queue)


def wants_room(queue: str) -> bool:
    """Say whether a drain had better end between two rows, because others of this process wait."""
    return _here is not None and _here.wants_room(queue)


def _start_ringer() -> None:
    global _ringer
    with _start:
        if _ringer is None or _ringer[0] != os.getpid():
            thread = threading.Thread(target=_ring_forever, name="bell", daemon=True)
            _ringer = (os.getpid(), thread)
            thread.start()


def _ring_forever() -> None:
    while True:
        _wake.wait()
        _wake.clear()
        while _wanted:
            _announce(_wanted.pop())
        time.sleep(QUIET_SECONDS if _here is None else QUIET_SECONDS / 2)


def _announce(queue: str) -> None:
    # What a worker rings for is most often its own next step: a message through the broker costs more than many steps.
    if _here is not None and (_here(queue) or time.monotonic() - _told.get(queue, -BUSY_SECONDS) < BUSY_SECONDS):
        return
    _told[queue] = time.monotonic()
    _publish(queue)


def _publish(queue: str) -> None:
    try:
        current_app.send_task(f"{queue}.drain", ignore_result=True, retry=False, expires=EXPIRES_SECONDS)
        rung.labels(queue).inc()
    except Exception as err:  # noqa: BLE001 - whatever ails the broker, the sweep finds the row
        lost.labels(queue).inc()
        logger.warning("The broker did not take a bell for %s: %s", queue, type(err).__name__)

"""Which worker processes there are: each keeps one row of its own fresh, at a cost that no order adds to."""

import logging
import os
import socket
import time

from django.conf import settings
from django.db import DatabaseError
from django.db.models import QuerySet
from django.db.models.functions import Now

from bitloot.core.clock import delay
from bitloot.core.database import leave_connection
from bitloot.core.models import WorkerSeen
from bitloot.core.worker import SEATS

logger = logging.getLogger(__name__)

EVERY_SECONDS = 15
LIVES = 60  # seconds after it was last seen
FORGOTTEN = 24 * 3600


class Presence:
    """What one worker process notes of itself."""

    def __init__(self) -> None:
        self._row: WorkerSeen | None = None
        self._next = 0.0

    def note(self) -> None:
        """Say that this process is there, at most every EVERY_SECONDS. Never raises for a database that is away."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + delay(EVERY_SECONDS).total_seconds()
        try:
            self._write()
        except DatabaseError as err:
            logger.warning("this worker could not be noted: %s", type(err).__name__)
        finally:
            leave_connection()

    def end(self) -> None:
        """Say goodbye: a worker that was told to end is not missing."""
        if self._row is None:
            return
        try:
            WorkerSeen.objects.filter(pk=self._row.pk).delete()
        except DatabaseError as err:
            logger.warning("the end of this worker could not be noted: %s", type(err).__name__)
        finally:
            leave_connection()

    def _write(self) -> None:
        # The row may be gone: after a day of silence another worker deletes it, and this one begins a new one.
        if self._row and WorkerSeen.objects.filter(pk=self._row.pk).update(seen_at=Now()):
            return
        WorkerSeen.objects.filter(seen_at__lt=Now() - delay(FORGOTTEN)).delete()
        self._row = WorkerSeen.objects.create(
            host=socket.gethostname()[:100],
            pid=os.getpid(),
            version=str(settings.SPECTACULAR_SETTINGS["VERSION"]),
            queues=", ".join(SEATS)[:200],
        )


def living() -> QuerySet[WorkerSeen]:
    return WorkerSeen.objects.filter(seen_at__gte=Now() - delay(LIVES))

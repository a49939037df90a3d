"""Each web process looks once a minute whether there are workers: if all are gone, none of them can say so."""

import logging
import threading

from django.db import DatabaseError

from bitloot.core.clock import delay
from bitloot.core.database import leave_connection
from orders.workers import watch_from_outside

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60


def start() -> None:
    threading.Thread(target=_watch_forever, name="vigil", daemon=True).start()


def _watch_forever() -> None:
    pause = threading.Event()
    while not pause.wait(delay(EVERY_SECONDS).total_seconds()):
        look()


def look() -> None:
    """Look once. Never raises: the next look is a minute away."""
    try:
        watch_from_outside()
    except DatabaseError as err:
        logger.warning("whether workers are there could not be looked at: %s", type(err).__name__)
    except Exception:
        logger.exception("an alert about missing workers could not be delivered")
    finally:
        leave_connection()

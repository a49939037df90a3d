"""The broker as we use it: a message that is not a task is dropped and counted, and stops no worker."""

import logging
import time
from queue import Empty
from typing import Any

from celery.signals import task_rejected, task_unknown
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.exceptions import SerializationError, SerializerNotInstalled
from kombu.transport import TRANSPORT_ALIASES, redis
from prometheus_client import Counter

logger = logging.getLogger(__name__)

dropped = Counter("bitloot_broker_messages_dropped", "Messages from the broker that were not tasks of ours")

PATIENCE = 1.0
# What kombu and celery raise over bytes that are not JSON, JSON that is not a message, or a message without a task.
_NOT_A_MESSAGE = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    RecursionError,
    SerializationError,
    SerializerNotInstalled,
)


class DropsUnreadable:
    """For kombu's channels over Redis."""

    def _brpop_read(self, **options: Any) -> Any:
        """Take one message. Raises Empty, also for one that cannot be read: Redis has given it away by then."""
        # Celery has no switch for this: it takes the error for one of the worker's own and ends. Anyone who can write
        # to Redis could stop every worker with one byte.
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except _NOT_A_MESSAGE as err:
            count_dropped()
            logger.warning("The broker sent something that is not a task (%s); it was dropped", type(err).__name__)
            raise Empty from err


class Channel(DropsUnreadable, redis.Channel):
    pass


class Transport(redis.Transport):
    Channel = Channel


class SentinelChannel(DropsUnreadable, redis.SentinelChannel):
    pass


class SentinelTransport(redis.SentinelTransport):
    Channel = SentinelChannel


class Consumer(CeleryConsumer):
    """Named in CELERY_WORKER_CONSUMER."""

    def __init__(self, on_task_request: Any, **kwargs: Any) -> None:
        """Start as with `--without-mingle --without-gossip`, however the worker was called.

        Workers have nothing to say to each other: rows are their only state. Mingling asks over a connection that kombu
        keeps through an error of the broker, with sockets that are closed by then (“Unrecoverable error: KeyError”).
        """
        quiet = {"without_mingle": True, "without_gossip": True}
        kwargs["worker_options"] = (kwargs.get("worker_options") or {}) | quiet
        super().__init__(on_task_request, **kwargs)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Wait a second for a broker that answers with errors; Celery would ask it again at once, with a traceback."""
        if not isinstance(exc, self.channel_errors):  # type: ignore[attr-defined]
            return super().on_connection_error_after_connected(exc)
        logger.warning(
            "The broker refuses what a worker needs (%s). Rows are found by sweeps meanwhile; if this lasts, look at"
            " Redis: it may be read-only or out of memory",
            exc,
        )
        time.sleep(PATIENCE)
        return None

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        count_dropped()
        super().on_decode_error(message, exc)


def install() -> None:
    """Have every redis://, rediss:// and sentinel:// address of a broker served by these transports."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
    # What celery itself can tell from a task: it drops these, too.
    task_rejected.connect(count_dropped, dispatch_uid="broker.rejected")
    task_unknown.connect(count_dropped, dispatch_uid="broker.unknown")


def count_dropped(**_: Any) -> None:
    dropped.inc()

"""The read replica: for staff's lists, exports and figures, and for nothing that decides, because it may be late."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections
from django.db.models import Model

logger = logging.getLogger(__name__)

ALIAS = "replica"
LATE_SECONDS = 30
PAUSE_SECONDS = 30  # for who would wait for one that is away
_ON_PRIMARY = "SELECT pg_current_wal_lsn(), (SELECT system_identifier FROM pg_control_system())"
# One that has all of what the primary had written is not late, however long ago that was.
_ON_REPLICA = """
SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system()),
    CASE WHEN pg_last_wal_replay_lsn() >= %s::pg_lsn THEN 0
    ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END
"""


class NotUsable(Exception):
    """Lists are read from the primary; the message says why."""


class Router:
    """Named in DATABASE_ROUTERS. Only who says `using(for_lists())` reads from the replica, and nobody writes there."""

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        """Save a row at the primary, also one that was read from the replica."""
        return DEFAULT_DB_ALIAS

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool:
        return True  # they are rows of one database

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db == ALIAS else None


class _State:
    """What this process knows of the replica. Two threads that learn it at once say it twice, at worst."""

    away_until = 0.0
    reason = ""

    def note(self, reason: str) -> None:
        self.away_until = time.monotonic() + PAUSE_SECONDS if reason else 0.0
        if reason and not self.reason:
            logger.warning("Lists are read from the primary: %s", reason)
        elif self.reason and not reason:
            logger.warning("Lists are read from the replica again")
        self.reason = reason


state = _State()


def for_lists() -> str:
    """Return the alias to read a list, an export or figures from: the replica, or the primary if it is not usable."""
    if not settings.DATABASE_REPLICA_URL or time.monotonic() < state.away_until:
        return DEFAULT_DB_ALIAS
    try:
        seconds_behind()
    except NotUsable as err:
        state.note(str(err))
        return DEFAULT_DB_ALIAS
    state.note("")
    return ALIAS


def seconds_behind() -> float:
    """Return by how much the replica is late. Raises NotUsable."""
    with connection.cursor() as cursor:
        cursor.execute(_ON_PRIMARY)
        written, cluster = cursor.fetchone()
    with _asking() as cursor:
        cursor.execute(_ON_REPLICA, [written])
        is_replica, its_cluster, behind = cursor.fetchone()
    if not is_replica:
        raise NotUsable("DATABASE_REPLICA_URL leads to a server that is no replica, or no longer one")
    if its_cluster != cluster:
        raise NotUsable("DATABASE_REPLICA_URL leads to a replica of another server")
    if behind is None or behind > LATE_SECONDS:
        raise NotUsable(f"the replica is more than {LATE_SECONDS} s behind")
    return float(behind)


@contextmanager
def _asking() -> Iterator[Any]:
    try:
        with connections[ALIAS].cursor() as cursor:
            yield cursor
    except DatabaseError as err:
        connections[ALIAS].close()  # the next one who asks connects anew
        raise NotUsable(f"the replica does not answer ({type(err).__name__})") from err

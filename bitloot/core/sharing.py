"""The threads of a worker share a few database connections: who computes has one, who waits for somebody else has none.

PostgreSQL has only so many of them to give, and a few that are in use all the time have their statements prepared.
"""

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

_spare: list[BaseDatabaseWrapper] | None = None


def share() -> None:
    """Have the threads of this process share from now on; else each keeps a connection of its own, as Django does."""
    global _spare
    _spare = []


def take() -> None:
    """Give this thread the connection that was left last, unless it has one; one that broke is closed for another."""
    if _spare is None or _has_one():
        return
    try:
        connections[DEFAULT_DB_ALIAS] = _spare.pop()
    except IndexError:
        return  # Django makes a new one when it is asked for
    try:
        connections[DEFAULT_DB_ALIAS].close_if_unusable_or_obsolete()
    except DatabaseError:
        del connections[DEFAULT_DB_ALIAS]  # it cannot even be closed


def give_back() -> None:
    """Leave this thread's connection to the others; one with an open transaction stays, with its locks."""
    if _spare is None or not _has_one():
        return
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.in_atomic_block or (connection.connection is not None and not connection.get_autocommit()):
        return
    if not connection.allow_thread_sharing:
        connection.inc_thread_sharing()
    del connections[DEFAULT_DB_ALIAS]
    _spare.append(connection)


def _has_one() -> bool:
    return any(connection.alias == DEFAULT_DB_ALIAS for connection in connections.all(initialized_only=True))

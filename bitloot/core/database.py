from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

_ready = False


def leave_connection() -> None:
    """Return this thread's connection to the pool before it waits for a provider, a mail server or a free seat.

    Inside a transaction nothing happens: the connection holds its locks. SQLite has no pool, and each thread keeps
    the file open.
    """
    # Not close_old_connections(): that one also closes inside a transaction.
    if settings.DATABASES["default"]["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()


def reason_of(err: Exception) -> str:
    """Return the first line of what a database or a bucket said."""
    return str(err).partition("\n")[0].rstrip(".") or type(err).__name__


def what_is_missing() -> str:
    """Return what this process waits for before it can work, or "" from the moment on at which nothing is missing."""
    global _ready
    if _ready:
        return ""
    plan = StringIO()
    try:
        call_command("showmigrations", plan=True, no_color=True, stdout=plan)
    except DatabaseError as err:
        return f"the database, which does not answer ({type(err).__name__})"
    missing = plan.getvalue().count("[ ]")
    # From then on nobody asks again: migrations are not undone under a shop that runs.
    _ready = not missing
    return f"{missing} migrations of the database: run `manage.py migrate`" if missing else ""


@contextmanager
def planned_by_values() -> Iterator[None]:
    """Have PostgreSQL plan each statement of this thread for the values that it has.

    A prepared statement's plan is made for all values alike: to count the rows of a status it reads the table until it
    has enough, which takes seconds for a status that no row has.
    """
    raw: Any = None
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            raw = cursor.connection
        before, raw.prepare_threshold = raw.prepare_threshold, None
    try:
        yield
    finally:
        # None: somebody else does so on this connection and has left it while waiting; they restore what was before.
        if raw is not None and before is not None:
            raw.prepare_threshold = before


@contextmanager
def one_moment() -> Iterator[None]:
    """Let everything be read as of one moment, however long it takes, where the database can do that."""
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield
        return
    with transaction.atomic(), connection.cursor() as cursor:
        # Sales continue meanwhile; without a snapshot, what was read first would disagree with the rest.
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield

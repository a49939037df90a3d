from django.db import connection


def leave_connection() -> None:
    """Return this thread's connection to the pool before it waits for a provider, a mail server or a free seat.

    Inside a transaction nothing happens: the connection holds its locks. SQLite has no pool, and each thread keeps
    the file open.
    """
    # Not close_old_connections(): that one also closes inside a transaction.
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()

"""Races and crashes at the database's own door: what happens at a statement, whatever code sends it."""

import contextlib

from django.db import connection


@contextlib.contextmanager
def dying_at(table):
    """Die at the first statement that would write to the table, as a worker that is killed there."""

    def die(execute, sql, params, many, context):
        if sql.startswith(("INSERT", "UPDATE", "DELETE")) and f'"{table}"' in sql:
            raise SystemExit
        return execute(sql, params, many, context)

    with connection.execute_wrapper(die):
        yield


@contextlib.contextmanager
def between(table, happen):
    """Let something happen after the first statement about the table and before the second, or its transaction."""
    seen = []

    def watch(execute, sql, params, many, context):
        if f'"{table}"' in sql or (seen and sql.startswith("SAVEPOINT")):
            seen.append(sql)
            if len(seen) == 2:
                happen()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield
    assert len(seen) > 1, f"nothing was asked of {table} twice"

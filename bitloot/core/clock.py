from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.db.models.sql.compiler import SQLCompiler

# 1, 2, 4, 8, 16 s, then growing to a quarter of an hour; a step that fails for a day goes to staff.
_FIRST_STEPS = (1, 2, 4, 8, 16, 30, 60, 120, 300, 600)
LONGEST_STEP = 900
GIVE_UP_AFTER = 24 * 3600


class Later(Now):
    """A moment of the database's clock, `seconds` from now: for defaults of columns.

    On SQLite `Now() + timedelta(…)` does not do: a column's default cannot call the function with which Django adds
    them.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.seconds = int(seconds)

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, tuple[Any, ...]]:
        sql = f"(STATEMENT_TIMESTAMP() + INTERVAL '{self.seconds} seconds')"
        return self.as_sql(compiler, connection, template=sql, **context)

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, tuple[Any, ...]]:
        # Doubled twice: as_sql fills in a template, and the cursor fills in parameters.
        sql = f"STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW', '+{self.seconds} seconds')"
        return self.as_sql(compiler, connection, template=sql, **context)


def delay(seconds: float) -> timedelta:
    """Return a waiting time; chaos runs divide every one of them by CLOCK_SCALE."""
    return timedelta(seconds=seconds / settings.CLOCK_SCALE)


def backoff(attempts: int) -> timedelta:
    """Return how long a step that failed `attempts` times waits before it is tried again."""
    return delay(_FIRST_STEPS[attempts - 1] if 0 < attempts <= len(_FIRST_STEPS) else LONGEST_STEP)


def in_words(span: timedelta) -> str:
    """Say to staff how long that is, in the unit that they would choose."""
    minutes = int(span.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"

"""Rows are the queue: work is a row with a due time, claimed with a lease and a fencing token."""

import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.core import logs, queries
from bitloot.core.clock import backoff, delay
from bitloot.core.database import leave_connection
from bitloot.core.faults import failpoint
from bitloot.core.traces import span
from bitloot.core.worker import this_process

logger = logging.getLogger(__name__)

LEASE_SECONDS = 120
MAX_CRASHES = 3

Row = TypeVar("Row", bound="QueueRow")


def queues() -> list[type["QueueRow"]]:
    """Return the model of every queue."""
    return [model for model in apps.get_models() if issubclass(model, QueueRow)]


class LeaseLost(Exception):
    """Somebody else holds the row by now; what this worker wanted to record is void."""


class QueueQuerySet(models.QuerySet[Any]):
    def due(self) -> Self:
        return self.filter(next_attempt_at__lte=Now()).order_by("next_attempt_at")

    def claim(self, limit: int = 1, *, only: Any = None) -> list[Any]:
        """Take up to `limit` due rows (or the row with pk `only`, if it is due) for LEASE_SECONDS of database time.

        One compare-and-set UPDATE; on PostgreSQL SKIP LOCKED keeps claimants out of each other's way.
        """
        if connections[self.db].vendor == "sqlite" and not self.due().exists():
            return []  # an UPDATE that matches nothing would still take SQLite's one write lock
        claimed = queries.fetch(self.model, *self._claim_sql(limit, only))
        if claimed:
            failpoint("queue.claimed")
        return claimed

    def _claim_sql(self, limit: int, only: Any) -> tuple[str, list[Any]]:
        model: Any = self.model
        meta, connection = model._meta, connections[self.db]
        sqlite = connection.vendor == "sqlite"
        lease = delay(LEASE_SECONDS).total_seconds()
        now = now_sql(connection)
        until = (
            "strftime('%%Y-%%m-%%d %%H:%%M:%%f','now','+' || %s || ' seconds')"
            if sqlite
            else "statement_timestamp() + make_interval(secs => %s)"
        )
        pk = meta.pk.column
        params: list[Any] = [uuid.uuid4().hex if sqlite else uuid.uuid4(), lease, lease]
        one = ""
        if only is not None:
            one = f" AND {pk} = %s"
            params.append(meta.pk.get_db_prep_value(only, connection))
        skip = "" if sqlite else " FOR UPDATE SKIP LOCKED"
        first_due = (
            f"SELECT {pk} FROM {meta.db_table} WHERE next_attempt_at <= {now}{one}"  # noqa: S608
            f" ORDER BY next_attempt_at LIMIT {int(limit)}{skip}"
        )
        # An array is made once; PostgreSQL may run a subquery after IN for each row that is due, and lock more.
        chosen = f"IN ({first_due})" if sqlite else f"= ANY(ARRAY({first_due}))"
        # The crash is counted before the work, since a worker that is killed counts nothing; a release resets it.
        sql = (
            f"UPDATE {meta.db_table} SET claim_token = %s, claimed_until = {until}, next_attempt_at = {until},"  # noqa: S608
            f" crashes = crashes + 1, woken = FALSE WHERE {pk} {chosen} AND next_attempt_at <= {now}"
            f" RETURNING {queries.columns(model)}"
        )
        return sql, params


class QueueManager(models.Manager.from_queryset(QueueQuerySet)):  # type: ignore[misc]
    """Rows of work."""


class QueueRow(models.Model):
    """A row that a worker has to look at once `next_attempt_at` has come; NULL means there is nothing left to do."""

    next_attempt_at = models.DateTimeField(null=True, blank=True, db_default=Now(), editable=False)
    attempts = models.PositiveIntegerField(default=0, editable=False)
    crashes = models.PositiveSmallIntegerField(default=0, editable=False)
    claimed_until = models.DateTimeField(null=True, blank=True, editable=False)
    claim_token = models.UUIDField(null=True, blank=True, editable=False)
    woken = models.BooleanField(
        db_default=False, editable=False, help_text="Somebody wants another look while a worker has it."
    )

    # Taken from the request that made the row, or from the row that was worked on then: so the id that a customer or a
    # provider was answered leads through all that followed, in logs and in the admin.
    request_id = models.UUIDField(null=True, blank=True, default=logs.current_request, editable=False)

    class Meta:
        abstract = True
        indexes = [
            models.Index(fields=["next_attempt_at"], name="%(class)s_due", condition=Q(next_attempt_at__isnull=False)),
            models.Index(fields=["request_id"], name="%(class)s_request", condition=Q(request_id__isnull=False)),
        ]

    @property
    def claimed_at(self) -> datetime:
        """When it was claimed, by the database's clock; for a row that nobody holds: now, by this process's."""
        return timezone.now() if self.claimed_until is None else self.claimed_until - delay(LEASE_SECONDS)

    @classmethod
    def claim_fields(cls, token: uuid.UUID) -> dict[str, Any]:
        """Return the columns of a new row that its maker holds from the start."""
        until = Now() + delay(LEASE_SECONDS)
        return {"claim_token": token, "claimed_until": until, "next_attempt_at": until, "crashes": 1}

    @classmethod
    def release_fields(cls, after: timedelta | None) -> dict[str, Any]:
        """Return the columns that end a claim: due again `after` that time, or never."""
        due: Any = None
        if after is not None:
            # Nothing is added for "at once": SQLite would print a sum with more digits, and find it a moment too late.
            due = Now() + after if after else Now()
        return {"claim_token": None, "claimed_until": None, "crashes": 0, "next_attempt_at": due}

    def release(self, after: timedelta | None, **fields: Any) -> None:
        """Record the outcome of a claim; a row that was woken meanwhile is due now. Raises LeaseLost if it lapsed."""
        mine = {"pk": self.pk, "claim_token": self.claim_token}
        values = self.release_fields(after) | fields
        failpoint("queue.before_release")
        # Without a token the condition would fit every row that nobody holds. The second UPDATE is for a row that was
        # woken while it was claimed: its news must not wait for the backoff.
        if self.claim_token is None or not (
            queries.update(type(self), mine | {"woken": False}, values)
            or queries.update(type(self), mine, values | {"next_attempt_at": Now()})
        ):
            raise LeaseLost(f"{self._meta.label} {self.pk}")
        failpoint("queue.released")
        self.claim_token = None

    def retry(self, **fields: Any) -> None:
        """Record a try that failed: due again after the backoff."""
        self.release(backoff(self.attempts + 1), attempts=F("attempts") + 1, **fields)

    def wake(self) -> None:
        """Make the row due now, or as soon as its current claim is released."""
        db, meta = connections[DEFAULT_DB_ALIAS], self._meta
        # One statement for both cases: between a look at the claim and an UPDATE, a worker may claim or release it.
        sql = (
            f"UPDATE {meta.db_table} SET woken = claim_token IS NOT NULL, next_attempt_at ="  # noqa: S608
            f" CASE WHEN claim_token IS NULL THEN {now_sql(db)} ELSE next_attempt_at END WHERE {meta.pk.column} = %s"
        )
        queries.execute(sql, [meta.pk.get_db_prep_value(self.pk, db)])


def now_sql(db: BaseDatabaseWrapper) -> str:
    return "strftime('%%Y-%%m-%%d %%H:%%M:%%f','now')" if db.vendor == "sqlite" else "statement_timestamp()"


def drain(
    queue: str,
    rows: QueueQuerySet,
    handle: Callable[[Row], None],
    *,
    give_up: Callable[[Row], None],
    batch: int = 1,
) -> int:
    """Have the due rows handled, `batch` of them by one thread; return how many were claimed.

    `handle` ends the claim itself. If it raises, the row waits out a backoff with its crash counted; a row that
    crashed three times goes to `give_up`, so that it stops nobody else.
    """
    return drain_batches(queue, rows, lambda _: nullcontext(handle), give_up=give_up, batch=batch)


def drain_batches(
    queue: str,
    rows: QueueQuerySet,
    open_batch: Callable[[Sequence[Row]], AbstractContextManager[Callable[[Row], None]]],
    *,
    give_up: Callable[[Row], None],
    batch: int,
) -> int:
    """Drain as `drain` does, where the rows of one batch share something: `open_batch` enters with their `handle`."""

    def job(claimed: Sequence[Row]) -> None:
        with open_batch(claimed) as handle:
            for row in claimed:
                with logs.about(**_facts(row)), span(row._meta.label_lower):
                    _run(row, handle, give_up)

    return this_process.drain(queue, rows.claim, job, batch=batch)


def _facts(row: QueueRow) -> dict[str, object]:
    request = row.request_id.hex if row.request_id else ""
    return {"request": request, "row": f"{row._meta.label_lower}:{row.pk}", "order": getattr(row, "order_id", "")}


def _run(row: Row, handle: Callable[[Row], None], give_up: Callable[[Row], None]) -> None:
    token = row.claim_token
    try:
        if row.crashes > MAX_CRASHES:
            give_up(row)
        else:
            handle(row)
    except LeaseLost:
        logger.warning("%s %s: the lease was lost, another worker has it", row._meta.label, row.pk)
    except Exception:
        logger.exception("%s %s failed", row._meta.label, row.pk)
        leave_connection()  # it may be what failed; the pool replaces a broken one
        # With the token: once the lease has lapsed, the row may be another worker's.
        type(row)._default_manager.filter(pk=row.pk, claim_token=token).update(
            claim_token=None, claimed_until=None, next_attempt_at=Now() + backoff(row.crashes)
        )

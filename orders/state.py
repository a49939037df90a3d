"""How a row's status moves: one compare-and-set per move, and a line in the order's timeline beside it."""

import uuid
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from django.db import connection, models, transaction
from django.db.models.functions import Now

from bitloot.core import queries
from bitloot.core.queue import LeaseLost
from orders.exceptions import InvalidTransition


def one_transaction() -> AbstractContextManager[None]:
    """Begin a transaction, or join the caller's without a savepoint: what fails half-way ends that, too."""
    return nullcontext() if connection.in_atomic_block else transaction.atomic()


class OrderEvent(models.Model):
    """The timeline: append-only, one row per move or notable fact."""

    order = models.ForeignKey("orders.Order", on_delete=models.PROTECT, related_name="events")
    at = models.DateTimeField(db_default=Now(), editable=False)
    kind = models.CharField(max_length=20, help_text="order, payment, reservation, key, mail, refund or staff")
    from_status = models.CharField(max_length=20, blank=True)
    to_status = models.CharField(max_length=20, blank=True)
    message = models.CharField(max_length=300)
    actor = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class StatusRow(models.Model):
    """A row whose status moves along TRANSITIONS; each move leaves a line in the timeline of its order."""

    TRANSITIONS: ClassVar[dict[str, frozenset[str]]]
    TIMELINE_KIND: ClassVar[str]
    status: Any

    class Meta:
        abstract = True

    def _move(
        self,
        to: str,
        *,
        order_id: uuid.UUID,
        message: str,
        actor: str = "",
        claim: Any = None,
        not_from: frozenset[str] = frozenset(),
        **fields: Any,
    ) -> bool:
        """Change the status with a timeline row, with `claim` only while that claim holds. Return False for a repeat.

        One compare-and-set: what this instance says counts only as long as the row still says the same; before a
        move is refused, the row is locked and looked at. Raises InvalidTransition or LeaseLost.
        """
        note = {"order_id": order_id, "message": message[:300], "actor": actor}
        row = {"pk": self.pk} | ({} if claim is None else {"claim_token": claim})
        sources = {status for status, targets in self.TRANSITIONS.items() if to in targets} - not_from
        if self.status in sources and self.status != to and self._set_status(row, to, note, fields):
            return True
        with transaction.atomic():
            seen = queries.select(type(self), row, lock=True)
            if not seen:
                raise LeaseLost(f"{self}")
            self.status = seen[0].status
            if self.status == to:
                return False
            if self.status not in sources:
                raise InvalidTransition(f"{self}: {self.status} -> {to}")
            return self._set_status(row, to, note, fields)

    def _set_status(
        self,
        row: dict[str, Any],
        to: str,
        note: dict[str, Any],
        fields: dict[str, Any],
        *,
        through: tuple[str, str] | None = None,
    ) -> bool:
        """Change the status by compare-and-set. With `through`, a status and its message, the row passes that, too."""
        was = self.status
        # No savepoint: if the timeline cannot be written, nothing of the caller's transaction may stay.
        with transaction.atomic(savepoint=False):
            if not queries.update(type(self), row | {"status": was}, {"status": to, **fields}):
                return False
            if through is not None:
                passed, message = through
                self._add_event(was, passed, note | {"message": message[:300]})
                was = passed
            self._add_event(was, to, note)
        self.status = to
        for name, value in fields.items():
            if hasattr(value, "resolve_expression"):
                self.__dict__.pop(name, None)  # the database's answer is read when it is asked for
            else:
                setattr(self, name, value)
        return True

    def _add_event(self, from_status: str, to_status: str, note: dict[str, Any]) -> None:
        event = OrderEvent(kind=self.TIMELINE_KIND, from_status=from_status, to_status=to_status, **note)
        queries.insert(event)

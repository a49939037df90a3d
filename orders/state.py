"""How a row's status moves: one compare-and-set per move, and a line in the order's timeline beside it."""

import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from django.db import connection, models, transaction
from django.db.models.functions import Now

from bitloot.core import queries
from bitloot.core.queue import LeaseLost
from bitloot.core.sentences import phrase_of, translated
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
    phrase = models.JSONField(null=True, help_text="The message's msgid and values, if something is filled in.")
    actor = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["id"]
        # For the filters of staff's list. Not partial, though most are common: see `order_by_email`.
        indexes = [
            models.Index(fields=["kind", "-id"], name="event_by_kind"),
            models.Index(fields=["at"], name="event_by_time"),
            models.Index(fields=["actor"], name="event_by_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"

    @property
    def kind_in_words(self) -> str:
        """Return the kind in the word that staff have for it; the API says “reservation”."""
        return "purchase" if self.kind == "reservation" else self.kind

    @property
    def message_for_reader(self) -> str:
        """Return the message in the language of the request; staff read what was written."""
        return translated(self.message, self.phrase)


@dataclass(frozen=True)
class Step:
    """A status and what the timeline says of reaching it."""

    status: str
    message: str


class StatusRow(models.Model):
    """A row whose status moves along TRANSITIONS; each move leaves a line in the timeline of its order."""

    TRANSITIONS: ClassVar[dict[str, frozenset[str]]]
    # Statuses that only the worker holding the row's claim may leave.
    LEFT_BY_CLAIM_ONLY: ClassVar[frozenset[str]] = frozenset()
    TIMELINE_KIND: ClassVar[str]
    status: Any
    order_id: uuid.UUID

    class Meta:
        abstract = True

    @property
    def timeline_order_id(self) -> uuid.UUID:
        """The order in whose timeline this row's moves are written. Overridden by models without `order_id`."""
        return self.order_id

    def move(
        self,
        to: str,
        *,
        message: str,
        actor: str = "",
        claim: uuid.UUID | None = None,
        via: Step | None = None,
        only_if: tuple[type[models.Model], queries.Where] | None = None,
        **fields: Any,
    ) -> bool:
        """Change the status and write the timeline, in one transaction. Return False for a repeat.

        With `claim`, only while that claim holds; with `via`, through another status on the way; with `only_if`, only
        while such another row exists (False if not). Raises InvalidTransition or LeaseLost.
        """
        steps = [*([via] if via else []), Step(to, message)]
        where = {"pk": self.pk} if claim is None else {"pk": self.pk, "claim_token": claim}
        # The common case is one statement and no lock: what this instance remembers is good enough to try, because the
        # statement demands that the row still says the same.
        if self._allows(steps, claim) and self._compare_and_set(where, steps, actor, fields, only_if):
            return True
        # Somebody was faster, or the move is forbidden from what this instance remembers. Which of the two is decided
        # on the row itself, locked, so that it cannot change between this look and the write.
        with transaction.atomic():
            rows = queries.select(type(self), where, lock=True)
            if not rows:
                raise LeaseLost(f"{self._meta.label} {self.pk}")
            self.status = rows[0].status
            if self.status == to:
                return False
            if not self._allows(steps, claim):
                raise InvalidTransition(f"{self._meta.label} {self.pk}: {self.status} -> {to}")
            return self._compare_and_set(where, steps, actor, fields, only_if)

    def announce_move(self, to: str) -> None:
        """Tell the rooms above, inside the move's transaction; most rows have nobody to tell."""

    def _allows(self, steps: Sequence[Step], claim: uuid.UUID | None) -> bool:
        if claim is None and self.status in self.LEFT_BY_CLAIM_ONLY:
            return False
        path = [self.status, *(step.status for step in steps)]
        return all(after in self.TRANSITIONS[before] for before, after in pairwise(path))

    def _compare_and_set(
        self,
        where: dict[str, Any],
        steps: Sequence[Step],
        actor: str,
        fields: dict[str, Any],
        only_if: tuple[type[models.Model], queries.Where] | None,
    ) -> bool:
        """Write status and fields if the row still has this instance's status; return whether it had."""
        before, to = self.status, steps[-1].status
        # No savepoint: if the timeline cannot be written, the caller's transaction must fail as a whole. With a
        # savepoint a caller that swallows the error would commit its other writes without the move they belong to.
        with transaction.atomic(savepoint=False):
            # Of several workers, and staff beside them, only one finds the status that it read. The others write
            # nothing, so no order is paid twice and no purchase sent twice.
            found = _write(type(self), where | {"status": before}, {"status": to, **fields}, only_if)
            if found is None:
                return False
            for step in steps:
                self._note_step(before, step, actor)
                before = step.status
            self.announce_move(to)
        self.status = to
        for name, value in {**fields, **found}.items():
            setattr(self, name, value)
        return True

    def _note_step(self, before: str, step: Step, actor: str) -> None:
        event = OrderEvent(
            order_id=self.timeline_order_id,
            kind=self.TIMELINE_KIND,
            from_status=before,
            to_status=step.status,
            message=step.message[:300],
            phrase=phrase_of(step.message),
            actor=actor,
        )
        queries.insert(event)


def _write(
    model: type[models.Model],
    where: dict[str, Any],
    values: dict[str, Any],
    only_if: tuple[type[models.Model], queries.Where] | None,
) -> dict[str, Any] | None:
    """Change one row; return what the database made of the values given as expressions, or None if none matched."""
    made = [name for name, value in values.items() if hasattr(value, "resolve_expression")]
    if not made:
        return {} if queries.update(model, where, values, if_exists=only_if) else None
    # Now() is the database's clock, so its answer comes back with the same statement. Nothing is read later: an
    # attribute that runs a query hides it from anyone who counts them.
    found = queries.update_returning(model, where, values, names=made, if_exists=only_if)
    return None if found is None else dict(zip(made, found, strict=True))

import uuid
from itertools import pairwise
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from bitloot.core import queries
from bitloot.core.queue import LeaseLost, QueueManager, QueueRow
from orders.exceptions import InvalidTransition
from orders.models import OrderItem
from orders.state import StatusRow


class Reservation(StatusRow, QueueRow):
    """The purchase of one order item at the supplier. `external_id` is ours and the same for life."""

    class Status(models.TextChoices):
        PENDING = "pending"
        SENDING = "sending"
        RESERVED = "reserved"
        GIVEN = "given"
        DELIVERED = "delivered"
        UNKNOWN = "unknown"
        HELD = "held"
        CANCELLED = "cancelled"
        FAILED = "failed"

    TIMELINE_KIND = "reservation"
    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        Status.PENDING: frozenset({"sending", "held", "cancelled", "failed", "delivered"}),
        # A send whose outcome is not known is never "not sent": it becomes unknown.
        Status.SENDING: frozenset({"pending", "reserved", "unknown", "held", "failed"}),
        Status.RESERVED: frozenset({"given", "cancelled", "held"}),
        Status.GIVEN: frozenset({"delivered", "cancelled", "held"}),
        Status.UNKNOWN: frozenset({"reserved", "held"}),
        Status.HELD: frozenset({"pending", "reserved", "cancelled", "failed", "delivered"}),
        Status.CANCELLED: frozenset({"held"}),
        Status.FAILED: frozenset({"held", "reserved"}),
        Status.DELIVERED: frozenset(),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    item = models.OneToOneField(OrderItem, on_delete=models.PROTECT, related_name="reservation")
    external_id = models.CharField(max_length=64, unique=True, editable=False)
    supplier_order_id = models.CharField(max_length=64, null=True, blank=True, unique=True, editable=False)
    dialect = models.CharField(max_length=16, editable=False)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.PENDING, editable=False)
    reason = models.CharField(max_length=64, blank=True, editable=False, help_text="Why it is held or failed.")
    last_error = models.CharField(max_length=300, blank=True, editable=False)
    cost = models.DecimalField(max_digits=10, decimal_places=2, null=True, blank=True, editable=False)
    unknown_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="Since when nobody knows.")
    manual = models.BooleanField(default=False, editable=False, help_text="Staff typed the codes; nothing was bought.")
    polls = models.PositiveIntegerField(default=0, editable=False, help_text="Looks for keys since they were bought.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    reserved_at = models.DateTimeField(null=True, blank=True, editable=False)
    delivered_at = models.DateTimeField(null=True, blank=True, editable=False)
    changed_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    status__in=[
                        "pending", "sending", "reserved", "given", "delivered",
                        "unknown", "held", "cancelled", "failed",
                    ]
                ),
                name="reservation_status_known",
            )
        ]  # fmt: skip
        indexes = [
            *QueueRow.Meta.indexes,
            models.Index(fields=["-created_at"], name="reservation_newest"),
            models.Index(fields=["status", "-created_at"], name="reservation_by_status"),
        ]

    def __str__(self) -> str:
        return f"reservation {self.external_id}"

    def lock(self) -> "Reservation":
        return queries.get(Reservation, self.pk, lock=True)

    def record(self, to: str, *, message: str, through: tuple[str, str] | None = None, **fields: Any) -> None:
        """Change the status for the worker that holds the claim, with a timeline row: one compare-and-set.

        With `through`, a status and its message, it passes that on the way. Raises LeaseLost if the claim no longer
        holds, InvalidTransition for a forbidden move.
        """
        path = (self.status, through[0], to) if through else (self.status, to)
        for before, after in pairwise(path):
            if after not in self.TRANSITIONS[before]:
                raise InvalidTransition(f"{self}: {before} -> {after}")
        note = {"order_id": self.item.order_id, "message": message[:300], "actor": ""}
        mine = {"pk": self.pk, "claim_token": self.claim_token}
        if not self._set_status(mine, to, note, {"changed_at": Now(), **fields}, through=through):
            raise LeaseLost(f"{self}")

    def move(self, to: str, *, message: str, actor: str = "", **fields: Any) -> bool:
        """Change the status for a person, whoever holds the claim, and end that claim. Return False for a repeat.

        Raises InvalidTransition, above all while it is being sent: only who sent it, or a search, says what came of it.
        """
        free = {"changed_at": Now(), "claim_token": None, "claimed_until": None}
        not_from = frozenset({self.Status.SENDING})
        order = self.item.order_id
        return self._move(to, order_id=order, message=message, actor=actor, not_from=not_from, **free | fields)


class ReservationAttempt(models.Model):
    """A permit to send one purchase once, committed before the first byte leaves."""

    class Outcome(models.TextChoices):
        OPEN = "open"
        PLACED = "placed"
        NOT_SENT = "not_sent"
        REFUSED = "refused"
        DUPLICATE = "duplicate"
        UNKNOWN = "unknown"

    reservation = models.ForeignKey(Reservation, on_delete=models.PROTECT, related_name="permits")
    number = models.PositiveSmallIntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True)
    permitted_at = models.DateTimeField(db_default=Now(), editable=False)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.OPEN)
    detail = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["reservation", "number"]
        constraints = [models.UniqueConstraint(fields=["reservation", "number"], name="permit_number_once")]

    def __str__(self) -> str:
        return f"{self.reservation} attempt {self.number}"


class SupplierCall(models.Model):
    """What we asked the supplier for one reservation, and how it ended. Never holds a key."""

    reservation = models.ForeignKey(Reservation, on_delete=models.PROTECT, related_name="calls")
    at = models.DateTimeField(db_default=Now(), editable=False)
    call = models.CharField(max_length=20)
    outcome = models.CharField(max_length=20)
    status_code = models.PositiveSmallIntegerField(null=True)
    milliseconds = models.PositiveIntegerField()
    detail = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.call}: {self.outcome}"


class SupplierGate(models.Model):
    """One row per supplier host: whether purchases may be sent there at all."""

    class Status(models.TextChoices):
        OPEN = "open"
        PAUSED = "paused"
        STOPPED = "stopped"

    host = models.CharField(primary_key=True, max_length=200)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.OPEN)
    reason = models.CharField(max_length=200, blank=True)
    failures = models.PositiveIntegerField(default=0)
    probe_at = models.DateTimeField(null=True, blank=True, help_text="When a paused gate is tried by a read.")
    balance = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True, help_text="EUR, last read.")
    needed_balance = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True, help_text="A low-balance pause ends here, EUR."
    )
    changed_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(status__in=["open", "paused", "stopped"]), name="gate_status_known")
        ]

    def __str__(self) -> str:
        return f"{self.host}: {self.status}"


class ForeignPurchase(models.Model):
    """An order at the supplier that is none of our rows; staff dealt with it, and `reconcile` skips it."""

    supplier_order_id = models.CharField(max_length=64, primary_key=True)
    external_id = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=300)
    acknowledged_by = models.CharField(max_length=150)
    acknowledged_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-acknowledged_at"]

    def __str__(self) -> str:
        return f"purchase {self.supplier_order_id}"

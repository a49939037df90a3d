import uuid
from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

from bitloot.core import queries
from bitloot.core.choices import StatusChoices, Tone
from bitloot.core.queue import LeaseLost, QueueManager, QueueRow
from fulfillment.choices import GateStatus, HoldReason, ReservationStatus
from orders.exceptions import InvalidTransition
from orders.models import OrderItem, Product
from orders.state import StatusRow, Step
from storage.models import Key

# For how many keys a reservation is, in a query.
UNITS = Case(When(replaces=None, then=F("item__quantity")), default=Value(1))


class Reservation(StatusRow, QueueRow):
    """The purchase of one order item, or of the replacement of one key. `external_id` is ours and the same for life.

    The external id of an item's purchase is the item's id, that of a replacement the id of the key that it replaces.
    Both are unique, so an item is bought at most once, and so is the replacement of each key.
    """

    Status = ReservationStatus

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
    # Only who sent a purchase, or a search, can say how it ended; staff would let it be bought a second time.
    LEFT_BY_CLAIM_ONLY = frozenset({Status.SENDING})

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    item = models.ForeignKey(OrderItem, on_delete=models.PROTECT, related_name="reservations")
    replaces = models.OneToOneField(
        Key, null=True, blank=True, on_delete=models.PROTECT, related_name="replacement", editable=False
    )
    keeps_replaced = models.BooleanField(
        default=False, editable=False, help_text="The customer keeps the replaced key beside the new one."
    )
    external_id = models.CharField(max_length=64, unique=True, editable=False)
    supplier_order_id = models.CharField(max_length=64, null=True, blank=True, unique=True, editable=False)
    dialect = models.CharField(max_length=16, editable=False)
    status = models.CharField(max_length=12, choices=ReservationStatus.choices, default=Status.PENDING, editable=False)
    reason = models.CharField(
        max_length=64, blank=True, choices=HoldReason.choices, editable=False, help_text="Why it is held or cancelled."
    )
    last_error = models.CharField(max_length=300, blank=True, editable=False)
    # What the last purchase asked for. The product may be changed while its keys are awaited.
    supplier_product_id = models.CharField(max_length=64, blank=True, editable=False)
    title = models.CharField(max_length=120, blank=True, editable=False)
    price_cap = models.DecimalField(
        max_digits=10, decimal_places=2, null=True, blank=True, editable=False, help_text="Per key, EUR."
    )
    cost = models.DecimalField(max_digits=10, decimal_places=2, null=True, blank=True, editable=False)
    waiting_since = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Refused first; the product's patience counts from here."
    )
    unknown_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="Since when nobody knows.")
    unread_since = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Since when the supplier gives no usable answer about it."
    )
    manual = models.BooleanField(default=False, editable=False, help_text="Staff typed the codes; nothing was bought.")
    polls = models.PositiveIntegerField(default=0, editable=False, help_text="Looks for keys since they were bought.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    reserved_at = models.DateTimeField(null=True, blank=True, editable=False)
    delivered_at = models.DateTimeField(null=True, blank=True, editable=False)
    changed_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        verbose_name = "purchase"  # people's word for it everywhere; `reservation` is that of code and API
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=ReservationStatus.values), name="reservation_status_known"),
            models.UniqueConstraint(fields=["item"], condition=Q(replaces__isnull=True), name="reservation_item_once"),
        ]
        permissions = [
            ("run_delivery", "May run the delivery of an order now"),
            ("run_purchase", "May run a purchase now"),
            ("search_purchase", "May search for a purchase at the supplier now"),
            ("resume_purchase", "May let a held purchase be bought"),
            ("replace_by_hand", "May replace a key with a typed code"),
            ("rebuy", "May buy a key once more to replace it"),
        ]
        indexes = [
            *QueueRow.Meta.indexes,
            models.Index(fields=["-created_at"], name="reservation_newest"),
            models.Index(fields=["status", "-created_at"], name="reservation_by_status"),
            models.Index(fields=["reason", "-created_at"], name="reservation_by_reason"),
        ]

    def __str__(self) -> str:
        return f"purchase {self.external_id}"

    def lock(self) -> "Reservation":
        """Lock the row, after its order's, and return it as it is now."""
        return queries.get(Reservation, self.pk, lock=True)

    @property
    def timeline_order_id(self) -> uuid.UUID:
        return self.item.order_id

    @property
    def quantity(self) -> int:
        """How many keys it is for."""
        # A replacement is bought for the one key that it replaces, not for all of its item.
        return 1 if self.replaces_id else self.item.quantity

    @property
    def bought_product_id(self) -> str:
        """The supplier's name of what was bought, also where we never sent it and only found it there."""
        return self.supplier_product_id or self.item.product.supplier_product_id

    @property
    def is_replacement(self) -> bool:
        return self.replaces_id is not None

    @property
    def keys(self) -> models.QuerySet[Key]:
        """The keys that came for it, shredded ones among them."""
        return Key.objects.filter(item=self.item_id, replaces=self.replaces_id)

    def move(self, to: str, *, message: str, claim: uuid.UUID | None = None, **fields: Any) -> bool:
        """Change the status as every row does; without `claim` for staff; a worker that has the claim loses it."""
        # A worker in the middle of a step would otherwise record over what staff decided; now its compare-and-set
        # finds another token, and what it wanted to write is void.
        ended = {} if claim else {"claim_token": None, "claimed_until": None}
        return super().move(to, message=message, claim=claim, **{"changed_at": Now(), **ended, **fields})

    def record(self, to: str, *, message: str, via: Step | None = None, **fields: Any) -> None:
        """Change the status for the worker that holds the claim. Raises LeaseLost or InvalidTransition."""
        if not self.move(to, message=message, claim=self._held_claim(), via=via, **fields):
            raise InvalidTransition(f"{self._meta.label} {self.pk}: {self.status} -> {to}")

    def begin_sending(self, *, message: str, host: str, **asked: Any) -> bool:
        """Take the right to send the purchase, and remember what it asks for. Raises LeaseLost.

        Return False if purchases to this host are stopped.
        """
        # The gate is looked at in the statement that moves the row: between a look and a write somebody could stop
        # all purchases, and one would leave after that.
        gate_is_open = (SupplierGate, {"pk": host, "status": GateStatus.OPEN})
        claim = self._held_claim()
        return self.move(
            self.Status.SENDING, message=message, claim=claim, only_if=gate_is_open, sent_at=Now(), **asked
        )

    def _held_claim(self) -> uuid.UUID:
        if self.claim_token is None:
            raise LeaseLost(f"{self._meta.label} {self.pk}")
        return self.claim_token


class ReservationAttempt(models.Model):
    """A permit to send one purchase once, committed before the first byte leaves."""

    class Outcome(StatusChoices):
        OPEN = "open", Tone.BUSY
        PLACED = "placed", Tone.GOOD
        NOT_SENT = "not_sent"
        REFUSED = "refused", Tone.BAD
        DUPLICATE = "duplicate", Tone.LOOK
        UNKNOWN = "unknown", Tone.LOOK

    reservation = models.ForeignKey(
        Reservation, on_delete=models.PROTECT, related_name="permits", verbose_name="purchase"
    )
    # Unique within its reservation: two workers that both believe they hold the claim cannot both commit a permit.
    number = models.PositiveSmallIntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True)
    permitted_at = models.DateTimeField(db_default=Now(), editable=False)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.OPEN)
    detail = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name = "purchase attempt"
        ordering = ["reservation", "number"]
        constraints = [models.UniqueConstraint(fields=["reservation", "number"], name="permit_number_once")]

    def __str__(self) -> str:
        return f"{self.reservation} attempt {self.number}"


class SupplierCall(models.Model):
    """What we asked the supplier for one reservation, and how it ended. Never holds a key."""

    reservation = models.ForeignKey(
        Reservation, on_delete=models.PROTECT, related_name="calls", verbose_name="purchase"
    )
    at = models.DateTimeField(db_default=Now(), editable=False)
    call = models.CharField(max_length=20)
    outcome = models.CharField(max_length=20)
    status_code = models.PositiveSmallIntegerField(null=True)
    milliseconds = models.PositiveIntegerField()
    detail = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["call", "-id"], name="suppliercall_by_call"),
            models.Index(fields=["at"], name="suppliercall_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.call}: {self.outcome}"


class GateQuerySet(models.QuerySet["SupplierGate"]):
    """Moves of gates. Each is one UPDATE of the rows that still are as the filter says, so none undoes another's."""

    def pause(self, *, reason: str, probe_at: Any) -> int:
        """Pause the gates that are open; one that somebody stopped stays stopped."""
        return self.filter(status=GateStatus.OPEN).update(
            status=GateStatus.PAUSED,
            reason=reason,
            probe_at=probe_at,
            changed_at=Now(),
        )

    def stop(self, *, reason: str) -> int:
        return self.update(status=GateStatus.STOPPED, reason=reason, changed_at=Now())

    def open(self) -> int:
        return self.update(status=GateStatus.OPEN, reason="", failures=0, changed_at=Now())


class SupplierGate(models.Model):
    """One row per supplier host: whether purchases may be sent there at all."""

    Status = GateStatus

    host = models.CharField(primary_key=True, max_length=200)
    status = models.CharField(max_length=8, choices=GateStatus.choices, default=Status.OPEN)
    reason = models.CharField(max_length=200, blank=True)
    failures = models.PositiveIntegerField(default=0)
    probe_at = models.DateTimeField(null=True, blank=True, help_text="When a paused gate is tried by a read.")
    balance = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True, help_text="EUR, last read.")
    changed_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = GateQuerySet.as_manager()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(status__in=GateStatus.values), name="gate_status_known")]
        permissions = [("stop_gate", "May stop all purchases"), ("open_gate", "May let purchases leave again")]

    def __str__(self) -> str:
        return f"{self.host}: {self.status}"


class SupplierStock(models.Model):
    """What the supplier last said of a product: looked at before anybody pays. The purchase itself asks again."""

    product = models.OneToOneField(Product, primary_key=True, on_delete=models.CASCADE, related_name="supplier_stock")
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True, help_text="EUR; none if it is sold out.")
    quantity = models.PositiveIntegerField(default=0)
    text_quantity = models.PositiveIntegerField(default=0, help_text="How many of them are text.")
    asked_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(null=True, help_text="When the supplier last gave a usable answer.")
    due_at = models.DateTimeField(db_default=Now(), help_text="When it is looked at next.")
    gone_since = models.DateTimeField(null=True, help_text="Since when the supplier does not know the product.")

    class Meta:
        permissions = [("import_product", "May search the supplier's catalogue and import products")]

    def __str__(self) -> str:
        return f"{self.quantity} of {self.product}"


class PriceRule(models.Model):
    """How prices follow from what the supplier asks: for one platform, or for all that have no rule of their own."""

    class Ending(models.TextChoices):
        EXACT = "exact", "to the cent"
        NINETY_NINE = "99", "up to .99"

    name = models.CharField(max_length=60, unique=True)
    platform = models.CharField(
        max_length=40, blank=True, unique=True, help_text="As the products have it; none for all the others."
    )
    margin = models.DecimalField(
        max_digits=6, decimal_places=2, validators=[MinValueValidator(0), MaxValueValidator(1000)],
        help_text="Percent of what the supplier asks, added to it.",
    )  # fmt: skip
    least_margin = models.DecimalField(
        max_digits=8, decimal_places=2, default=0, validators=[MinValueValidator(0)],
        help_text="What has to be left per key, EUR, whatever the percentage; so does the product's own minimum.",
    )  # fmt: skip
    ending = models.CharField(max_length=8, choices=Ending.choices, default=Ending.NINETY_NINE)
    floor = models.DecimalField(
        max_digits=10, decimal_places=2, null=True, blank=True, validators=[MinValueValidator(Decimal("0.01"))],
        help_text="No price below this, EUR.",
    )  # fmt: skip
    cap = models.DecimalField(
        max_digits=10, decimal_places=2, null=True, blank=True, validators=[MinValueValidator(Decimal("0.01"))],
        help_text="No price above this, EUR. Where it leaves less than the least margin, the price stays as it is.",
    )  # fmt: skip
    is_automatic = models.BooleanField(
        "automatic", default=False, help_text="Change prices with every look at the supplier, without asking anybody."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["platform", "name"]
        permissions = [("apply_pricerule", "May change prices by a rule")]
        constraints = [
            models.CheckConstraint(condition=Q(margin__gte=0) & Q(least_margin__gte=0), name="pricerule_no_loss"),
            models.CheckConstraint(
                condition=Q(cap=None) | Q(floor=None) | Q(cap__gte=F("floor")), name="pricerule_floor_below_cap"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.floor is not None and self.cap is not None and self.floor > self.cap:
            raise ValidationError({"floor": "This is more than the cap."})


class PriceChange(models.Model):
    """A price that changed: who or which rule did it, and what the supplier asked then. Orders keep their prices."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="price_changes")
    at = models.DateTimeField(db_default=Now(), editable=False)
    actor = models.CharField(max_length=150, help_text="Who changed it; “automatic” is a look at the supplier.")
    rule = models.CharField(max_length=60, blank=True, help_text="The name that the rule had.")
    old_price = models.DecimalField(max_digits=10, decimal_places=2, null=True)
    new_price = models.DecimalField(max_digits=10, decimal_places=2)
    cost = models.DecimalField(max_digits=10, decimal_places=2, null=True, help_text="EUR, last said by the supplier.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.product}: {self.old_price} to {self.new_price}"


class ForeignPurchase(models.Model):
    """An order at the supplier that matches none of our rows; staff dealt with it, and `reconcile` skips it."""

    supplier_order_id = models.CharField(max_length=64, primary_key=True)
    external_id = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=300)
    acknowledged_by = models.CharField(max_length=150)
    acknowledged_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-acknowledged_at"]

    def __str__(self) -> str:
        return f"purchase {self.supplier_order_id}"

import uuid
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Coalesce, Now, Upper

from bitloot.core.choices import StatusChoices, Tone
from bitloot.core.queue import QueueManager, QueueRow
from orders.models import Order, OrderItem
from orders.state import StatusRow
from storage.sealing import Binding, Sealed, WrappedKey


class KeyStatus(StatusChoices):
    RECEIVED = "received", Tone.BUSY
    STORED = "stored", Tone.GOOD
    SHREDDED = "shredded"


class Key(StatusRow, QueueRow):
    """One licence key, sealed. The clear text is in no column of any table."""

    Status = KeyStatus

    TIMELINE_KIND = "key"
    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        # Shredding is possible from everywhere: it does not wait for an upload.
        Status.RECEIVED: frozenset({"stored", "shredded"}),
        Status.STORED: frozenset({"shredded"}),
        Status.SHREDDED: frozenset(),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    item = models.ForeignKey(OrderItem, on_delete=models.PROTECT, related_name="keys")
    supplier_key_id = models.CharField(max_length=128, unique=True, editable=False)
    # It outlives the key itself: what was sold once must never be sold again.
    fingerprint = models.CharField(
        max_length=64, unique=True, editable=False, help_text="Keyed: the same code twice is noticed."
    )
    replaces = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="replaced_by", editable=False
    )
    status = models.CharField(max_length=10, choices=KeyStatus.choices, default=Status.RECEIVED, editable=False)
    content_type = models.CharField(max_length=40, editable=False)
    object_name = models.CharField(max_length=80, unique=True, editable=False)
    ciphertext = models.BinaryField(null=True, editable=False, help_text="Until R2 was read back and opened.")
    ciphertext_sha256 = models.CharField(max_length=64, editable=False)
    nonce = models.BinaryField(editable=False)
    wrapped_data_key = models.BinaryField(null=True, editable=False)
    master_key_id = models.CharField(max_length=16, editable=False, db_index=True)
    environment = models.CharField(max_length=40, editable=False)
    format_version = models.PositiveSmallIntegerField(default=1, editable=False)
    received_at = models.DateTimeField(db_default=Now(), editable=False)
    stored_at = models.DateTimeField(null=True, blank=True, editable=False)
    viewed_at = models.DateTimeField(null=True, blank=True, editable=False)
    shredded_at = models.DateTimeField(null=True, blank=True, editable=False)
    error = models.CharField(max_length=300, blank=True, editable=False)

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        ordering = ["received_at", "id"]
        permissions = [("shred_key", "May shred a key for good")]
        indexes = [
            *QueueRow.Meta.indexes,
            models.Index(fields=["-received_at"], name="key_newest"),
            models.Index(fields=["status", "-received_at"], name="key_by_status"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=KeyStatus.values), name="key_status_known"),
            models.CheckConstraint(
                condition=Q(status="shredded") | Q(wrapped_data_key__isnull=False), name="key_openable_until_shredded"
            ),
            models.CheckConstraint(
                condition=~Q(status="received") | Q(ciphertext__isnull=False), name="key_ciphertext_until_stored"
            ),
            models.CheckConstraint(
                condition=~Q(status="shredded") | Q(wrapped_data_key__isnull=True, ciphertext__isnull=True),
                name="key_gone_once_shredded",
            ),
        ]

    def __str__(self) -> str:
        return f"key {self.id}"

    @property
    def binding(self) -> Binding:
        return Binding(
            environment=self.environment,
            order=str(self.item.order_id),
            item=str(self.item_id),
            key=str(self.id),
            content_type=self.content_type,
            version=self.format_version,
        )

    @property
    def wrapped(self) -> WrappedKey:
        return WrappedKey(bytes(self.wrapped_data_key or b""), self.master_key_id)

    def sealed(self, ciphertext: bytes) -> Sealed:
        """Return the key as it opens with this ciphertext, wherever that was read."""
        return Sealed(ciphertext, bytes(self.nonce), self.wrapped)

    @property
    def timeline_order_id(self) -> uuid.UUID:
        return self.item.order_id

    @property
    def order(self) -> Order:
        return self.item.order


class DeliveryQuerySet(models.QuerySet["KeyDeliveryLog"]):
    def openable(self) -> Self:
        """The deliveries whose key the customer may open: neither destroyed nor past their retention."""
        return self.filter(status__in=KeyDeliveryLog.OPENABLE, expires_at__gt=Now())

    def count_access(self) -> int:
        """Record that these keys are handed out; return how many could be."""
        # One UPDATE whose condition is `openable`: a key that is destroyed at this moment is not counted, and the
        # caller sees that by the number.
        Status = KeyDeliveryLog.Status
        # What a browser once opened stays “opened” when it is handed out again.
        handed_out = Case(When(status=Status.OPENED, then=Value(Status.OPENED)), default=Value(Status.HANDED_OUT))
        return self.openable().update(status=handed_out, last_accessed_at=Now(), times_accessed=F("times_accessed") + 1)

    def record_opened(self) -> int:
        """Record that the customer's browser opened these keys."""
        opened = Coalesce("opened_at", Now())
        return self.openable().update(status=KeyDeliveryLog.Status.OPENED, opened_at=opened)

    def end(self, status: str) -> int:
        """Record that these keys were destroyed: `expired` or `deleted`."""
        return self.update(status=status)


class KeyDeliveryLog(models.Model):
    """Who may open a key until when, and when it was last opened. One row per key."""

    class Status(StatusChoices):
        STORED = "stored", Tone.GOOD
        HANDED_OUT = "handed_out", Tone.BUSY
        OPENED = "opened", Tone.GOOD
        EXPIRED = "expired"
        DELETED = "deleted"

    HANDED_OUT = (Status.HANDED_OUT, Status.OPENED)
    OPENABLE = (Status.STORED, *HANDED_OUT)

    key = models.OneToOneField(Key, on_delete=models.PROTECT, related_name="delivery")
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="deliveries")
    customer_email = models.EmailField(max_length=254)
    object_key = models.CharField(max_length=80)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.STORED, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(help_text="End of the retention.")
    last_accessed_at = models.DateTimeField(null=True, blank=True, editable=False)
    times_accessed = models.PositiveIntegerField(default=0, editable=False)
    opened_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When the customer's page first reported that it opened."
    )
    trouble_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When a browser last reported that it could not download."
    )

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["order", "status"], name="delivery_by_order"),
            models.Index(fields=["expires_at"], name="delivery_by_expiry"),
            models.Index(fields=["-created_at"], name="delivery_newest"),
            models.Index(fields=["status", "-created_at"], name="delivery_by_status"),
            models.Index(Upper("customer_email"), name="delivery_by_address"),
        ]

    def __str__(self) -> str:
        return f"delivery of {self.object_key}"


class KeyAccess(models.Model):
    """One opening of one key: when, with which link, from where. Never changed; retention and erasure end it."""

    id = models.BigAutoField(primary_key=True)
    key = models.ForeignKey(Key, on_delete=models.PROTECT, related_name="accesses", editable=False)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="key_accesses", editable=False)
    at = models.DateTimeField(db_default=Now(), editable=False)
    token = models.CharField(
        max_length=4,
        editable=False,
        help_text="A mailed link (mail), a page or program (api), or the order's API key (key)",
    )
    generation = models.PositiveIntegerField(editable=False, help_text="Of the order's links; closing them raises it.")
    network = models.CharField(max_length=50, editable=False, help_text="The network of the client's address.")
    agent = models.CharField(max_length=200, blank=True, editable=False, help_text="As the client names itself.")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "key accesses"
        indexes = [models.Index(fields=["key", "at"], name="access_by_key")]

    def __str__(self) -> str:
        return f"key {self.key_id} opened at {self.at:%Y-%m-%d %H:%M}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("a key access is evidence: it is not changed")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("a key access is evidence: it is not deleted")

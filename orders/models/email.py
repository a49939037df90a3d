from typing import ClassVar

from django.db import models
from django.db.models.functions import Now, Upper

from bitloot.core.choices import StatusChoices, Tone
from bitloot.core.queue import QueueManager, QueueRow
from orders.choices import OrderStatus
from orders.models.order import Order


class Email(QueueRow):
    """A mail that is owed to somebody. It is rendered when it is sent, so no link is ever stored."""

    class Status(StatusChoices):
        QUEUED = "queued", Tone.BUSY
        SENDING = "sending", Tone.BUSY
        SENT = "sent", Tone.GOOD
        OVERTAKEN = "overtaken"  # no longer true when its turn came, so it was never sent
        FAILED = "failed", Tone.BAD

    class Kind(models.TextChoices):
        """One for each fact; each has a template in templates/orders/email and a sample in orders.mail_samples."""

        ORDER_RECEIVED = "order_received"
        PAYMENT_SEEN = "payment_seen"
        PAYMENT_RECEIVED = "payment_received"
        PAYMENT_CHECKED = "payment_checked", "Payment is checked"
        UNDERPAID = "underpaid"
        OVERPAID = "overpaid"
        COINS_RETURNED = "coins_returned"
        EXPIRED = "expired"
        CANCELLED = "cancelled"
        DELAYED = "delayed"
        KEY_READY = "key_ready"
        PARTLY_READY = "partly_ready"
        PARTLY_UNDELIVERED = "partly_undelivered"
        KEY_OPENED = "key_opened"
        KEY_REPLACED = "key_replaced"
        REFUND_ASKED = "refund_asked"
        REFUND_ADDRESS = "refund_address"
        REFUND_SENT = "refund_sent"
        REFUND_ARRIVED = "refund_arrived"
        FRESH_LINK = "fresh_link"
        ADDRESS_CORRECTED = "address_corrected"
        ADDRESS_REPLACED = "address_replaced"
        ACCESS_CODE = "access_code"
        YOUR_ORDERS = "your_orders"
        ALERT = "alert"
        STAFF_NOTICE = "staff_notice"
        PARTNER_NOTICE = "partner_notice", "Webhooks switched off"

    # All others go to the address that their order has when they are sent, and link to it.
    WITHOUT_LINK = (Kind.ALERT, Kind.ADDRESS_REPLACED, Kind.YOUR_ORDERS, Kind.STAFF_NOTICE, Kind.PARTNER_NOTICE)
    TO_STAFF = (Kind.ALERT, Kind.STAFF_NOTICE)
    IN_ENGLISH = (Kind.ALERT, Kind.STAFF_NOTICE, Kind.PARTNER_NOTICE)  # to staff, and to those who build on the API
    # What is true only for a while: not sent once the order is in one of these.
    OVERTAKEN_BY: ClassVar[dict[str, frozenset[str]]] = {
        Kind.PAYMENT_SEEN: frozenset(OrderStatus.values) - {"pending", "underpaid", "expired"},
        Kind.PAYMENT_CHECKED: frozenset(OrderStatus.values) - {"held"},
        Kind.UNDERPAID: frozenset(OrderStatus.values) - {"underpaid"},
        Kind.EXPIRED: frozenset(OrderStatus.values) - {"expired"},
        Kind.PARTLY_READY: frozenset(OrderStatus.values) - {"partially_fulfilled"},
        # Not by every other one: between two tries to buy the key the order is not held for a moment.
        Kind.DELAYED: frozenset({"fulfilled", "refund_due", "refunded", "cancelled"}),
    }

    order = models.ForeignKey(Order, null=True, blank=True, on_delete=models.PROTECT, related_name="emails")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    to = models.EmailField(max_length=254)
    reason = models.CharField(max_length=300, blank=True, help_text="An alert's sentence for staff.")
    facts = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),  # for the statements that owe a mail without a model
        blank=True,
        editable=False,
        help_text="What the template says, as it was when the mail was owed.",
    )
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED, editable=False)
    alert = models.ForeignKey(
        "Alert", null=True, blank=True, on_delete=models.PROTECT, related_name="emails", editable=False
    )
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        ordering = ["-id"]
        permissions = [("resend_email", "May send a mail once more")]
        indexes = [
            *QueueRow.Meta.indexes,
            models.Index(fields=["status", "-id"], name="email_by_status"),
            models.Index(fields=["kind", "-id"], name="email_by_kind"),
            models.Index(fields=["-created_at"], name="email_newest"),
            models.Index(Upper("to"), name="email_by_address"),
        ]

    def __str__(self) -> str:
        return f"“{self.title}” to {self.to}"

    @property
    def title(self) -> str:
        return self.get_kind_display().capitalize()

    @property
    def is_overtaken(self) -> bool:
        if self.alert is not None and self.facts.get("again"):
            return self.alert.status == "closed"
        if self.facts.get("ended"):  # true of an order that is over, until its refund asks for an address
            return self.order is not None and self.order.status == "refund_due"
        return self.order is not None and self.order.status in self.OVERTAKEN_BY.get(self.kind, ())

    # Both end the claim and set the status in one statement that demands the claim's token: a worker that lost its
    # lease while the mail server was slow records nothing over the one that took the mail up again.
    def mark_sent(self) -> None:
        """Record that the mail server took it. Raises LeaseLost."""
        self.release(None, status=self.Status.SENT, sent_at=Now(), error="")

    def mark_overtaken(self) -> None:
        """Record that it is no longer true and was not sent. Raises LeaseLost."""
        self.release(None, status=self.Status.OVERTAKEN, error="")

    def mark_failed(self, *, error: str) -> None:
        """Record that it will not be sent. Raises LeaseLost."""
        self.release(None, status=self.Status.FAILED, error=error[:300])

    def mark_queued_again(self) -> bool:
        """Make a mail that was sent or failed due as if it were new. Return False if it is not one of those."""
        ended = {"pk": self.pk, "status__in": (self.Status.SENT, self.Status.FAILED), "claim_token": None}
        fields = {"status": self.Status.QUEUED, "attempts": 0, "crashes": 0, "error": "", "next_attempt_at": Now()}
        # Compare-and-set: of two who press the button at once only one owes the reader another mail.
        return Email.objects.filter(**ended).update(**fields) == 1

import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django.apps import apps
from django.conf import settings
from django.contrib.admin.utils import quote
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now, Upper
from django.urls import NoReverseMatch, reverse

from bitloot.core import queries
from bitloot.core.choices import StatusChoices, Tone
from bitloot.core.queue import QueueManager, QueueRow
from orders.choices import AlertKind, ApprovalStatus, OrderReason, OrderStatus
from orders.signals import order_paid, order_refund_due
from orders.state import OrderEvent, StatusRow, Step, one_transaction

MAX_QUANTITY = 9  # the supplier's limit per offer
MAX_LINES = 10  # and per order
PAYABLE_FOR = timedelta(hours=24)
CODE_LIVES_FOR = timedelta(minutes=15)


class Product(models.Model):
    class KeyType(models.TextChoices):
        TEXT = "text"
        IMAGE = "image"
        ANY = "any"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.SlugField(unique=True, max_length=80)
    title = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    platform = models.CharField(max_length=40, blank=True)
    region = models.CharField(max_length=40, blank=True, default="Region free")
    activation = models.TextField(blank=True, help_text="How the customer redeems the key.")
    cover = models.CharField(max_length=200, blank=True, help_text="Path of the picture under static/.")
    price = models.DecimalField(max_digits=10, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))])
    currency = models.CharField(max_length=3, default="EUR")
    key_type = models.CharField(max_length=8, choices=KeyType.choices, default=KeyType.TEXT)
    supplier_product_id = models.CharField(max_length=64, help_text="Kinguin's productId.")
    supplier_offer_id = models.CharField(max_length=64, blank=True, help_text="Needed by the `orders` dialect only.")
    max_cost = models.DecimalField(
        max_digits=10,
        decimal_places=2,
        validators=[MinValueValidator(Decimal("0.01"))],
        help_text="The most we pay the supplier per key, EUR. A dearer offer holds the order.",
    )
    min_margin = models.DecimalField(
        max_digits=10,
        decimal_places=2,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0))],
        help_text="What has to be left of the customer's price per key, EUR. Less holds the order.",
    )
    stock_wait_hours = models.PositiveSmallIntegerField(
        default=24, help_text="How long a paid order waits for stock or a better price before its money is owed back."
    )
    is_active = models.BooleanField(default=True, db_index=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["title"]
        constraints = [
            models.CheckConstraint(condition=Q(price__gt=0), name="product_price_positive"),
            models.CheckConstraint(condition=Q(max_cost__gt=0), name="product_max_cost_positive"),
        ]

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        if self.price is not None and self.max_cost is not None and self.max_cost > self.price:
            raise ValidationError({"max_cost": "This is more than the price: every such key would be sold at a loss."})


class Order(StatusRow):
    Status = OrderStatus
    TIMELINE_KIND = "order"
    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        Status.PENDING: frozenset({"underpaid", "paid", "expired", "cancelled", "held", "refund_due"}),
        Status.UNDERPAID: frozenset({"paid", "expired", "cancelled", "held", "refund_due"}),
        Status.PAID: frozenset({"fulfilling", "fulfilled", "held", "refund_due", "failed"}),
        Status.FULFILLING: frozenset({"fulfilled", "partially_fulfilled", "held", "refund_due", "failed"}),
        Status.PARTIALLY_FULFILLED: frozenset({"fulfilling", "fulfilled", "held", "refund_due"}),
        Status.HELD: frozenset(
            {
                "pending",
                "paid",
                "fulfilling",
                "fulfilled",
                "partially_fulfilled",
                "refund_due",
                "failed",
                "cancelled",
                "expired",
            }
        ),
        # Money can still arrive for an order that was given up.
        Status.EXPIRED: frozenset({"paid", "underpaid", "held", "refund_due"}),
        Status.CANCELLED: frozenset({"held", "refund_due"}),
        Status.FAILED: frozenset({"held", "refund_due"}),
        # Keys that were handed out cannot come back, so no refund moves a delivered order.
        Status.FULFILLED: frozenset(),
        Status.REFUND_DUE: frozenset({"refunded", "held"}),
        Status.REFUNDED: frozenset(),
    }
    # The word for fulfilment in the customer's API.
    FULFILLMENT_WORD: dict[str, str] = {
        Status.PENDING: "pending",
        Status.UNDERPAID: "pending",
        Status.PAID: "processing",
        Status.FULFILLING: "processing",
        Status.HELD: "processing",
        Status.PARTIALLY_FULFILLED: "processing",
        Status.FULFILLED: "fulfilled",
    }
    CUSTOMER_ERRORS: dict[str, str] = {
        Status.HELD: "Our staff are looking at this order. You don't need to do anything: we'll write to you.",
        Status.FAILED: "We could not get this key. Our staff will write to you about your money.",
        Status.EXPIRED: "This order was not paid in time. Place a new one; if you did pay, write to us.",
        Status.CANCELLED: "This order was cancelled. Place a new one if you still want the key.",
        Status.REFUND_DUE: "We could not deliver this order and will return your money. Our staff will write to you.",
        Status.REFUNDED: "Your money for this order was sent back.",
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(max_length=254)
    status = models.CharField(max_length=20, choices=OrderStatus.choices, default=Status.PENDING, editable=False)
    reason = models.CharField(max_length=64, blank=True, editable=False, help_text="Why the order is where it is.")
    total = models.DecimalField(max_digits=10, decimal_places=2, editable=False)
    currency = models.CharField(max_length=3, editable=False)
    language = models.CharField(
        max_length=7, default=settings.LANGUAGE_CODE, editable=False, help_text="What its mails are written in."
    )
    link_generation = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(db_default=Now() + PAYABLE_FOR, editable=False)
    paid_at = models.DateTimeField(null=True, blank=True, editable=False)
    fulfilled_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(total__gt=0), name="order_total_positive"),
            models.CheckConstraint(condition=Q(status__in=OrderStatus.values), name="order_status_known"),
        ]
        indexes = [
            models.Index(fields=["-created_at"], name="order_newest"),
            models.Index(fields=["status", "-created_at"], name="order_by_status"),
            # For the limit of unpaid orders. Not partial by status: the plan of a prepared statement could not use it.
            models.Index(Upper("email"), "created_at", name="order_by_email"),
            models.Index(fields=["expires_at"], name="order_unpaid", condition=Q(status__in=["pending", "underpaid"])),
        ]
        permissions = [
            ("hold_order", "May hold an order"),
            ("release_order", "May let an order continue that staff held"),
            ("cancel_order", "May cancel an order for which no money came"),
            ("refund_order", "May decide that an order's money goes back"),
            ("deliver_order", "May deliver typed codes"),
            ("renew_link", "May mail a fresh link, which ends the older ones"),
            ("correct_email", "May correct the e-mail address of an order"),
        ]

    def __str__(self) -> str:
        return f"order {self.id}"

    @property
    def timeline_order_id(self) -> uuid.UUID:
        return self.pk

    @property
    def is_without_money(self) -> bool:
        """Whether the payment went back on its own, so that nothing may be handed out until staff decide."""
        return self.status == self.Status.HELD and self.reason == OrderReason.PAYMENT_REFUNDED

    @property
    def fulfillment_word(self) -> str:
        return self.FULFILLMENT_WORD.get(self.status, "failed")

    @property
    def customer_error(self) -> str | None:
        """Return a sentence for the customer whenever the order failed or waits for staff."""
        return self.CUSTOMER_ERRORS.get(self.status)

    @property
    def masked_email(self) -> str:
        name, _, host = self.email.partition("@")
        return f"{name[:1]}…@{host}"

    @property
    def product_names(self) -> str:
        """Name what was ordered. Lists read the items before, for all their orders."""
        return ", ".join(str(item) if item.quantity > 1 else item.title for item in self.items.all())

    def lock(self) -> "Order":
        """Return this order, locked until the transaction ends: the first lock anybody takes (Order, Payment, …)."""
        return queries.get(Order, self.pk, lock=True)

    def note(self, kind: str, message: str, *, actor: str = "") -> None:
        """Add a line to the timeline that changes no status."""
        queries.insert(OrderEvent(order=self, kind=kind, message=message, actor=actor))

    def mark_paid(self, *, message: str, actor: str = "") -> bool:
        """Record full payment and tell the upper apps. Return False if the order was already paid."""
        with one_transaction():
            changed = self.move(self.Status.PAID, message=message, actor=actor, reason="", paid_at=Now())
            # Inside the transaction: a paid order without the rows that its receivers open would never be delivered.
            if changed:
                order_paid.send(sender=Order, order=self)
        return changed

    def mark_underpaid(self, *, message: str) -> bool:
        return self.move(self.Status.UNDERPAID, message=message)

    def mark_fulfilling(self) -> bool:
        return self.move(self.Status.FULFILLING, message="The key is being bought.", reason="")

    def mark_partially_fulfilled(self, *, message: str) -> bool:
        return self.move(self.Status.PARTIALLY_FULFILLED, message=message)

    def mark_fulfilled(self) -> bool:
        return self.move(
            self.Status.FULFILLED, message="Every key of this order is ready.", reason="", fulfilled_at=Now()
        )

    def hold(self, *, reason: str, message: str, actor: str = "") -> bool:
        """Stop the order until staff decide. Return False if it is held already."""
        return self.move(self.Status.HELD, message=message, reason=reason, actor=actor)

    def hold_unpaid(self, *, message: str) -> None:
        """Hold the order because its money went back; a held one waits for that from now on, and for nothing else."""
        with transaction.atomic():
            if not self.hold(reason=OrderReason.PAYMENT_REFUNDED, message=message):
                Order.objects.filter(pk=self.pk, status=self.Status.HELD).update(reason=OrderReason.PAYMENT_REFUNDED)
                self.note("order", message)
                self.refresh_from_db()

    def undo_hold(self, *, to: str, actor: str) -> bool:
        """Let an unpaid order be paid again, with as much time as a new one."""
        message = "Our staff let this order be paid again."
        # An underpaid one passes through PENDING: with a direct way back, a part that arrives would end a hold.
        via = Step(self.Status.PENDING, message) if to == self.Status.UNDERPAID else None
        return self.move(to, message=message, via=via, reason="", actor=actor, expires_at=Now() + PAYABLE_FOR)

    def expire(self) -> bool:
        return self.move(self.Status.EXPIRED, message="Nobody paid in time.", reason=OrderReason.UNPAID)

    def cancel(self, *, message: str, actor: str = "") -> bool:
        return self.move(self.Status.CANCELLED, message=message, reason=OrderReason.CANCELLED, actor=actor)

    def fail(self, *, reason: str, message: str) -> bool:
        return self.move(self.Status.FAILED, message=message, reason=reason)

    def mark_refund_due(self, *, reason: str, message: str, actor: str = "") -> bool:
        """Record that the customer's money is owed back, and tell the upper apps."""
        with one_transaction():
            changed = self.move(self.Status.REFUND_DUE, message=message, reason=reason, actor=actor)
            if changed:
                order_refund_due.send(sender=Order, order=self)
        return changed

    def mark_refunded(self, *, message: str, actor: str = "") -> bool:
        return self.move(self.Status.REFUNDED, message=message, reason="", actor=actor)


class OrderItem(models.Model):
    """One product of an order; a key per unit is bought for it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="items")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="+")
    title = models.CharField(max_length=120)
    quantity = models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(MAX_QUANTITY)])
    unit_price = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        ordering = ["title"]
        constraints = [
            models.UniqueConstraint(fields=["order", "product"], name="orderitem_product_once"),
            models.CheckConstraint(
                condition=Q(quantity__gte=1) & Q(quantity__lte=MAX_QUANTITY), name="orderitem_quantity"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.title}"


class IdempotencyRecord(models.Model):
    """What an Idempotency-Key was used for: route and key name the first body, and the row it made."""

    route = models.CharField(max_length=40)
    key = models.CharField(max_length=64, help_text="A keyed digest: the key itself would bring the order's token.")
    body_sha256 = models.CharField(max_length=64)
    object_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["route", "key"], name="idempotency_once")]

    def __str__(self) -> str:
        return f"{self.route} {self.key[:4]}…"


class AccessCode(models.Model):
    """A one-time code that brings the order's token. The code itself is derived from the row, see orders.codes."""

    class Kind(models.TextChoices):
        HAND_OVER = "hand_over", "Handed over by the checkout"
        MAIL = "mail", "Mailed to the customer"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="access_codes", editable=False)
    kind = models.CharField(max_length=10, choices=Kind.choices, editable=False)
    tries = models.PositiveSmallIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(db_default=Now(), db_index=True, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="Used, or replaced.")

    def __str__(self) -> str:
        return f"{self.get_kind_display()} for {self.order_id}"

    @property
    def expires_at(self) -> datetime:
        return self.created_at + CODE_LIVES_FOR


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

    # All others go to the address that their order has when they are sent, and link to it.
    WITHOUT_LINK = (Kind.ALERT, Kind.ADDRESS_REPLACED, Kind.YOUR_ORDERS, Kind.STAFF_NOTICE)
    TO_STAFF = (Kind.ALERT, Kind.STAFF_NOTICE)  # in English
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

    def __str__(self) -> str:
        return f"{self.kind} to {self.to}"

    @property
    def is_overtaken(self) -> bool:
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


class Alert(models.Model):
    """Something that staff have to look at: one open row per kind and thing it is about, however often it happens."""

    class Status(StatusChoices):
        OPEN = "open", Tone.BAD
        CLOSED = "closed"

    kind = models.CharField(max_length=40, choices=AlertKind.choices)
    about_model = models.CharField(
        max_length=60, blank=True, help_text="The model of the row it is about, as in payments.payment; or nothing."
    )
    about_pk = models.CharField(max_length=200, help_text="That row's id; without a row, a name such as object store.")
    order = models.ForeignKey(Order, null=True, blank=True, on_delete=models.PROTECT, related_name="alerts")
    message = models.CharField(max_length=500)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.OPEN)
    times = models.PositiveIntegerField(default=1)
    opened_at = models.DateTimeField(db_default=Now(), editable=False)
    last_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)
    closed_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["status", "-last_at"]
        permissions = [("close_alert", "May close an alert")]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "about_model", "about_pk"], condition=Q(status="open"), name="alert_open_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.about}"

    @property
    def about(self) -> str:
        """What it is about, in words; the row itself is not read."""
        if not self.about_model:
            return self.about_pk
        return f"{apps.get_model(self.about_model)._meta.verbose_name} {self.about_pk}"

    @property
    def about_path(self) -> str:
        """The admin page of the row it is about, or "" where there is none."""
        if not self.about_model:
            return ""
        page = self.about_model.replace(".", "_")
        try:
            return reverse(f"admin:{page}_change", args=[quote(self.about_pk)])
        except NoReverseMatch:
            return ""

    @staticmethod
    def key_of(about: models.Model | str) -> dict[str, str]:
        """Return the columns that name what an alert is about: a row, or a well-known name where there is no row.

        Model and primary key never change, unlike the row's name: a payment is renamed when the provider's id arrives.
        """
        if isinstance(about, str):
            return {"about_model": "", "about_pk": about}
        return {"about_model": about._meta.label_lower, "about_pk": str(about.pk)}

    def close(self, *, by: str) -> bool:
        """Close this alert. Return False if it was closed before."""
        return self._close({"pk": self.pk}, by) == 1

    @classmethod
    def close_open(cls, kind: str, about: models.Model | str, *, by: str) -> int:
        """Close the open alert of this kind about this row or name; return how many were open."""
        return cls._close({"kind": kind, **cls.key_of(about)}, by)

    @classmethod
    def _close(cls, which: dict[str, Any], by: str) -> int:
        # Compare-and-set on OPEN: of two that close it the second neither counts nor renames who closed it.
        is_open = {**which, "status": cls.Status.OPEN}
        return queries.update(cls, is_open, {"status": cls.Status.CLOSED, "closed_at": Now(), "closed_by": by})


class Approval(StatusRow):
    """A decision that one member of staff asked for and another one has to approve before it is carried out."""

    Status = ApprovalStatus
    TIMELINE_KIND = "staff"
    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        Status.WAITING: frozenset({"approved", "declined"}),
        Status.APPROVED: frozenset(),
        Status.DECLINED: frozenset(),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="approvals")
    about_model = models.CharField(max_length=60, help_text="The model of the row it is about, as in payments.payment.")
    about_pk = models.CharField(max_length=40)
    decision = models.CharField(max_length=40, help_text="The decision's name on that row's page.")
    label = models.CharField(max_length=80)
    fields = models.JSONField(default=dict, help_text="What was typed into the decision's form.")
    digest = models.CharField(max_length=64, help_text="Stands for all facts that the form showed.")
    status = models.CharField(max_length=10, choices=ApprovalStatus.choices, default=Status.WAITING, editable=False)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(db_default=Now(), editable=False)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    approved_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-requested_at"]
        permissions = [
            ("approve_decision", "May approve what another member of staff has asked for"),
            ("decline_decision", "May decline what another member of staff has asked for"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["about_model", "about_pk", "decision"],
                condition=Q(status="waiting"),
                name="approval_waits_once",
            ),
            models.CheckConstraint(condition=Q(status__in=ApprovalStatus.values), name="approval_status_known"),
            models.CheckConstraint(
                condition=~Q(approved_by=models.F("requested_by")) | Q(approved_by__isnull=True),
                name="approval_by_another",
            ),
            models.CheckConstraint(
                condition=~Q(status="approved") | Q(approved_by__isnull=False, approved_at__isnull=False),
                name="approval_names_its_approver",
            ),
        ]

    def __str__(self) -> str:
        return f"approval of “{self.label}”"

    @property
    def timeline_order_id(self) -> uuid.UUID:
        return self.order_id

    @property
    def about(self) -> models.Model:
        """The row that the decision is about, as it is now."""
        return apps.get_model(self.about_model)._default_manager.get(pk=self.about_pk)


class Notification(QueueRow):
    """An alert that is owed to one channel of ALERT_URL."""

    class Status(StatusChoices):
        QUEUED = "queued", Tone.BUSY
        SENT = "sent", Tone.GOOD
        FAILED = "failed", Tone.BAD

    alert = models.ForeignKey(Alert, on_delete=models.PROTECT, related_name="notifications")
    channel = models.CharField(max_length=60, help_text="The service and a mark; the URL itself holds secrets.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED, editable=False)
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["alert", "channel"], name="notification_once")]

    def __str__(self) -> str:
        return f"{self.alert} to {self.channel}"

    # As with Email: the statement that ends the claim demands its token.
    def mark_sent(self) -> None:
        """Record that the service took it. Raises LeaseLost."""
        self.release(None, status=self.Status.SENT, sent_at=Now(), error="")

    def mark_failed(self, *, error: str) -> None:
        """Record that it will not be sent. Raises LeaseLost."""
        self.release(None, status=self.Status.FAILED, error=error[:300])


class AlertChannel(models.Model):
    """When an alert last arrived somewhere, and what went wrong since: a silent channel looks like a calm shop."""

    name = models.CharField(max_length=280, primary_key=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    failed_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True, help_text="Empty once something arrived again.")

    def __str__(self) -> str:
        return self.name

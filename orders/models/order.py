import uuid
from datetime import datetime, timedelta
from functools import partial
from typing import ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now, Upper
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop
from prometheus_client import Histogram

from bitloot.core import queries
from bitloot.core.clock import Later
from bitloot.core.sentences import Words, phrase_of
from orders.choices import OrderReason, OrderStatus
from orders.models.product import MAX_QUANTITY, Product
from orders.signals import order_moved, order_paid, order_refund_due
from orders.state import OrderEvent, StatusRow, Step, one_transaction

PAYABLE_FOR = timedelta(hours=24)
CODE_LIVES_FOR = timedelta(minutes=15)
delivery_seconds = Histogram(
    "bitloot_delivery_seconds",
    "From the payment of an order to its last key",
    buckets=(5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400),
)


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
    CUSTOMER_ERRORS: dict[str, Words] = {
        Status.HELD: _("Our staff are looking at this order. You don't need to do anything: we'll write to you."),
        Status.FAILED: _("We could not get this key. Our staff will write to you about your money."),
        Status.EXPIRED: _("This order was not paid in time. Place a new one; if you did pay, write to us."),
        Status.CANCELLED: _("This order was cancelled. Place a new one if you still want the key."),
        Status.REFUND_DUE: _(
            "We could not deliver this order and will return your money. Our staff will write to you."
        ),
        Status.REFUNDED: _("Your money for this order was sent back."),
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
    # No foreign key: the room that keeps API keys lies above this one, and never deletes one.
    placed_with = models.UUIDField(null=True, blank=True, editable=False, help_text="The API key that placed it.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(db_default=Later(int(PAYABLE_FOR.total_seconds())), editable=False)
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
            models.Index(fields=["reason", "-created_at"], name="order_by_reason"),
            # For the limit of unpaid orders. Not partial by status: the plan of a prepared statement could not use it.
            models.Index(Upper("email"), "created_at", name="order_by_email"),
            models.Index(
                fields=["placed_with", "-created_at"], name="order_by_api_key", condition=Q(placed_with__isnull=False)
            ),
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
            ("export_evidence", "May download what is kept about an order"),
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
        sentence = self.CUSTOMER_ERRORS.get(self.status)
        return None if sentence is None else str(sentence)

    @property
    def masked_email(self) -> str:
        name, _, host = self.email.partition("@")
        return f"{name[:1]}…@{host}"

    @property
    def product_names(self) -> str:
        """Name what was ordered. Lists read the items before, for all their orders."""
        return ", ".join(str(item) if item.quantity > 1 else item.title for item in self.items.all())

    def announce_move(self, to: str) -> None:
        if self.placed_with is not None:
            order_moved.send(sender=Order, order=self, to=to)

    def lock(self) -> "Order":
        """Return this order, locked until the transaction ends: the first lock anybody takes (Order, Payment, …)."""
        return queries.get(Order, self.pk, lock=True)

    def note(self, kind: str, message: str, *, actor: str = "") -> None:
        """Add a line to the timeline that changes no status."""
        queries.insert(OrderEvent(order=self, kind=kind, message=message, phrase=phrase_of(message), actor=actor))

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
        return self.move(self.Status.FULFILLING, message=gettext_noop("The key is being bought."), reason="")

    def mark_partially_fulfilled(self, *, message: str) -> bool:
        return self.move(self.Status.PARTIALLY_FULFILLED, message=message)

    def mark_fulfilled(self) -> bool:
        changed = self.move(
            self.Status.FULFILLED,
            message=gettext_noop("Every key of this order is ready."),
            reason="",
            fulfilled_at=Now(),
        )
        if changed and self.paid_at is not None and self.fulfilled_at is not None:
            seconds = (self.fulfilled_at - self.paid_at).total_seconds()
            # After the commit, and robust: a figure must not turn a delivered order into an error.
            transaction.on_commit(partial(delivery_seconds.observe, seconds), robust=True)
        return changed

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
        message = gettext_noop("Our staff let this order be paid again.")
        # An underpaid one passes through PENDING: with a direct way back, a part that arrives would end a hold.
        via = Step(self.Status.PENDING, message) if to == self.Status.UNDERPAID else None
        return self.move(to, message=message, via=via, reason="", actor=actor, expires_at=Now() + PAYABLE_FOR)

    def expire(self) -> bool:
        return self.move(self.Status.EXPIRED, message=gettext_noop("Nobody paid in time."), reason=OrderReason.UNPAID)

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

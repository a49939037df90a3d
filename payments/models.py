import uuid
from datetime import datetime, timedelta
from typing import ClassVar, Self

from django.db import models
from django.db.models import Exists, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce, Lower, Now
from django.utils import timezone

from bitloot.core import queries
from bitloot.core.money import plain
from bitloot.core.queue import QueueManager, QueueRow
from orders.models import Order
from orders.state import StatusRow
from payments.choices import BY_THE_PROVIDER, PaymentStatus, RefundKind, RefundStatus, ReviewReason
from payments.networks import network_name

USUAL_QUOTE = timedelta(minutes=20)


class Coin(models.Model):
    """A coin that customers may pay with, as the provider last listed it; our pages read it here and never wait."""

    code = models.CharField(primary_key=True, max_length=32)
    name = models.CharField(max_length=80)
    ticker = models.CharField(max_length=16, blank=True, help_text="What wallets call it; `code` has the network too.")
    network = models.CharField(max_length=32, blank=True)
    wallet_regex = models.CharField(max_length=300, blank=True)
    takes_memo = models.BooleanField(default=False, help_text="Its addresses may have a memo or tag.")
    needs_memo = models.BooleanField(default=False, help_text="No address of it is complete without one.")
    memo_regex = models.CharField(max_length=300, blank=True)
    is_offered = models.BooleanField(default=True)
    minimum = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True, help_text="In the shop's currency."
    )
    rate = models.DecimalField(
        max_digits=40,
        decimal_places=18,
        null=True,
        blank=True,
        help_text="Coins for one unit of the shop's currency, as the provider last estimated.",
    )
    recent_uses = models.PositiveIntegerField(default=0, help_text="Payments of the last 90 days that arrived in full.")
    usual_minutes = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="From the first sight of the coins to their confirmation."
    )
    refreshed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name", "code"]

    def __str__(self) -> str:
        return f"{self.name} ({self.code})"

    @property
    def network_name(self) -> str:
        return network_name(self.network, self.code)


class Payment(StatusRow, QueueRow):
    """One try to pay an order in one coin: a payment at NOWPayments, watched until nothing can come of it."""

    Status = PaymentStatus

    # Steps may be missing, late or repeated, but a payment never goes back to an earlier one.
    RANK: dict[str, int] = {
        Status.CREATING: 0,
        Status.WAITING: 1,
        Status.CONFIRMING: 2,
        Status.CONFIRMED: 3,
        Status.SENDING: 4,
        Status.FINISHED: 5,
    }
    _ON_THE_WAY = frozenset(RANK)
    _ASIDE = frozenset({"partially_paid", "expired", "failed", "cancelled", "refunded", "review"})
    TIMELINE_KIND = "payment"
    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        Status.CREATING: (_ON_THE_WAY | _ASIDE) - {"creating"},
        Status.WAITING: (_ON_THE_WAY | _ASIDE) - {"creating", "waiting"},
        Status.CONFIRMING: frozenset({"confirmed", "sending", "finished"}) | _ASIDE,
        Status.CONFIRMED: frozenset({"sending", "finished"}) | _ASIDE,
        Status.SENDING: frozenset({"finished"}) | _ASIDE,
        Status.PARTIALLY_PAID: frozenset({"finished", "refunded", "review", "cancelled"}),
        # The quote has ended, not the address: coins that come late are still seen.
        Status.EXPIRED: (_ON_THE_WAY | _ASIDE) - {"creating", "waiting", "expired"},
        # Coins can still arrive for a payment that has ended; then staff decide.
        Status.FAILED: frozenset({"review", "refunded"}),
        Status.CANCELLED: frozenset({"review", "refunded"}),
        Status.REFUNDED: frozenset({"review"}),
        Status.REVIEW: frozenset({"finished", "refunded", "cancelled"}),
        # Not back to review: its keys may be out already, so a contradiction raises an alert instead.
        Status.FINISHED: frozenset({"refunded"}),
    }
    OPEN = (Status.CREATING, Status.WAITING, Status.CONFIRMING, Status.CONFIRMED, Status.SENDING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="payments")
    # Null, not empty, until the provider names it: unique, yet many payments may wait for their name.
    external_id = models.CharField(max_length=32, null=True, blank=True, unique=True, editable=False)
    status = models.CharField(max_length=16, choices=PaymentStatus.choices, default=Status.CREATING, editable=False)
    reason = models.CharField(
        max_length=64,
        blank=True,
        choices=ReviewReason.choices,
        editable=False,
        help_text="Why staff should look at it, or how it came to its status.",
    )
    price_amount = models.DecimalField(max_digits=10, decimal_places=2, editable=False)
    price_currency = models.CharField(max_length=8, editable=False)
    pay_currency = models.CharField(max_length=32, editable=False)
    pay_amount = models.DecimalField(max_digits=40, decimal_places=18, null=True, blank=True, editable=False)
    pay_address = models.CharField(max_length=200, blank=True, editable=False)
    payin_extra_id = models.CharField(max_length=100, blank=True, editable=False)
    network = models.CharField(max_length=32, blank=True, editable=False)
    purchase_id = models.CharField(max_length=32, blank=True, editable=False)
    actually_paid = models.DecimalField(max_digits=40, decimal_places=18, default=0, editable=False)
    credit = models.DecimalField(
        max_digits=10,
        decimal_places=2,
        default=0,
        editable=False,
        help_text="What a partial payment counts towards the order, in the order's currency.",
    )
    outcome_amount = models.DecimalField(max_digits=40, decimal_places=18, null=True, blank=True, editable=False)
    outcome_currency = models.CharField(max_length=32, blank=True, editable=False)
    provider_status = models.CharField(max_length=40, blank=True, editable=False, help_text="As last re-read.")
    payin_hash = models.CharField(
        max_length=200,
        blank=True,
        db_index=True,
        editable=False,
        help_text="The transaction that brought the coins, as re-read.",
    )
    parent_external_id = models.CharField(max_length=32, blank=True, editable=False)
    evidence = models.JSONField(default=dict, blank=True, editable=False, help_text="The provider's numbers, re-read.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="End of the quote.")
    valid_until = models.DateTimeField(null=True, blank=True, editable=False, help_text="End of the payment.")
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)
    read_at = models.DateTimeField(null=True, blank=True, editable=False)
    shown_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When its customer last had the page open, to a minute or so."
    )
    coins_seen_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When the last of the coins were first seen: in time, if before the quote's end.",
    )
    unread_since = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Since when the provider gives no usable answer about it."
    )

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        ordering = ["-created_at"]
        permissions = [
            ("accept_payment", "May accept a payment as paid against the rule"),
            ("ask_for_rest", "May ask a customer for the rest"),
            ("end_payment", "May end a payment that the provider made differently"),
            ("refund_payment", "May refund all of a payment"),
            ("refund_surplus", "May refund what came beyond the price"),
            ("refund_share", "May refund what was not delivered"),
            ("read_again", "May let a payment be read again at the provider"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=PaymentStatus.values), name="payment_status_known"),
            models.CheckConstraint(condition=Q(price_amount__gt=0), name="payment_price_positive"),
            models.CheckConstraint(condition=Q(actually_paid__gte=0), name="payment_paid_not_negative"),
            models.CheckConstraint(
                condition=Q(credit__gte=0) & Q(credit__lte=models.F("price_amount")), name="payment_credit_within_price"
            ),
        ]
        indexes = [
            *QueueRow.Meta.indexes,
            models.Index(fields=["-created_at"], name="payment_newest"),
            models.Index(fields=["status", "-created_at"], name="payment_by_status"),
            models.Index(fields=["reason", "-created_at"], name="payment_by_reason"),
            models.Index(fields=["pay_address"], name="payment_by_address"),
            models.Index(fields=["payin_extra_id"], name="payment_by_memo"),
            models.Index(fields=["purchase_id"], name="payment_by_purchase"),
            models.Index(fields=["parent_external_id"], name="payment_by_parent"),
        ]

    def __str__(self) -> str:
        return f"payment {self.external_id or self.id}"

    @property
    def quote_ended_at(self) -> datetime:
        """Return when the rate ended; a payment that an IPN made known to us does not say."""
        return self.expires_at or self.created_at + USUAL_QUOTE

    @property
    def quote_runs(self) -> bool:
        """Return whether the customer may send coins for it right now."""
        waiting = self.status == Payment.Status.WAITING
        return waiting and self.expires_at is not None and self.expires_at > timezone.now()

    @property
    def is_unknown_to_customer(self) -> bool:
        """Whether the provider made another payment than we asked for, so that nobody was shown where to pay it."""
        return self.reason == ReviewReason.CREATE_MISMATCH and self.actually_paid <= 0

    def lock(self) -> "Payment":
        """Lock the row, after its order's, and return it as it is now."""
        return queries.get(Payment, self.pk, lock=True)


class RefundQuerySet(models.QuerySet["Refund"]):
    def to_show(self) -> Self:
        """Read with each refund where it goes to and whether its coin takes a memo, for RefundSerializer."""
        coins = Coin.objects.filter(code=OuterRef("currency"))
        rows = self.select_related("destination")
        return rows.annotate(
            takes_memo=Exists(coins.filter(takes_memo=True)),
            needs_memo=Exists(coins.filter(needs_memo=True)),
            network=Coalesce(Subquery(coins.values("network")[:1]), Value("")),
        )


class Refund(StatusRow):
    """Money owed back to a customer. BitLoot keeps the ledger; staff send the coins.

    A payment may have several, together at most what arrived; `refunds.left_of` counts that under the payment's lock.
    """

    Status = RefundStatus
    Kind = RefundKind

    TIMELINE_KIND = "refund"
    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        Status.REQUESTED: frozenset({"sent"}),
        Status.SENT: frozenset({"done"}),
        Status.DONE: frozenset(),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="refunds")
    payment = models.ForeignKey(Payment, null=True, blank=True, on_delete=models.PROTECT, related_name="refunds")
    status = models.CharField(max_length=10, choices=RefundStatus.choices, default=Status.REQUESTED, editable=False)
    kind = models.CharField(max_length=8, choices=RefundKind.choices, default=Kind.ALL, editable=False)
    amount = models.DecimalField(max_digits=40, decimal_places=18)
    currency = models.CharField(max_length=32)
    worth = models.DecimalField(
        max_digits=10,
        decimal_places=2,
        default=0,
        editable=False,
        help_text="What it takes off what the payment counts towards the price, in the price's currency.",
    )
    destination = models.ForeignKey(
        "RefundAddress",
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="The newest address that the customer gave; once sent, the one that was paid.",
    )
    transaction_id = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    done_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = RefundQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        permissions = [
            ("send_refund", "May record that a refund was sent"),
            ("send_elsewhere", "May record that a refund went to an earlier address"),
            ("finish_refund", "May record that a refund has arrived"),
        ]
        indexes = [
            models.Index(fields=["-created_at"], name="refund_newest"),
            models.Index(fields=["status", "-created_at"], name="refund_by_status"),
        ]
        constraints = [
            # Many refunds may say that the provider sent them; no other transaction pays two.
            models.UniqueConstraint(
                Lower("transaction_id"),
                condition=~Q(transaction_id__in=["", BY_THE_PROVIDER]),
                name="refund_transaction_once",
            ),
            models.CheckConstraint(condition=Q(amount__gt=0), name="refund_amount_positive"),
            models.CheckConstraint(condition=Q(worth__gte=0), name="refund_worth_not_negative"),
            models.CheckConstraint(condition=Q(kind__in=RefundKind.values), name="refund_kind_known"),
            models.CheckConstraint(condition=Q(status__in=RefundStatus.values), name="refund_status_known"),
        ]

    def __str__(self) -> str:
        return f"refund {self.id}"

    @property
    def coins(self) -> str:
        return f"{plain(self.amount)} {self.currency.upper()}"

    @property
    def address(self) -> str:
        return self.destination.address if self.destination else ""

    @property
    def extra_id(self) -> str:
        return self.destination.extra_id if self.destination else ""


class RefundAddress(models.Model):
    """Where a customer wants a refund to go: append-only, so that what was given, when and how is never lost."""

    refund = models.ForeignKey(Refund, on_delete=models.PROTECT, related_name="addresses")
    address = models.CharField(max_length=200)
    extra_id = models.CharField(max_length=100, blank=True, help_text="The memo or tag that belongs to the address.")
    given_at = models.DateTimeField(db_default=Now(), editable=False)
    rests_until = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="An address that replaced another one is not paid before that."
    )
    link_kind = models.CharField(max_length=8, blank=True, help_text="Which link opened the order: api or mail.")
    link_generation = models.PositiveIntegerField(default=0)
    client = models.CharField(max_length=50, blank=True, help_text="The network that it came from.")

    class Meta:
        ordering = ["pk"]
        verbose_name = "refund address"
        verbose_name_plural = "refund addresses"

    def __str__(self) -> str:
        return f"…{self.address[-6:]}"

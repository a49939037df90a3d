import json
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html

from bitloot.core.admin.base import OneOf, ReadOnlyAdmin, ReadOnlyInline
from bitloot.core.admin.formatting import NOTHING, age_of, link_to, list_link, money_of
from bitloot.core.admin.panels import Waiting
from bitloot.core.money import plain
from orders.admin import SecondedAdmin
from orders.choices import AlertKind
from orders.models import Alert, Order
from payments import refunds, review, sync
from payments.balance import worth_of
from payments.choices import ReviewReason
from payments.comparison import compare
from payments.models import Coin, Payment, Refund, RefundAddress

MAX_ALERTS = 1_000
_GO_BACK = (
    (refunds.REFUND, Refund.Kind.ALL),
    (refunds.REFUND_SURPLUS, Refund.Kind.SURPLUS),
    (refunds.REFUND_SHARE, Refund.Kind.SHARE),
)


@admin.register(Coin)
class CoinAdmin(ReadOnlyAdmin):
    list_display = ("code", "name", "network", "is_offered", "takes_memo", "needs_memo", "minimum", "refreshed")
    list_filter = ("is_offered", "needs_memo", "network")
    search_fields = ("code", "name__icontains")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "code",
                    "name",
                    "network",
                    "is_offered",
                    ("takes_memo", "needs_memo"),
                    "wallet_regex",
                    "memo_regex",
                    "minimum",
                    "refreshed",
                )
            },
        ),
    )
    refreshed = age_of("refreshed_at", "last refreshed")


class RefundAddressInline(ReadOnlyInline):
    model = RefundAddress
    fields = ("address", "extra_id", "given", "rests", "link_kind", "link_generation", "client")
    given = age_of("given_at", "given")
    rests = age_of("rests_until", "rests until")


class LinkKindFilter(OneOf):
    title = "link kind"
    parameter_name = "link_kind"
    words = ("api", "mail")


@admin.register(RefundAddress)
class RefundAddressAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "refund_link", "address", "extra_id", "given", "rests", "link_kind", "client")
    list_filter = (LinkKindFilter, "given_at")
    search_fields = ("address", "extra_id")
    linked_by = ("refund",)
    list_select_related = ("refund",)
    fieldsets = (
        (None, {"fields": ("refund_link", "address", "extra_id")}),
        ("How it was given", {"fields": (("given", "rests"), ("link_kind", "link_generation"), "client")}),
    )
    refund_link = link_to("refund", "refund")
    given = age_of("given_at", "given")
    rests = age_of("rests_until", "rests until")


class RefundInline(ReadOnlyInline):
    model = Refund
    fields = ("page", "state", "kind", "amount", "currency", "address", "transaction_id", "reason")


def undecided(**filters: Any) -> QuerySet[Payment]:
    """Return payments with money that staff have not decided about: none of it goes back yet."""
    return Payment.objects.filter(refunds=None, **filters).select_related("order").prefetch_related("refunds")


def open_refunds(**filters: Any) -> QuerySet[Refund]:
    """Return refunds that have an address: before that they wait for the customer."""
    rows = Refund.objects.filter(destination__isnull=False, **filters)
    return rows.select_related("order", "payment", "destination")


class NeedsAttention(admin.SimpleListFilter):
    """Payments in review, and those that an open alert is about, until a refund is decided."""

    title = "needs attention"
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Payment]) -> QuerySet[Payment]:
        if self.value() != "yes":
            return queryset
        alerts = Alert.objects.filter(
            kind=AlertKind.PAYMENT_REVIEW, about_model=Payment._meta.label_lower, status=Alert.Status.OPEN
        )
        # Read first, because `about_pk` is text and the payments' ids are not: PostgreSQL would refuse the subquery.
        named = list(alerts.values_list("about_pk", flat=True)[:MAX_ALERTS])
        return queryset.filter(Q(status=Payment.Status.REVIEW) | Q(pk__in=named), refunds=None)


@admin.register(Payment)
class PaymentAdmin(SecondedAdmin):
    is_live = counts_statuses = True
    decisions = (
        review.ACCEPT, review.ASK_FOR_REST, review.END, refunds.REFUND, refunds.REFUND_SURPLUS, refunds.REFUND_SHARE,
        sync.READ_AGAIN,
    )  # fmt: skip
    quiet = (sync.READ_AGAIN,)
    reasons = (ReviewReason,)
    waiting = (
        Waiting(title="Payment in review", rows=lambda: undecided(status=Payment.Status.REVIEW)),
        Waiting(
            title="Too little arrived",
            rows=lambda: undecided(status=Payment.Status.PARTIALLY_PAID, order__status=Order.Status.UNDERPAID),
        ),
    )
    list_display = ("reference", "order_link", "state_and_why", "price", "asked", "arrived", "created", "read", "due")
    list_filter = (NeedsAttention, "status", "reason", "created_at")
    search_fields = (
        "external_id",
        "pay_address",
        "payin_extra_id",
        "purchase_id",
        "parent_external_id",
        "refunds__transaction_id",
        "refunds__addresses__address",
        "refunds__addresses__extra_id",
        "payin_hash",
    )
    search_ids = ("id", "order_id", "request_id")
    linked_by = ("order", "pay_currency")
    list_select_related = ("order",)
    inlines = (RefundInline,)
    fieldsets = (
        (None, {"fields": ("id", "external_id", "order_link", ("state", "why"), ("webhooks", "alerts"))}),
        ("Money", {"fields": ("price", "asked", "arrived", "payin_hash", "outcome")}),
        ("Pay to", {"fields": ("pay_address", "payin_extra_id", "network", "purchase_id", "parent_external_id")}),
        ("The provider's last answer", {"fields": ("provider_status", "evidence_text", "read")}),
        ("Times", {"fields": ("created", ("quote_ends", "ends"), "finished", ("due", "attempts"))}),
    )
    order_link = link_to("order", "order")
    created = age_of("created_at", "begun")
    read = age_of("read_at", "last asked")
    due = age_of("next_attempt_at", "next look")
    quote_ends = age_of("expires_at", "quote ends")
    ends = age_of("valid_until", "payment ends")
    finished = age_of("finished_at", "finished")

    @admin.display(description="payment", ordering="external_id")
    def reference(self, payment: Payment) -> str:
        return payment.external_id or f"{str(payment.pk)[:8]} (not named yet)"

    @admin.display(description="price", ordering="price_amount")
    def price(self, payment: Payment) -> str:
        return _money(payment.price_amount, payment.price_currency)

    @admin.display(description="asked")
    def asked(self, payment: Payment) -> str:
        return _money(payment.pay_amount, payment.pay_currency)

    @admin.display(description="arrived")
    def arrived(self, payment: Payment) -> str:
        return _money(payment.actually_paid, payment.pay_currency)

    @admin.display(description="paid out to us")
    def outcome(self, payment: Payment) -> str:
        return _money(payment.outcome_amount, payment.outcome_currency)

    @admin.display(description="the provider's numbers")
    def evidence_text(self, payment: Payment) -> str:
        return format_html("<pre>{}</pre>", json.dumps(payment.evidence, indent=2, ensure_ascii=False))

    @admin.display(description="webhooks")
    def webhooks(self, payment: Payment) -> str:
        if not payment.external_id:
            return "The provider has not named this payment yet."
        return list_link("webhooks.webhooklog", "what the provider sent about it", external_id=payment.external_id)

    @admin.display(description="alerts")
    def alerts(self, payment: Payment) -> str:
        return list_link("orders.alert", "alerts of its order", order=payment.order_id)

    def concern(self, payment: Payment) -> str:
        is_decided = payment.refunds.exists() or payment.status not in review.ACCEPTABLE
        is_settled = payment.status == Payment.Status.PARTIALLY_PAID and payment.order.paid_at is not None
        return "" if is_decided or is_settled else ReviewReason.sentence_for(payment.reason)

    def facts(self, payment: Payment) -> str:
        shown = {
            "lines": compare(payment),
            "arrived": self.arrived(payment),
            "asked": self.asked(payment),
            "price": self.price(payment),
            "worth": _money(worth_of(payment), payment.price_currency),
            "order": payment.order.get_status_display().lower(),
            "refunds": payment.refunds.order_by("created_at"),
            "would_go_back": [
                (decision.label, _money(refunds.coins_of(payment, kind), payment.pay_currency))
                for decision, kind in _GO_BACK
                if decision.objection(payment) is None
            ],
        }
        return render_to_string("admin/payments/evidence.html", shown)


@admin.register(Refund)
class RefundAdmin(SecondedAdmin):
    is_live = counts_statuses = True
    decisions = (refunds.MARK_SENT, refunds.MARK_SENT_ELSEWHERE, refunds.MARK_DONE)
    waiting = (
        Waiting(title="Coins to send back", rows=lambda: open_refunds(status=Refund.Status.REQUESTED)),
        Waiting(title="Refund to confirm", rows=lambda: open_refunds(status=Refund.Status.SENT), since="sent_at"),
    )
    inlines = (RefundAddressInline,)
    list_display = ("reference", "order_link", "amount_text", "kind", "state", "has_address", "payment_link", "created")
    list_filter = ("status", "created_at")
    search_fields = ("transaction_id", "addresses__address", "addresses__extra_id", "payment__external_id")
    search_ids = ("id", "order_id", "payment_id")
    linked_by = ("order", "payment")
    list_select_related = ("order", "payment", "destination")
    fieldsets = (
        (None, {"fields": ("id", "order_link", "payment_link", "state", "kind", "reason", "alerts")}),
        ("Money", {"fields": ("amount_text", "counted", "address", "extra_id", "transaction_id")}),
        ("Times", {"fields": ("created", ("sent", "done"))}),
    )
    order_link = link_to("order", "order")
    counted = money_of("worth", "taken off what was paid")
    payment_link = link_to("payment", "payment")
    created = age_of("created_at", "requested")
    sent = age_of("sent_at", "sent")
    done = age_of("done_at", "done")

    @admin.display(description="refund", ordering="id")
    def reference(self, refund: Refund) -> str:
        return str(refund.pk)[:8]

    @admin.display(description="amount")
    def amount_text(self, refund: Refund) -> str:
        return _money(refund.amount, refund.currency)

    @admin.display(description="address given", boolean=True)
    def has_address(self, refund: Refund) -> bool:
        return bool(refund.address)

    @admin.display(description="alerts")
    def alerts(self, refund: Refund) -> str:
        return list_link("orders.alert", "alerts of its order", order=refund.order_id)

    def concern(self, refund: Refund) -> str:
        if refund.status == Refund.Status.SENT:
            return "The coins are on their way. Check whether they have arrived."
        if refund.status != Refund.Status.REQUESTED:
            return ""
        if refund.destination is None:
            return "Waiting for the customer: their page asks for an address."
        return refunds.objection_to_sending(refund) or f"Send {refund.coins}."

    def facts(self, refund: Refund) -> str:
        coin = Coin.objects.filter(code=refund.currency).first()
        shown = {"refund": refund, "amount": plain(refund.amount), "coin": coin}
        return render_to_string("admin/payments/refund.html", shown)


def _money(amount: Decimal | None, currency: str) -> str:
    return NOTHING if amount is None else f"{plain(amount)} {currency.upper()}"

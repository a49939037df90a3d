import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html

from bitloot.core.admin.base import ReadOnlyAdmin, ReadOnlyInline, Refused
from bitloot.core.admin.decisions import Decision, DecisionAdmin
from bitloot.core.admin.formatting import NOTHING, age_of, link_to, list_link, short
from bitloot.core.money import plain
from orders.choices import AlertKind
from orders.models import Alert, Order
from payments import refunds, review
from payments.balance import amount_due
from payments.choices import ReviewReason
from payments.exceptions import DecisionRefused
from payments.models import Coin, Payment, Refund
from payments.review import compare
from payments.sync import read_again

MAX_ALERTS = 1_000


@admin.register(Coin)
class CoinAdmin(ReadOnlyAdmin):
    list_display = ("code", "name", "network", "is_offered", "needs_memo", "minimum", "refreshed")
    list_filter = ("is_offered", "needs_memo", "network")
    search_fields = ("code", "name__icontains")
    fieldsets = (
        (
            None,
            {"fields": ("code", "name", "network", "is_offered", "needs_memo", "wallet_regex", "minimum", "refreshed")},
        ),
    )
    refreshed = age_of("refreshed_at", "as the provider told")


class RefundInline(ReadOnlyInline):
    model = Refund
    fields = ("page", "state", "amount", "currency", "address", "transaction_id", "reason")


class NeedsPerson(admin.SimpleListFilter):
    """Payments in review, and those that an open alert is about, until a refund is decided."""

    title = "needs a person"
    parameter_name = "person"

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


def _takes_acceptance(payment: Payment) -> bool:
    is_open = payment.order.status in review.TAKES_MONEY and payment.order.paid_at is None
    return (
        payment.status in review.ACCEPTABLE and payment.actually_paid > 0 and is_open and not payment.refunds.exists()
    )


def _lacks_rest(payment: Payment) -> bool:
    is_short = payment.status == Payment.Status.PARTIALLY_PAID and payment.order.status == Order.Status.UNDERPAID
    return is_short and not payment.refunds.exists()


def _can_go_back(payment: Payment) -> bool:
    has_money = payment.actually_paid > 0 and payment.status != Payment.Status.REFUNDED
    return has_money and not payment.refunds.exists()


def _accept(payment: Payment, actor: str, fields: dict[str, str]) -> str:
    review.accept_as_paid(payment, actor=actor, reason=fields["reason"])
    return "accepted. The order counts as paid, and its keys are bought now."


def _ask_for_rest(payment: Payment, actor: str, _: dict[str, str]) -> str:
    review.ask_for_rest(payment, actor=actor)
    return f"the customer is asked for {amount_due(payment.order)} {payment.order.currency} by mail."


def _refund(payment: Payment, actor: str, fields: dict[str, str]) -> str:
    refund = refunds.request_refund(payment, actor=actor, reason=fields["reason"])
    coins = _money(refund.amount, refund.currency)
    return f"{coins} go back. The customer is asked for an address; an alert tells you."


def _in_words(decide: Callable[[Any, str, dict[str, str]], str]) -> Callable[[Any, str, dict[str, str]], str]:
    """Let the desk's refusal reach the person as it is."""

    def decided(row: Any, actor: str, fields: dict[str, str]) -> str:
        try:
            return decide(row, actor, fields)
        except DecisionRefused as err:
            raise Refused(str(err)) from err

    return decided


@admin.register(Payment)
class PaymentAdmin(DecisionAdmin):
    is_live = counts_statuses = True
    decision_permission = "orders.settle_order"
    decisions = (
        Decision(
            "accept", "Accept as paid",
            "The order counts as paid and its keys are bought, though the machine objects. This cannot be taken back.",
            _takes_acceptance, _in_words(_accept),
        ),
        Decision(
            "ask", "Ask for the rest",
            "The customer gets a mail that says what is missing; their page lets them pay it in any coin.",
            _lacks_rest, _in_words(_ask_for_rest), forms.Form,
        ),
        Decision(
            "refund", "Refund",
            "The customer is asked for an address, and you send the coins to it by hand. An order that is not"
            " delivered ends with it, unless another payment paid it.",
            _can_go_back, _in_words(_refund),
        ),
    )  # fmt: skip
    list_display = ("reference", "state", "reason", "order_link", "price", "asked", "arrived", "created", "read", "due")
    list_filter = (NeedsPerson, "status", "reason", "created_at")
    search_fields = ("external_id", "pay_address", "purchase_id", "parent_external_id", "refunds__transaction_id")
    search_ids = ("id", "order_id")
    linked_by = ("order", "pay_currency")
    list_select_related = ("order",)
    actions = ("read_again",)
    inlines = (RefundInline,)
    fieldsets = (
        (None, {"fields": ("id", "external_id", "order_link", ("state", "reason"), ("webhooks", "alerts"))}),
        ("Money", {"fields": ("price", "asked", "arrived", "outcome")}),
        ("Where to", {"fields": ("pay_address", "payin_extra_id", "network", "purchase_id", "parent_external_id")}),
        ("As the provider said when last asked", {"fields": ("provider_status", "evidence_text", "read")}),
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
        return short(payment)

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
        return render_to_string("admin/payments/evidence.html", {"lines": compare(payment)})

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orders.settle_order")

    @admin.action(description="Read again at the provider", permissions=["settle"])
    def read_again(self, request: HttpRequest, payments: QuerySet[Payment]) -> None:
        self.act(request, payments, read_again, done="the provider is asked again within seconds")


class SentForm(forms.Form):
    transaction_id = forms.CharField(
        min_length=6,
        max_length=200,
        widget=forms.TextInput(attrs={"size": 70, "autocomplete": "off", "spellcheck": "false"}),
        help_text="As the network shows it. The customer sees it on their page.",
    )


def _mark_sent(refund: Refund, actor: str, fields: dict[str, str]) -> str:
    refunds.mark_sent(refund, actor=actor, transaction_id=fields["transaction_id"])
    return "sent. The customer sees the transaction; mark it done when the coins have arrived."


def _mark_done(refund: Refund, actor: str, _: dict[str, str]) -> str:
    refunds.mark_done(refund, actor=actor)
    return "done. With its last refund the order counts as refunded."


@admin.register(Refund)
class RefundAdmin(DecisionAdmin):
    is_live = counts_statuses = True
    decision_permission = "orders.settle_order"
    decisions = (
        Decision(
            "sent", "Mark as sent",
            "Send exactly this amount, in this coin, to this address from your wallet first. BitLoot sends nothing.",
            lambda refund: refund.status == Refund.Status.REQUESTED and refund.address != "",
            _in_words(_mark_sent), SentForm,
        ),
        Decision(
            "done", "Mark as done",
            "Look the transaction up on the network first: the coins have arrived, and nothing more is owed.",
            lambda refund: refund.status == Refund.Status.SENT, _in_words(_mark_done), forms.Form,
        ),
    )  # fmt: skip
    list_display = ("__str__", "state", "order_link", "payment_link", "amount_text", "has_address", "created")
    list_filter = ("status", "created_at")
    search_fields = ("transaction_id", "address", "payment__external_id")
    search_ids = ("id", "order_id", "payment_id")
    linked_by = ("order", "payment")
    list_select_related = ("order", "payment")
    fieldsets = (
        (None, {"fields": ("id", "order_link", "payment_link", "state", "reason", "alerts")}),
        ("Money", {"fields": ("amount_text", "address", "extra_id", "transaction_id")}),
        ("Times", {"fields": ("created", ("sent", "done"))}),
    )
    order_link = link_to("order", "order")
    payment_link = link_to("payment", "payment")
    created = age_of("created_at", "requested")
    sent = age_of("sent_at", "sent")
    done = age_of("done_at", "done")

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
            return "The coins are on their way. Look whether they have arrived."
        if refund.status != Refund.Status.REQUESTED:
            return ""
        return "Send the coins." if refund.address else "It waits for the customer: their page asks for an address."

    def facts(self, refund: Refund) -> str:
        coin = Coin.objects.filter(code=refund.currency).first()
        shown = {"refund": refund, "amount": plain(refund.amount), "coin": coin}
        return render_to_string("admin/payments/refund.html", shown)


def _money(amount: Decimal | None, currency: str) -> str:
    return NOTHING if amount is None else f"{plain(amount)} {currency.upper()}"

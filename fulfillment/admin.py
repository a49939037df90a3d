from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse

from bitloot.core.admin.base import OneOf, ReadOnlyAdmin, ReadOnlyInline
from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.admin.formatting import (
    NOTHING,
    age_of,
    badge,
    link,
    link_to,
    list_link,
    money_of,
    state_badge,
)
from bitloot.core.admin.panels import Waiting
from bitloot.core.choices import Tone
from bitloot.core.decisions import Decision
from fulfillment import by_hand, gate, pricing, services
from fulfillment.choices import HoldReason
from fulfillment.models import (
    ForeignPurchase,
    PriceChange,
    PriceRule,
    Reservation,
    ReservationAttempt,
    SupplierCall,
    SupplierGate,
    SupplierStock,
)
from orders.admin import OrderAdmin
from orders.models import Order
from storage.admin import KeyAdmin
from storage.models import Key

Status = Reservation.Status
MAX_SHOWN = 200  # of the prices that a rule would change


class PermitInline(ReadOnlyInline):
    model = ReservationAttempt
    verbose_name_plural = "purchase attempts"
    fields = ("number", "result", "most", "permitted", "detail")
    most = money_of("price", "price")
    permitted = age_of("permitted_at", "permitted")

    @admin.display(description="outcome")
    def result(self, permit: ReservationAttempt) -> str:
        return outcome_badge(permit)


class CallInline(ReadOnlyInline):
    model = SupplierCall
    fields = ("moment", "call", "result", "status_code", "milliseconds", "detail")
    moment = age_of("at", "when")

    @admin.display(description="outcome")
    def result(self, call: SupplierCall) -> str:
        return call_badge(call)


class ReasonFilter(OneOf):
    title = "reason it is held"
    parameter_name = "reason"
    words = tuple(HoldReason)


def purchases_in(status: str) -> QuerySet[Reservation]:
    return Reservation.objects.filter(status=status).select_related("item__order", "item__product")


@admin.register(Reservation)
class ReservationAdmin(DecisionAdmin):
    list_name = "purchases"
    is_live = counts_statuses = True
    decisions = (services.RUN, services.SEARCH, services.RESUME)
    reasons = (HoldReason,)
    waiting = (
        Waiting(title="Purchase held", rows=lambda: purchases_in(Status.HELD), since="changed_at"),
        Waiting(title="Purchase unknown", rows=lambda: purchases_in(Status.UNKNOWN), since="changed_at"),
    )
    list_display = (
        "reference",
        "item_link",
        "order_link",
        "state_and_why",
        "supplier_order",
        "paid",
        "created",
        "due",
        "tries",
    )
    list_filter = ("status", "created_at", ReasonFilter)
    search_fields = ("supplier_order_id", "external_id", "item__order__email__iexact")
    search_ids = ("id", "item_id", "item__order_id", "request_id")
    linked_by = ("item", "item__order")
    list_select_related = ("item__order",)
    inlines = (PermitInline, CallInline)
    fieldsets = (
        (None, {"fields": ("id", ("state", "why"), "order_link", "item_link", "keys", "replaces_link", "webhooks")}),
        (
            "At the supplier",
            {
                "fields": (
                    *("dialect", "external_id", "supplier_order", "supplier_product_id", "title"),
                    *("most", "paid", "manual", "last_error"),
                )
            },
        ),
        ("Times", {"fields": (("created", "sent"), ("reserved", "delivered"), ("unknown", "refused"), "changed")}),
        ("Queue", {"fields": (("due", "held_until"), ("attempts", "polls", "crashes"))}),
    )
    most = money_of("price_cap", "price cap per key")
    paid = money_of("cost", "cost")
    created = age_of("created_at", "opened")
    sent = age_of("sent_at", "sent")
    reserved = age_of("reserved_at", "bought")
    delivered = age_of("delivered_at", "delivered")
    unknown = age_of("unknown_at", "unknown since")
    refused = age_of("waiting_since", "first refused")
    changed = age_of("changed_at", "last change")
    due = age_of("next_attempt_at", "next look")
    held_until = age_of("claimed_until", "a worker has it until")

    @admin.display(description="status", ordering="status")
    def state_and_why(self, row: Reservation) -> str:
        # The row keeps the reason it was held for, even if staff have delivered by hand since.
        return state_badge(row) if row.status == Status.DELIVERED else super().state_and_why(row)

    def orders_of(self, rows: Sequence[Reservation]) -> list[Order | None]:
        return [reservation.item.order for reservation in rows]

    def concern(self, reservation: Reservation) -> str:
        if reservation.status == Status.UNKNOWN:
            return "Nobody knows yet whether it was bought. BitLoot searches for it and never buys it a second time."
        if reservation.status != Status.HELD:
            return ""
        sentence = HoldReason.sentence_for(reservation.reason)
        # The message of the day's quote: which price, which cap.
        return f"{sentence} {reservation.last_error}" if reservation.last_error else sentence

    def ways(self, reservation: Reservation) -> list[tuple[str, str]]:
        if reservation.reason != HoldReason.TOO_EXPENSIVE:
            return []
        return [("Raise the cap", reverse("admin:orders_product_change", args=[reservation.item.product_id]))]

    @admin.display(description="purchase", ordering="external_id")
    def reference(self, reservation: Reservation) -> str:
        return str(reservation.external_id)[:8]

    @admin.display(description="order")
    def order_link(self, reservation: Reservation) -> str:
        return link(reservation.item.order)

    item_link = link_to("item", "item")

    @admin.display(description="supplier's order", ordering="supplier_order_id")
    def supplier_order(self, reservation: Reservation) -> str:
        return reservation.supplier_order_id or NOTHING

    @admin.display(description="tries", ordering="attempts")
    def tries(self, reservation: Reservation) -> int:
        return reservation.attempts + reservation.polls

    @admin.display(description="keys")
    def keys(self, reservation: Reservation) -> str:
        return list_link("storage.key", "keys of this item", item=reservation.item_id)

    @admin.display(description="replaces")
    def replaces_link(self, reservation: Reservation) -> str:
        return link(Key(pk=reservation.replaces_id)) if reservation.replaces_id else NOTHING

    @admin.display(description="webhooks")
    def webhooks(self, reservation: Reservation) -> str:
        names = ",".join(filter(None, (reservation.external_id, reservation.supplier_order_id)))
        return list_link("webhooks.webhooklog", "what the supplier sent about it", external_id__in=names)


@admin.register(ReservationAttempt)
class ReservationAttemptAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("__str__", "reservation_link", "result", "price", "permitted", "detail")
    list_filter = ("outcome", "permitted_at")
    search_fields = ("reservation__supplier_order_id", "reservation__external_id")
    search_ids = ("reservation_id",)
    linked_by = ("reservation",)
    ordering = ("-id",)
    list_select_related = ("reservation",)
    fieldsets = ((None, {"fields": ("reservation_link", "number", "price", "result", "detail", "permitted")}),)
    reservation_link = link_to("reservation", "purchase")
    permitted = age_of("permitted_at", "permitted")

    @admin.display(description="outcome", ordering="outcome")
    def result(self, permit: ReservationAttempt) -> str:
        return outcome_badge(permit)


class CallFilter(OneOf):
    title = parameter_name = "call"
    words = ("quote", "reserve", "give", "delivered", "read", "find", "return")


@admin.register(SupplierCall)
class SupplierCallAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("call", "result", "status_code", "milliseconds", "moment", "reservation_link", "detail")
    list_filter = (CallFilter, "at")
    search_fields = ("reservation__supplier_order_id", "reservation__external_id")
    search_ids = ("reservation_id",)
    linked_by = ("reservation",)
    ordering = ("-id",)
    list_select_related = ("reservation",)
    fieldsets = (
        (None, {"fields": ("reservation_link", "call", "result", "status_code", "milliseconds", "detail", "moment")}),
    )
    reservation_link = link_to("reservation", "purchase")
    moment = age_of("at", "when")

    @admin.display(description="outcome", ordering="outcome")
    def result(self, call: SupplierCall) -> str:
        return call_badge(call)


@admin.register(SupplierGate)
class SupplierGateAdmin(DecisionAdmin):
    is_live = True
    decisions = (gate.STOP, gate.OPEN)
    list_display = ("host", "state", "reason", "failures", "balance", "changed", "probe")
    search_fields = ("host__icontains",)
    fieldsets = ((None, {"fields": ("host", ("state", "reason"), "failures", "balance", "changed", "probe")}),)
    changed = age_of("changed_at", "changed")
    probe = age_of("probe_at", "tried again")

    def named(self, row: SupplierGate) -> str:
        return row.host  # its own name says the state it was in before

    def decide_about(self, request: HttpRequest, rows: QuerySet[SupplierGate], decision: Decision[Any]) -> None:
        super().decide_about(request, rows, decision)
        if decision is gate.OPEN and settings.SAFE_MODE:
            self.message_user(request, "SAFE_MODE is set, so nothing is bought all the same.", messages.WARNING)


@admin.display(description="purchases")
def purchases(order: Order) -> str:
    return list_link("fulfillment.reservation", "purchases of its items", item__order=order.pk)


OrderAdmin.extend(
    fieldsets=[("Elsewhere", {"fields": (purchases,)})],
    of=Reservation,
    decisions=(services.RUN_ORDER, by_hand.DELIVER_BY_HAND),
    quiet=(services.RUN_ORDER,),
)
KeyAdmin.extend(decisions=(by_hand.REPLACE_BY_HAND, by_hand.REBUY, by_hand.SHRED_KEY))


def outcome_badge(permit: ReservationAttempt) -> str:
    return badge(permit.outcome, ReservationAttempt.Outcome.tone_for(permit.outcome))


def call_badge(call: SupplierCall) -> str:
    return badge(call.outcome, Tone.GOOD if call.outcome == "ok" else Tone.BAD)


@admin.register(SupplierStock)
class SupplierStockAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("product", "price", "quantity", "text_quantity", "asked", "seen", "due", "gone")
    search_fields = ("product__title", "product__slug")
    list_select_related = ("product",)
    fieldsets = (
        (
            None,
            {"fields": ("product", "price", ("quantity", "text_quantity"), ("asked", "seen"), ("due", "gone"))},
        ),
    )
    asked = age_of("asked_at", "asked")
    seen = age_of("seen_at", "last usable answer")
    due = age_of("due_at", "next look")
    gone = age_of("gone_since", "unknown to the supplier since")


@admin.register(PriceRule)
class PriceRuleAdmin(DecisionAdmin):
    """Rules are staff's to write; what one would change stands on its page, and is changed by its decision only."""

    in_finder = False
    decisions = (pricing.APPLY,)
    list_display = ("name", "for_platform", "percentage", "least", "ending", "lowest", "highest", "applied")
    fieldsets = (
        (None, {"fields": ("name", "platform", "is_automatic")}),
        ("Price", {"fields": ("margin", "least_margin", "ending", "floor", "cap")}),
    )
    has_add_permission = admin.ModelAdmin.has_add_permission
    has_change_permission = admin.ModelAdmin.has_change_permission
    has_delete_permission = admin.ModelAdmin.has_delete_permission
    least = money_of("least_margin", "least margin")
    lowest = money_of("floor", "floor")
    highest = money_of("cap", "cap")

    @admin.display(description="margin", ordering="margin")
    def percentage(self, rule: PriceRule) -> str:
        return f"{rule.margin} %"

    @admin.display(description="platform", ordering="platform")
    def for_platform(self, rule: PriceRule) -> str:
        return rule.platform or "all others"

    @admin.display(description="applied", ordering="is_automatic")
    def applied(self, rule: PriceRule) -> str:
        return "with every look" if rule.is_automatic else "by staff"

    def facts(self, rule: PriceRule) -> str:
        return shown_prices(pricing.preview(rule))

    def digest(self, rule: PriceRule) -> str:
        return pricing.digest_of(pricing.preview(rule))


def shown_prices(proposals: Iterable[pricing.Proposal]) -> str:
    """Return the prices that would change, and why the others would not, as HTML."""
    found = list(proposals)
    changes = [proposal for proposal in found if proposal.changes]
    stays = Counter(proposal.note for proposal in found if proposal.price is None)
    shown = {"changes": changes[:MAX_SHOWN], "count": len(changes), "stays": sorted(stays.items())}
    return render_to_string("admin/bitloot/prices.html", {**shown, "of": len(found)})


@admin.register(PriceChange)
class PriceChangeAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("when", "product_link", "before", "after", "asked", "actor", "rule")
    list_filter = ("at",)
    search_fields = ("product__title__icontains", "actor")
    linked_by = ("product",)
    list_select_related = ("product",)
    fieldsets = ((None, {"fields": ("product_link", ("before", "after", "asked"), ("actor", "rule"), "when")}),)
    product_link = link_to("product", "product")
    before = money_of("old_price", "old price")
    after = money_of("new_price", "new price")
    asked = money_of("cost", "cost")
    when = age_of("at", "when")


@admin.register(ForeignPurchase)
class ForeignPurchaseAdmin(ReadOnlyAdmin):
    list_display = ("supplier_order_id", "external_id", "reason", "acknowledged_by", "acknowledged")
    search_fields = ("supplier_order_id", "external_id")
    fieldsets = (
        (None, {"fields": ("supplier_order_id", "external_id", "reason", ("acknowledged_by", "acknowledged"))}),
    )
    acknowledged = age_of("acknowledged_at", "acknowledged")

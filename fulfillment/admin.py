from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from bitloot.core.admin.base import OneOf, ReadOnlyAdmin, ReadOnlyInline, Refused
from bitloot.core.admin.formatting import NOTHING, age_of, badge, link, link_to, list_link, short
from fulfillment import gate
from fulfillment.choices import HoldReason
from fulfillment.models import ForeignPurchase, Reservation, ReservationAttempt, SupplierCall, SupplierGate
from fulfillment.services import resume, run_now

Status = Reservation.Status


class PermitInline(ReadOnlyInline):
    model = ReservationAttempt
    verbose_name_plural = "permits to buy"
    fields = ("number", "result", "price", "permitted", "detail")
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
    values = tuple(HoldReason.values)


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    is_live = counts_statuses = True
    list_display = (
        "reference",
        "state",
        "reason",
        "order_link",
        "item_link",
        "supplier_order",
        "cost",
        "created",
        "due",
        "tries",
    )
    list_filter = ("status", "created_at", ReasonFilter)
    search_fields = ("supplier_order_id", "external_id", "item__order__email__icontains")
    search_ids = ("id", "item_id", "item__order_id")
    linked_by = ("item", "item__order")
    list_select_related = ("item__order",)
    actions = ("run_now", "let_go_on")
    inlines = (PermitInline, CallInline)
    fieldsets = (
        (None, {"fields": ("id", ("state", "reason"), "order_link", "item_link", "keys", "webhooks")}),
        ("At the supplier", {"fields": ("dialect", "external_id", "supplier_order", "cost", "manual", "last_error")}),
        ("Times", {"fields": (("created", "sent"), ("reserved", "delivered"), ("unknown", "changed"))}),
        ("Queue", {"fields": (("due", "held_until"), ("attempts", "polls", "crashes"))}),
    )
    created = age_of("created_at", "opened")
    sent = age_of("sent_at", "sent")
    reserved = age_of("reserved_at", "bought")
    delivered = age_of("delivered_at", "delivered")
    unknown = age_of("unknown_at", "unknown since")
    changed = age_of("changed_at", "last change")
    due = age_of("next_attempt_at", "next look")
    held_until = age_of("claimed_until", "a worker has it until")

    @admin.display(description="reservation", ordering="external_id")
    def reference(self, reservation: Reservation) -> str:
        return short(reservation)

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

    @admin.display(description="webhooks")
    def webhooks(self, reservation: Reservation) -> str:
        names = ",".join(filter(None, (reservation.external_id, reservation.supplier_order_id)))
        return list_link("webhooks.webhooklog", "what the supplier sent about it", external_id__in=names)

    def has_deliver_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orders.deliver_order")

    @admin.action(description="Run now", permissions=["deliver"])
    def run_now(self, request: HttpRequest, reservations: QuerySet[Reservation]) -> None:
        done = "it is looked at within seconds; what was sent without answer is searched for, never bought again"
        self.act(request, reservations, _run, done=done)

    @admin.action(description="Let it go on (held)", permissions=["deliver"])
    def let_go_on(self, request: HttpRequest, reservations: QuerySet[Reservation]) -> None:
        def resume_one(reservation: Reservation) -> None:
            _resume(reservation, actor=request.user.get_username())

        self.act(
            request, reservations, resume_one, done="it is bought again as if it were new, at today's price and cap"
        )


def _run(reservation: Reservation) -> None:
    if reservation.status == Status.DELIVERED:
        raise Refused("delivered already; there is nothing to do")
    if reservation.status in (Status.CANCELLED, Status.FAILED):
        raise Refused("it is over; nothing was changed")
    if reservation.claimed_until and reservation.claimed_until > timezone.now():
        raise Refused("a worker is at it right now; look again in a moment")
    run_now(reservation)


def _resume(reservation: Reservation, *, actor: str) -> None:
    if reservation.status != Status.HELD:
        raise Refused("it is not held; nothing was changed")
    if reservation.supplier_order_id or reservation.unknown_at:
        raise Refused(
            "something may have been bought for it, so it is not bought again; use “Run now” to search for it"
        )
    resume(reservation, actor=actor)


@admin.register(ReservationAttempt)
class ReservationAttemptAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "reservation_link", "result", "price", "permitted", "detail")
    list_filter = ("outcome", "permitted_at")
    search_fields = ("reservation__supplier_order_id", "reservation__external_id")
    search_ids = ("reservation_id",)
    linked_by = ("reservation",)
    ordering = ("-id",)
    list_select_related = ("reservation",)
    fieldsets = ((None, {"fields": ("reservation_link", "number", "price", "result", "detail", "permitted")}),)
    reservation_link = link_to("reservation", "reservation")
    permitted = age_of("permitted_at", "permitted")

    @admin.display(description="outcome", ordering="outcome")
    def result(self, permit: ReservationAttempt) -> str:
        return outcome_badge(permit)


class CallFilter(OneOf):
    title = parameter_name = "call"
    values = ("quote", "reserve", "give", "delivered", "read", "find", "return")


@admin.register(SupplierCall)
class SupplierCallAdmin(ReadOnlyAdmin):
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
    reservation_link = link_to("reservation", "reservation")
    moment = age_of("at", "when")

    @admin.display(description="outcome", ordering="outcome")
    def result(self, call: SupplierCall) -> str:
        return call_badge(call)


@admin.register(SupplierGate)
class SupplierGateAdmin(ReadOnlyAdmin):
    is_live = True
    list_display = ("host", "state", "reason", "failures", "balance", "changed", "probe")
    search_fields = ("host__icontains",)
    actions = ("stop", "open_again")
    fieldsets = ((None, {"fields": ("host", ("state", "reason"), "failures", "balance", "changed", "probe")}),)
    changed = age_of("changed_at", "changed")
    probe = age_of("probe_at", "tried again")

    def named(self, row: SupplierGate) -> str:
        return row.host  # its own name says the state it was in before

    def has_switch_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("fulfillment.change_suppliergate")

    @admin.action(description="Stop all purchases", permissions=["switch"])
    def stop(self, request: HttpRequest, gates: QuerySet[SupplierGate]) -> None:
        def stop_one(row: SupplierGate) -> None:
            if row.status == SupplierGate.Status.STOPPED:
                raise Refused("stopped already; nothing was changed")
            gate.stop(row.host, reason=f"stopped by {request.user.get_username()}"[:200])

        self.act(request, gates, stop_one, done="no purchase leaves from now on; paid orders wait until it is opened")

    @admin.action(description="Open", permissions=["switch"])
    def open_again(self, request: HttpRequest, gates: QuerySet[SupplierGate]) -> None:
        def open_one(row: SupplierGate) -> None:
            if row.status == SupplierGate.Status.OPEN:
                raise Refused("open already; nothing was changed")
            gate.open_again(row.host)

        self.act(request, gates, open_one, done="purchases leave again; waiting orders follow by themselves")
        if settings.SAFE_MODE:
            self.message_user(request, "SAFE_MODE is set, so nothing is bought all the same.", messages.WARNING)


def outcome_badge(permit: ReservationAttempt) -> str:
    return badge(permit.outcome, "busy" if permit.outcome == ReservationAttempt.Outcome.OPEN else "")


def call_badge(call: SupplierCall) -> str:
    return badge(call.outcome, "good" if call.outcome == "ok" else "bad")


@admin.register(ForeignPurchase)
class ForeignPurchaseAdmin(ReadOnlyAdmin):
    list_display = ("supplier_order_id", "external_id", "reason", "acknowledged_by", "acknowledged")
    search_fields = ("supplier_order_id", "external_id")
    fieldsets = (
        (None, {"fields": ("supplier_order_id", "external_id", "reason", ("acknowledged_by", "acknowledged"))}),
    )
    acknowledged = age_of("acknowledged_at", "acknowledged")

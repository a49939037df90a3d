from collections.abc import Sequence
from typing import Any, cast

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.forms.utils import pretty_name
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.text import capfirst

from bitloot.core.admin import runbook
from bitloot.core.admin.base import BaseAdmin, OneOf, ReadOnlyAdmin
from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.admin.formatting import NOTHING, address, age, age_of, badge, link, link_to, list_link, short, span
from bitloot.core.admin.panels import Waiting
from bitloot.core.choices import Tone
from bitloot.core.decisions import Decision
from bitloot.core.money import money
from orders import approvals, decisions
from orders.choices import AlertKind, OrderReason
from orders.models import (
    AccessCode,
    Alert,
    AlertChannel,
    Approval,
    Email,
    IdempotencyRecord,
    Notification,
    Order,
    OrderEvent,
    OrderItem,
    Product,
)
from orders.state import StatusRow


class ProductAdmin(BaseAdmin):
    """What there is to a product here. `bitloot.staff` registers it, with what the supplier says of it."""

    list_filter = ("is_active", "key_type", "platform")
    search_fields = ("title__icontains", "slug", "supplier_product_id", "supplier_offer_id")
    search_ids = ("id",)
    prepopulated_fields = {"slug": ("title",)}
    readonly_fields = ("id", "currency", "created", "margin")
    created = age_of("created_at", "added")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Orders, prices and the supplier's stock hang on a product: it is taken off sale instead."""
        return False

    @admin.display(description="margin at max cost")
    def margin(self, product: Product) -> str:
        """What is left of the price if the supplier charges all that we allow."""
        if not product.pk or product.max_cost is None:
            return NOTHING
        return money(product.price - product.max_cost, product.currency)


class SecondedAdmin(DecisionAdmin):
    """A page whose decisions may take a second member of staff: those wait as an Approval."""

    def objection(self, request: HttpRequest, row: Any, decision: Decision[Any]) -> str | None:
        about = (row._meta.label_lower, str(row.pk), decision.name)
        if decision.needs_second is not None and about in _asked_for(request):
            return approvals.WAITS_ALREADY
        return super().objection(request, row, decision)

    def carry_out(self, request: HttpRequest, row: Any, decision: Decision[Any], fields: dict[str, Any]) -> str:
        return approvals.decide(decision, row, user=request.user, fields=fields, digest=self.digest(row))


def _asked_for(request: Any) -> frozenset[tuple[str, str, str]]:
    """Return what waits for a second member of staff, read once for a page with its many rows."""
    if not hasattr(request, "asked_for"):
        request.asked_for = approvals.asked_for()
    return frozenset(request.asked_for)


class OrderAdmin(SecondedAdmin):
    """The order as this app knows it. The upper apps' admin modules add what they know: `OrderAdmin.extend(…)`.

    `bitloot.staff` registers it, with what needs all of them.
    """

    is_live = counts_statuses = True
    quiet = (decisions.HOLD, decisions.MAIL_FRESH_LINK, decisions.CORRECT_EMAIL)
    decisions = (
        decisions.HOLD,
        decisions.RELEASE,
        decisions.CANCEL,
        decisions.GIVE_BACK,
        decisions.MAIL_FRESH_LINK,
        decisions.CORRECT_EMAIL,
    )
    reasons = (OrderReason,)
    waiting = (
        Waiting(title="Order held", rows=lambda: Order.objects.filter(status=Order.Status.HELD)),
        Waiting(title="Order failed", rows=lambda: Order.objects.filter(status=Order.Status.FAILED)),
    )
    list_display: tuple[str, ...] = (
        "reference",
        "product",
        "customer",
        "amount",
        "state_and_why",
        "placed",
        "time_to_key",
    )
    list_filter = ("status", "created_at")
    search_fields = ("email__icontains",)
    search_ids = ("id", "items__id")
    linked_by = ("placed_with",)
    placed = age_of("created_at", "placed")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        return super().get_queryset(request).prefetch_related("items")

    def orders_of(self, rows: Sequence[Order]) -> list[Order | None]:
        return list(rows)

    @admin.display(description="order", ordering="id")
    def reference(self, order: Order) -> str:
        return str(order.pk)[:8]

    @admin.display(description="product")
    def product(self, order: Order) -> str:
        return order.product_names

    @admin.display(description="e-mail", ordering="email")
    def customer(self, order: Order) -> str:
        return address(order.email)

    @admin.display(description="time to key", ordering="fulfilled_at")
    def time_to_key(self, order: Order) -> str:
        if order.paid_at is None or order.fulfilled_at is None:
            return NOTHING
        return span((order.fulfilled_at - order.paid_at).total_seconds())

    @admin.display(description="total", ordering="total")
    def amount(self, order: Order) -> str:
        return f"{order.total} {order.currency}"


@admin.register(OrderItem)
class OrderItemAdmin(ReadOnlyAdmin):
    in_finder = False  # its id finds the order
    list_display = ("__str__", "order_link", "product_link", "unit_price")
    search_fields = ("order__email__iexact",)
    search_ids = ("id", "order_id")
    ordering = ("-order__created_at",)
    linked_by = ("order", "product")
    list_select_related = ("order", "product")
    fieldsets = ((None, {"fields": ("id", "order_link", "product_link", "title", "quantity", "unit_price", "more")}),)
    order_link = link_to("order", "order")
    product_link = link_to("product", "product")

    @admin.display(description="more")
    def more(self, item: OrderItem) -> str:
        return list_link("storage.key", "keys of this item", item=item.pk)


class EventKindFilter(OneOf):
    title = parameter_name = "kind"
    words = ("order", "payment", "reservation", "key", "mail", "refund", "staff")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(kind), OrderEvent(kind=kind).kind_in_words) for kind in self.words]


@admin.register(OrderEvent)
class OrderEventAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("message", "moment", "order_link", "about", "change", "actor")
    list_filter = (EventKindFilter, "at")
    search_fields = ("actor",)
    search_ids = ("order_id",)
    linked_by = ("order",)
    ordering = ("-id",)
    list_select_related = ("order",)
    fieldsets = ((None, {"fields": ("moment", "order_link", "about", "change", "message", "actor")}),)
    moment = age_of("at", "when")
    order_link = link_to("order", "order")

    @admin.display(description="kind", ordering="kind")
    def about(self, event: OrderEvent) -> str:
        return event.kind_in_words

    @admin.display(description="from → to")
    def change(self, event: OrderEvent) -> str:
        return change_of(event)


@admin.register(Email)
class EmailAdmin(DecisionAdmin):
    list_name = "mails"
    is_live = True
    decisions = (decisions.SEND_AGAIN,)
    list_display = ("name", "recipient", "state", "order_link", "queued", "sent", "attempts", "error")
    list_filter = ("status", "kind", "created_at")
    search_fields = ("to__iexact",)
    search_ids = ("order_id", "request_id")
    linked_by = ("order",)
    list_select_related = ("order",)
    fieldsets = (
        (None, {"fields": ("kind", "to", "state", "order_link", "reason", "error")}),
        ("Times", {"fields": ("queued", "sent", ("attempts", "due"))}),
    )
    order_link = link_to("order", "order")
    queued = age_of("created_at", "queued")
    sent = age_of("sent_at", "sent")
    due = age_of("next_attempt_at", "next try")

    @admin.display(description="to", ordering="to")
    def recipient(self, mail: Email) -> str:
        return address(mail.to)

    @admin.display(description="mail", ordering="kind")
    def name(self, mail: Email) -> str:
        return mail.title


@admin.register(Alert)
class AlertAdmin(DecisionAdmin):
    is_live = True
    decisions = (decisions.CLOSE,)
    waiting = (
        Waiting(
            title="Alert",
            rows=lambda: Alert.objects.filter(status=Alert.Status.OPEN).select_related("order"),
            since="opened_at",
        ),
    )
    list_display = ("name", "about_link", "state", "what", "order_link", "times", "last", "opened")
    list_filter = ("status", "kind", "last_at")
    search_fields = ("about_pk__icontains",)
    search_ids = ("order_id",)
    linked_by = ("order",)
    list_select_related = ("order",)
    fieldsets = (
        (None, {"fields": ("kind", "about_link", "what", "what_to_do", "state", "order_link", "times")}),
        ("Times", {"fields": ("opened", "last", ("notices", "told_next"), ("closed", "closed_by"))}),
    )
    order_link = link_to("order", "order")
    opened = age_of("opened_at", "opened")
    last = age_of("last_at", "last seen")
    closed = age_of("closed_at", "closed")

    @admin.display(description="alert", ordering="kind")
    def name(self, alert: Alert) -> str:
        return short(alert)

    @admin.display(description="staff are told next")
    def told_next(self, alert: Alert) -> str:
        return age(alert.notify_at if alert.status == Alert.Status.OPEN else None)

    @admin.display(description="what to do")
    def what_to_do(self, alert: Alert) -> str:
        name, url = _name_in_runbook(alert), self._runbook(alert)
        remedy = runbook.remedy(name, "alert") or runbook.remedy(name, "reservation")
        return format_html('{}. <a href="{}">In the runbook</a>', capfirst(remedy), url) if url else NOTHING

    def ways(self, row: Alert) -> list[tuple[str, str]]:
        url = self._runbook(row)
        return [("What to do", url)] if url else []

    def _runbook(self, alert: Alert) -> str:
        return runbook.url_of(_name_in_runbook(alert), "alert", "reservation")

    def heading(self, row: Alert, title: str) -> str:
        return row.get_kind_display()

    def repeats(self, row: Alert, others: Sequence[Any]) -> bool:
        """An alert about a row that waits anyway says nothing more, but for who of us held an order, and why."""
        return row.kind != AlertKind.ORDER_HELD and any(row.about_pk == str(other.pk) for other in others)

    def concern(self, alert: Alert) -> str:
        return alert.said if alert.status == Alert.Status.OPEN else ""

    @admin.display(description="message")
    def what(self, alert: Alert) -> str:
        return alert.said

    @admin.display(description="about", ordering="about_pk")
    def about_link(self, alert: Alert) -> str:
        if not alert.about_path:
            return alert.about
        return format_html('<a href="{}">{}</a>', alert.about_path, short(alert.about))


@admin.register(Approval)
class ApprovalAdmin(DecisionAdmin):
    is_live = counts_statuses = True
    decisions = (approvals.APPROVE, approvals.DECLINE)
    waiting = (
        Waiting(
            title="To approve",
            rows=lambda: Approval.objects.filter(status=Approval.Status.WAITING).select_related("order"),
            since="requested_at",
        ),
    )
    list_display = ("label", "state", "order_link", "requested_by", "requested", "approved_by", "approved")
    list_filter = ("status", "requested_at")
    search_fields = ("requested_by__username", "approved_by__username")
    search_ids = ("id", "order_id")
    linked_by = ("order",)
    list_select_related = ("order", "requested_by", "approved_by")
    fieldsets = (
        (None, {"fields": ("label", "state", "about_link", "order_link")}),
        ("Who", {"fields": (("requested_by", "requested"), ("approved_by", "approved"))}),
    )
    order_link = link_to("order", "order")
    requested = age_of("requested_at", "asked for")
    approved = age_of("approved_at", "approved")

    @admin.display(description="about")
    def about_link(self, approval: Approval) -> str:
        return link(approval.about)

    def concern(self, approval: Approval) -> str:
        if approval.status != Approval.Status.WAITING:
            return ""
        asker = approval.requested_by.get_username()
        asked = f"{asker} asks for “{approval.label}”. Someone else has to approve or decline it."
        return approvals.objection_to_approval(approval) or asked

    def facts(self, approval: Approval) -> str:
        """Show what the one who asked saw and typed."""
        page, row = approvals.page_of(approval), approval.about
        shown = {
            "approval": approval,
            "typed": _typed(approval),
            "row": link(row),
            "concern": page.concern(row),
            "facts": page.facts(row),
        }
        return render_to_string("admin/orders/approval.html", shown)

    def objection(self, request: HttpRequest, row: Approval, decision: Decision[Any]) -> str | None:
        own = approvals.objection_to_approver(row, request.user) if decision is approvals.APPROVE else None
        return own or super().objection(request, row, decision)

    def carry_out(self, request: HttpRequest, row: Any, decision: Decision[Any], fields: dict[str, Any]) -> str:
        done = super().carry_out(request, row, decision, fields)
        # On the page of the row that was decided about as well, where the next one looks for it.
        asked = row.requested_by.get_username()
        words = f"{decision.label}: “{row.label}”, which {asked} asked for."
        LogEntry.objects.log_actions(cast(int, request.user.pk), [row.about], CHANGE, words)
        return done


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    is_live = True
    list_display = ("name", "channel", "state", "queued", "sent", "attempts", "error")
    list_filter = ("status", "created_at")
    linked_by = ("alert",)
    search_ids = ("request_id",)
    search_fields = ("channel",)
    list_select_related = ("alert",)
    fieldsets = (
        (None, {"fields": ("alert_link", "number", "channel", "state", "error")}),
        ("Times", {"fields": ("queued", "sent", ("attempts", "due"))}),
    )
    alert_link = link_to("alert", "alert")
    queued = age_of("created_at", "queued")
    sent = age_of("sent_at", "sent")
    due = age_of("next_attempt_at", "next try")

    @admin.display(description="alert", ordering="alert")
    def name(self, notification: Notification) -> str:
        return str(notification.alert)


@admin.register(AlertChannel)
class AlertChannelAdmin(ReadOnlyAdmin):
    list_display = ("name", "delivered", "failed", "error")
    search_fields = ("name",)
    fieldsets = ((None, {"fields": ("name", "delivered", "failed", "error")}),)
    delivered = age_of("delivered_at", "last delivered")
    failed = age_of("failed_at", "last failed")


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin):
    """The whole Idempotency-Key is not shown: with the body it was sent with, it brings the order's token again."""

    in_finder = False
    list_display = ("start", "route", "made", "created")
    list_filter = ("created_at",)
    search_ids = ("object_id",)
    search_fields = ("key",)
    fieldsets = ((None, {"fields": ("route", "start", "made", "created")}),)
    created = age_of("created_at", "first used")

    @admin.display(description="key")
    def start(self, record: IdempotencyRecord) -> str:
        return f"{record.key[:4]}…"

    @admin.display(description="made")
    def made(self, record: IdempotencyRecord) -> str:
        if record.object_id is None:
            return NOTHING
        return link(Order(pk=record.object_id)) if record.route.partition(":")[0] == "orders" else str(record.object_id)


@admin.register(AccessCode)
class AccessCodeAdmin(ReadOnlyAdmin):
    """That a code was handed out, and used; the code itself is in no row."""

    in_finder = False
    list_display = ("__str__", "kind", "order_link", "created", "ended", "tries")
    list_filter = ("kind", "created_at")
    search_ids = ("id", "order_id")
    linked_by = ("order",)
    list_select_related = ("order",)
    fieldsets = ((None, {"fields": ("kind", "order_link", "created", "ended", "tries")}),)
    order_link = link_to("order", "order")
    created = age_of("created_at", "made")
    ended = age_of("ended_at", "used or replaced")


def _typed(approval: Approval) -> list[tuple[str, Any]]:
    """Return what was typed and chosen, in the words of the decision's form."""
    known = approvals.page_of(approval).decisions
    # A decision of an earlier version may be gone.
    form = next((decision.form for decision in known if decision.name == approval.decision), None)
    fields = form.base_fields if form else {}
    return [
        (_label_of(fields.get(name), name), dict(getattr(fields.get(name), "choices", ())).get(value, value))
        for name, value in approval.fields.items()
        if value
    ]


def _label_of(field: Any, name: str) -> str:
    return str(getattr(field, "label", None) or pretty_name(name))


def _name_in_runbook(alert: Alert) -> str:
    """Return the kind, or the reason with which an alert about a purchase begins."""
    if alert.kind == AlertKind.RESERVATION and alert.message.startswith("["):
        return alert.message.partition("]")[0].lstrip("[")
    return alert.kind


def change_of(event: OrderEvent) -> str:
    """Show a move from status to status; empty for a fact that moved nothing."""
    if not event.to_status:
        return ""
    start = f"{event.from_status.replace('_', ' ')} →" if event.from_status else ""
    return format_html("{} {}", start, badge(event.to_status, _tone_of_move(event)))


def _tone_of_move(event: OrderEvent) -> Tone:
    """Return the tone from the model that writes this kind of line; it may stand in an upper app."""
    moving: list[Any] = [model for model in apps.get_models() if issubclass(model, StatusRow)]
    return next((row.Status.tone_for(event.to_status) for row in moving if event.kind == row.TIMELINE_KIND), Tone.CALM)

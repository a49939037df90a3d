from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from bitloot.core.admin.base import OneOf, ReadOnlyAdmin, ReadOnlyInline, Refused, StoreAdmin
from bitloot.core.admin.decisions import Decision, DecisionAdmin
from bitloot.core.admin.formatting import NOTHING, age_of, badge, link, link_to, list_link, short
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind, OrderReason
from orders.exceptions import InvalidTransition
from orders.models import (
    Alert,
    AlertChannel,
    Email,
    IdempotencyRecord,
    Notification,
    Order,
    OrderEvent,
    OrderItem,
    Product,
)
from orders.services import renew_link


@admin.register(Product)
class ProductAdmin(StoreAdmin):
    list_display = ("title", "platform", "region", "key_type", "price", "max_cost", "margin", "is_active")
    list_filter = ("is_active", "key_type", "platform")
    search_fields = ("title__icontains", "slug", "supplier_product_id", "supplier_offer_id")
    search_ids = ("id",)
    prepopulated_fields = {"slug": ("title",)}
    readonly_fields = ("id", "currency", "created", "margin")
    fieldsets = (
        (None, {"fields": ("title", "slug", "is_active", "description", "cover")}),
        ("Key", {"fields": ("platform", "region", "key_type", "activation")}),
        ("Money", {"fields": (("price", "currency"), "max_cost", "min_margin", "margin")}),
        ("Supplier", {"fields": ("supplier_product_id", "supplier_offer_id", "stock_wait_hours")}),
        ("Row", {"fields": ("id", "created")}),
    )
    created = age_of("created_at", "added")

    @admin.display(description="least margin")
    def margin(self, product: Product) -> Decimal | str:
        """What is left of the price if the supplier charges all that we allow."""
        return product.price - product.max_cost if product.pk and product.max_cost is not None else NOTHING


class EventInline(ReadOnlyInline):
    model = OrderEvent
    verbose_name_plural = "timeline"
    fields = ("moment", "kind", "change", "message", "actor")
    moment = age_of("at", "when")

    @admin.display(description="from → to")
    def change(self, event: OrderEvent) -> str:
        return change_of(event)


class EmailInline(ReadOnlyInline):
    model = Email
    fields = ("page", "kind", "state", "reason", "queued", "sent", "error")
    queued = age_of("created_at", "queued")
    sent = age_of("sent_at", "sent")


class AlertInline(ReadOnlyInline):
    model = Alert
    fields = ("page", "state", "message", "times", "last")
    tones = {"open": "bad"}
    last = age_of("last_at", "last seen")


CAN_BE_HELD = ("pending", "underpaid", "paid", "fulfilling", "partially_fulfilled")
ARRIVED = ("partially_paid", "review", "finished")
SEEN = ("confirming", "confirmed", "sending", *ARRIVED)


def _saw_payment(order: Order, *steps: str) -> bool:
    return order.paid_at is not None or order.events.filter(kind="payment", to_status__in=steps).exists()


def _can_be_released(order: Order) -> bool:
    return order.status == Order.Status.HELD and order.reason == OrderReason.HELD_BY_STAFF and order.paid_at is not None


def _can_be_cancelled(order: Order) -> bool:
    return Order.Status.CANCELLED in Order.TRANSITIONS[order.status] and not _saw_payment(order, *SEEN)


def _can_be_owed_back(order: Order) -> bool:
    return Order.Status.REFUND_DUE in Order.TRANSITIONS[order.status] and _saw_payment(order, *ARRIVED)


def _hold(order: Order, actor: str, fields: dict[str, str]) -> str:
    order.hold(reason=OrderReason.HELD_BY_STAFF, message="Our staff stopped this order to look at it.", actor=actor)
    message = f"{actor} holds {order}: {fields['reason']}. Decide about it."
    raise_alert(AlertKind.ORDER_HELD, order, message, order=order)
    return "held. Nothing more is bought for it until you decide; purchases that are out are still followed."


def _release(order: Order, actor: str, _: dict[str, str]) -> str:
    order.mark_fulfilling()
    return "let go on. What it waits for is bought within a minute."


def _cancel(order: Order, actor: str, _: dict[str, str]) -> str:
    order.cancel(message="Our staff cancelled this order.", actor=actor)
    return "cancelled. Money that still comes for it waits for a person."


def _owe_back(order: Order, actor: str, _: dict[str, str]) -> str:
    order.mark_refund_due(
        reason=OrderReason.DECIDED_BY_STAFF, message="The money for this order goes back.", actor=actor
    )
    return "its money goes back. The customer is asked for an address for every payment; keys not yet bought are not."


def _noted(
    possible: Callable[[Order], bool], decide: Callable[[Order, str, dict[str, str]], str]
) -> Callable[[Order, str, dict[str, str]], str]:
    """Check once more under the order's lock, and keep the reason where the customer does not read it."""

    def decided(order: Order, actor: str, fields: dict[str, str]) -> str:
        if not possible(order):
            raise Refused(f"it is “{order.get_status_display()}” by now, and that is not possible (any more).")
        try:
            said = decide(order, actor, fields)
        except InvalidTransition as err:
            raise Refused("it moved on meanwhile. Look at it again.") from err
        order.note("staff", fields["reason"], actor=actor)
        if order.status != Order.Status.HELD:
            close_alert(AlertKind.ORDER_HELD, order, by=actor)
        return said

    return decided


def _can_be_held(order: Order) -> bool:
    return order.status in CAN_BE_HELD


@admin.register(Order)
class OrderAdmin(DecisionAdmin):
    """The order as this app knows it; `bitloot.staff.site` adds what the upper apps know of it."""

    is_live = counts_statuses = True
    decision_permission = "orders.settle_order"
    decisions = (
        Decision(
            "hold", "Hold", "The order stops until a person decides; an alert stays open for it.",
            _can_be_held, _noted(_can_be_held, _hold),
        ),
        Decision(
            "release", "Let it go on", "The order goes on where it was held, at today's price and cap.",
            _can_be_released, _noted(_can_be_released, _release),
        ),
        Decision(
            "cancel", "Cancel", "The order ends. No money was seen for it; what still comes waits for a person.",
            _can_be_cancelled, _noted(_can_be_cancelled, _cancel),
        ),
        Decision(
            "money-back", "Money goes back",
            "Every payment of this order gets a refund, and what was not bought is not bought any more. Keys that the"
            " customer has stay with them.",
            _can_be_owed_back, _noted(_can_be_owed_back, _owe_back),
        ),
    )  # fmt: skip
    list_display = ("reference", "email", "state", "reason", "amount", "placed", "paid", "fulfilled")
    list_filter: ClassVar[Any] = ("status", "created_at")
    search_fields = ("email__icontains",)
    search_ids = ("id",)
    actions: Any = ("mail_fresh_link",)
    inlines: ClassVar[Any] = (EventInline, EmailInline, AlertInline)
    fieldsets: ClassVar[tuple[Any, ...]] = (
        (None, {"fields": ("id", "email", ("state", "reason"), "fulfillment", "amount")}),
        ("Times", {"fields": (("placed", "expires"), ("paid", "fulfilled"))}),
    )
    placed = age_of("created_at", "placed")
    expires = age_of("expires_at", "payable until")
    paid = age_of("paid_at", "paid")
    fulfilled = age_of("fulfilled_at", "fulfilled")

    @admin.display(description="order", ordering="id")
    def reference(self, order: Order) -> str:
        return short(order)

    @admin.display(description="total", ordering="total")
    def amount(self, order: Order) -> str:
        return f"{order.total} {order.currency}"

    @admin.display(description="fulfilment, as the customer reads it")
    def fulfillment(self, order: Order) -> str:
        return f"{order.fulfillment_word}. {order.customer_error or ''}"

    def has_deliver_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orders.deliver_order")

    @admin.action(description="Mail a fresh link", permissions=["deliver"])
    def mail_fresh_link(self, request: HttpRequest, orders: QuerySet[Order]) -> None:
        def renew(order: Order) -> None:
            renew_link(order, actor=request.user.get_username())

        self.act(request, orders, renew, done="a fresh link goes to the customer; older links no longer open the order")


@admin.register(OrderItem)
class OrderItemAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "order_link", "product_link", "unit_price")
    search_fields = ("title__icontains",)
    search_ids = ("id", "order_id")
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
    values = ("order", "payment", "reservation", "key", "mail", "refund", "staff")


@admin.register(OrderEvent)
class OrderEventAdmin(ReadOnlyAdmin):
    list_display = ("message", "moment", "order_link", "kind", "change", "actor")
    list_filter = (EventKindFilter, "at")
    search_fields = ("actor",)
    search_ids = ("order_id",)
    linked_by = ("order",)
    ordering = ("-id",)
    list_select_related = ("order",)
    fieldsets = ((None, {"fields": ("moment", "order_link", "kind", "change", "message", "actor")}),)
    moment = age_of("at", "when")
    order_link = link_to("order", "order")

    @admin.display(description="from → to")
    def change(self, event: OrderEvent) -> str:
        return change_of(event)


@admin.register(Email)
class EmailAdmin(ReadOnlyAdmin):
    is_live = True
    list_display = ("name", "to", "state", "order_link", "queued", "sent", "attempts", "error")
    list_filter = ("status", "kind", "created_at")
    search_fields = ("to__icontains",)
    search_ids = ("order_id",)
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

    @admin.display(description="mail", ordering="kind")
    def name(self, mail: Email) -> str:
        return mail.get_kind_display()


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    is_live = True
    tones = {"open": "bad"}
    list_display = ("name", "about_link", "state", "message", "order_link", "times", "last", "opened")
    list_filter = ("status", "kind", "last_at")
    search_fields = ("about_pk__icontains",)
    search_ids = ("order_id",)
    linked_by = ("order",)
    list_select_related = ("order",)
    actions = ("close",)
    fieldsets = (
        (None, {"fields": ("kind", "about_link", "message", "state", "order_link", "times")}),
        ("Times", {"fields": ("opened", "last", ("closed", "closed_by"))}),
    )
    order_link = link_to("order", "order")
    opened = age_of("opened_at", "opened")
    last = age_of("last_at", "last seen")
    closed = age_of("closed_at", "closed")

    @admin.display(description="about", ordering="kind")
    def name(self, alert: Alert) -> str:
        return short(alert)

    @admin.display(description="about", ordering="about_pk")
    def about_link(self, alert: Alert) -> str:
        if not alert.about_path:
            return alert.about
        return format_html('<a href="{}">{}</a>', alert.about_path, short(alert.about))

    def has_close_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orders.change_alert")

    @admin.action(description="Close: it is taken care of", permissions=["close"])
    def close(self, request: HttpRequest, alerts: QuerySet[Alert]) -> None:
        def close_one(alert: Alert) -> None:
            if not alert.close(by=request.user.get_username()):
                raise Refused("closed already; nothing was changed")

        self.act(
            request, alerts, close_one, done="closed; it opens again, with a mail, if the same thing happens again"
        )


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    is_live = True
    list_display = ("name", "channel", "state", "queued", "sent", "attempts", "error")
    list_filter = ("status", "created_at")
    linked_by = ("alert",)
    search_fields = ("channel",)
    list_select_related = ("alert",)
    fieldsets = (
        (None, {"fields": ("alert_link", "channel", "state", "error")}),
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
        return link(Order(pk=record.object_id)) if record.route == "orders" else str(record.object_id)


def change_of(event: Any) -> str:
    """Show a move from status to status; empty for a fact that moved nothing."""
    if not event.to_status:
        return ""
    return format_html("{} {}", f"{event.from_status} →" if event.from_status else "", badge(event.to_status))

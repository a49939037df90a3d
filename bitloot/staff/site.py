"""What only the whole store can show: the admin's first page, an order with all that hangs on it, the staff's log."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.admin.models import LogEntry
from django.core.cache import cache
from django.db.models import Min, Model, Prefetch, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join

from bitloot.core.admin.base import OneOf, ReadOnlyAdmin, ReadOnlyInline, Refused, StoreAdmin
from bitloot.core.admin.formatting import NOTHING, age, age_of, badge, link, list_link, list_url
from bitloot.core.api import client_address
from bitloot.core.money import plain
from bitloot.core.queue import QueueRow
from fulfillment.choices import HoldReason
from fulfillment.exceptions import NotDeliverable
from fulfillment.models import Reservation, SupplierGate
from fulfillment.services import run_order
from orders.admin import OrderAdmin
from orders.choices import OrderReason
from orders.models import Alert, Email, Notification, Order, OrderItem
from orders.notifications import LastDelivery, last_deliveries
from payments.choices import ReviewReason
from payments.models import Payment
from storage.admin import SEALED
from storage.models import Key, KeyDeliveryLog
from webhooks.models import WebhookLog

WRONG_PASSWORDS = 10
LOCKED_SECONDS = 15 * 60
ALERTS_SHOWN = 8
FOUND_PER_LIST = 5
LATE_SECONDS = 60
MAX_WAITING = 1_000
QUEUES: tuple[type[QueueRow], ...] = (WebhookLog, Payment, Reservation, Key, Email, Notification)


@dataclass(frozen=True)
class Concern:
    """A pile of rows that wait for a person."""

    title: str
    count: int
    oldest: str
    url: str


@dataclass(frozen=True)
class Queue:
    name: str
    waiting: str
    oldest: str
    is_late: bool


class PatientLoginForm(AdminAuthenticationForm):
    """Locks a name for one client's address after ten wrong passwords; the owner comes in from elsewhere."""

    def clean(self) -> dict[str, Any]:
        name = str(self.cleaned_data.get("username", "")).lower()
        address = client_address(self.request) if self.request else ""
        key = "staff-login:" + sha256(f"{name}|{address}".encode()).hexdigest()
        if (cache.get(key) or 0) >= WRONG_PASSWORDS:
            raise forms.ValidationError("Too many wrong passwords. Wait a quarter of an hour, then try again.")
        try:
            return super().clean()
        except forms.ValidationError:
            cache.set(key, (cache.get(key) or 0) + 1, LOCKED_SECONDS)
            raise


admin.site.login_form = PatientLoginForm
admin.site.site_header = admin.site.site_title = "BitLoot staff"
admin.site.index_title = "What needs a person"
admin.site.empty_value_display = NOTHING
admin.site.enable_nav_sidebar = False  # the lists are wide; the header leads to them


# --- an order with all that hangs on it ---


class ItemInline(ReadOnlyInline):
    model = OrderItem
    fields = ("page", "unit_price", "purchase", "keys")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        hidden = [field for field, model in (("purchase", Reservation), ("keys", Key)) if not _may_see(request, model)]
        return [field for field in self.fields if field not in hidden]

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrderItem]:
        rows = super().get_queryset(request).select_related("reservation")
        return rows.prefetch_related(_sealed_keys())

    @admin.display(description="purchase")
    def purchase(self, item: OrderItem) -> str:
        reservation = getattr(item, "reservation", None)
        if reservation is None:
            return NOTHING
        return format_html(
            "{} {} {}", link(reservation), badge(reservation.status), reservation.supplier_order_id or ""
        )

    @admin.display(description="keys")
    def keys(self, item: OrderItem) -> str:
        rows = ((link(key), badge(key.status)) for key in item.keys.all())
        return format_html_join(" ", "{} {}", rows) or NOTHING


def _sealed_keys() -> Any:
    return Prefetch("keys", Key.objects.defer(*SEALED))


class PaymentInline(ReadOnlyInline):
    model = Payment
    fields = ("page", "state", "reason", "asked", "arrived", "begun", "read")
    begun = age_of("created_at", "begun")
    read = age_of("read_at", "last asked")

    @admin.display(description="asked")
    def asked(self, payment: Payment) -> str:
        return NOTHING if payment.pay_amount is None else f"{plain(payment.pay_amount)} {payment.pay_currency.upper()}"

    @admin.display(description="arrived")
    def arrived(self, payment: Payment) -> str:
        return f"{plain(payment.actually_paid)} {payment.pay_currency.upper()}"


class DeliveryInline(ReadOnlyInline):
    model = KeyDeliveryLog
    fields = ("page", "state", "customer_email", "times_accessed", "accessed", "expires")
    accessed = age_of("last_accessed_at", "last opened")
    expires = age_of("expires_at", "retention ends")


class OrderReasonFilter(OneOf):
    """An order that stopped for one of its payments or purchases carries the reason of that row."""

    title = parameter_name = "reason"
    values = tuple(dict.fromkeys([*OrderReason.values, *HoldReason.values, *ReviewReason.values]))


admin.site.unregister(Order)


@admin.register(Order)
class WholeOrderAdmin(OrderAdmin):
    actions = (*OrderAdmin.actions, "run_delivery")
    list_filter = (*OrderAdmin.list_filter, OrderReasonFilter)
    inlines = (ItemInline, PaymentInline, *OrderAdmin.inlines, DeliveryInline)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        places = [("webhooks", WebhookLog), ("reservations", Reservation)]
        elsewhere = [field for field, model in places if _may_see(request, model)]
        return (*self.fieldsets, ("Elsewhere", {"fields": (*elsewhere, "link_generation")}))

    @admin.display(description="webhooks")
    def webhooks(self, order: Order) -> str:
        purchases = Reservation.objects.filter(item__order=order).values_list("external_id", "supplier_order_id")
        names = [name for pair in purchases for name in pair if name]
        names += [name for name in order.payments.values_list("external_id", flat=True) if name]
        if not names:
            return "No provider knows of this order yet."
        return list_link("webhooks.webhooklog", "what the providers sent about it", external_id__in=",".join(names))

    @admin.display(description="purchases and keys")
    def reservations(self, order: Order) -> str:
        purchases = list_link("fulfillment.reservation", "reservations", item__order=order.pk)
        return format_html("{}, {}", purchases, list_link("storage.key", "keys", item__order=order.pk))

    @admin.action(description="Run the delivery now", permissions=["deliver"])
    def run_delivery(self, request: HttpRequest, orders: QuerySet[Order]) -> None:
        def run(order: Order) -> None:
            try:
                run_order(order, actor=request.user.get_username())
            except NotDeliverable as err:
                raise Refused("it is not paid, or its money goes back; nothing was changed") from err

        self.act(request, orders, run, done="every item that is not delivered is looked at within seconds")


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """What staff did here."""

    list_display = ("what", "moment", "user", "about")
    list_filter = ("action_time", "action_flag")
    search_fields = ("user__username", "object_id", "object_repr__icontains")
    list_select_related = ("user", "content_type")
    fieldsets = ((None, {"fields": ("moment", "user", "about", "what")}),)
    moment = age_of("action_time", "when")

    @admin.display(description="what")
    def what(self, entry: LogEntry) -> str:
        return entry.get_change_message() or entry.get_action_flag_display()

    @admin.display(description="about")
    def about(self, entry: LogEntry) -> str:
        url = entry.get_admin_url() if entry.object_id else None
        return format_html('<a href="{}">{}</a>', url, entry.object_repr) if url else entry.object_repr


# --- the first page ---


def first_page(request: HttpRequest) -> dict[str, Any]:
    """Return what needs a person, as far as this one may see it."""
    may_see_alerts = request.user.has_perm("orders.view_alert")
    alerts = Alert.objects.filter(status=Alert.Status.OPEN).select_related("order").order_by("-last_at")
    may_see_gates = request.user.has_perm("fulfillment.view_suppliergate")
    return {
        "alerts": [_alert(alert) for alert in alerts[:ALERTS_SHOWN]] if may_see_alerts else [],
        "alert_count": alerts.count() if may_see_alerts else 0,
        "alerts_url": list_url("orders.alert", status__exact="open"),
        "may_see_alerts": may_see_alerts,
        "channels": [_channel(channel) for channel in last_deliveries()] if may_see_alerts else [],
        "concerns": list(_concerns(request)),
        "queues": [_queue(model) for model in QUEUES if _may_see(request, model)],
        "gates": [_gate(gate) for gate in SupplierGate.objects.order_by("host")] if may_see_gates else [],
        "may_see_gates": may_see_gates,
        "safe_mode": settings.SAFE_MODE,
    }


def find(request: HttpRequest, term: str) -> list[dict[str, Any]]:
    """Look an id or an address up in every list that this person may see."""
    found = []
    for model, page in admin.site._registry.items():
        if isinstance(page, StoreAdmin) and model is not LogEntry and page.has_view_permission(request):
            rows, _ = page.get_search_results(request, page.get_queryset(request), term)
            if links := [link(row) for row in rows[:FOUND_PER_LIST]]:
                url = list_url(model._meta.label_lower, q=term)
                found.append({"name": model._meta.verbose_name_plural, "links": links, "url": url})
    return found


def _concerns(request: HttpRequest) -> Iterator[Concern]:
    piles: list[tuple[str, type[Model], list[str], str]] = [
        ("orders held", Order, ["held"], "created_at"),
        ("orders whose money is owed back", Order, ["refund_due"], "created_at"),
        ("payments in review", Payment, ["review"], "created_at"),
        ("purchases held", Reservation, ["held"], "created_at"),
        ("purchases nobody knows the end of", Reservation, ["unknown"], "created_at"),
        ("webhooks that failed", WebhookLog, ["failed"], "received_at"),
    ]
    for title, model, statuses, since in piles:
        if _may_see(request, model):
            rows = model._default_manager.filter(status__in=statuses).order_by()
            count, oldest = rows.count(), rows.aggregate(oldest=Min(since))["oldest"]
            url = list_url(model._meta.label_lower, status__in=",".join(statuses))
            yield Concern(title, count, age(oldest), url)


def _queue(model: type[QueueRow]) -> Queue:
    rows = model._default_manager.filter(next_attempt_at__lte=Now()).order_by("next_attempt_at")
    waiting, oldest = rows[: MAX_WAITING + 1].count(), rows.values_list("next_attempt_at", flat=True).first()
    is_late = oldest is not None and (timezone.now() - oldest).total_seconds() > LATE_SECONDS
    shown = f"{MAX_WAITING}+" if waiting > MAX_WAITING else str(waiting)
    return Queue(str(model._meta.verbose_name_plural), shown, age(oldest), is_late)


def _alert(alert: Alert) -> dict[str, Any]:
    about = link(alert.order) if alert.order else ""
    return {
        "link": link(alert, alert.kind.replace("_", " ")),
        "alert": alert,
        "order": about,
        "last": age(alert.last_at),
    }


def _channel(last: LastDelivery) -> dict[str, Any]:
    return {"name": last.channel, "delivered": age(last.delivered_at), "error": last.error}


def _gate(gate: SupplierGate) -> dict[str, Any]:
    return {"link": link(gate, gate.host), "state": badge(gate.status), "gate": gate, "changed": age(gate.changed_at)}


def _may_see(request: HttpRequest, model: type[Model]) -> bool:
    meta = model._meta
    return any(request.user.has_perm(f"{meta.app_label}.{verb}_{meta.model_name}") for verb in ("view", "change"))

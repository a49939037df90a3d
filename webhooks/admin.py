import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join

from bitloot.core.admin.base import OneOf
from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.admin.formatting import NOTHING, age_of, link, list_link, short
from bitloot.core.admin.panels import Waiting
from fulfillment.kinguin import EVENT_TYPES
from fulfillment.models import Reservation
from orders.admin import OrderAdmin
from orders.models import Order
from payments.models import Payment
from payments.nowpayments import STATUSES
from webhooks.models import WebhookLog
from webhooks.services import BODY_FORGOTTEN, REPLAY

DEEPEST_INDENT = 30
BYTES_PER_LINE = 16
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


class EventTypeFilter(OneOf):
    title = "event type"
    parameter_name = "event_type"
    words = (*STATUSES, *EVENT_TYPES)


@admin.register(WebhookLog)
class WebhookLogAdmin(DecisionAdmin):
    is_live = counts_statuses = True
    decisions = (REPLAY,)
    waiting = (
        Waiting(
            title="Webhook failed",
            rows=lambda: WebhookLog.objects.filter(status=WebhookLog.Status.FAILED).defer("body"),
            since="received_at",
        ),
    )
    list_display = ("event", "provider", "state", "external_link", "what_came", "received", "repeats", "replays", "due")
    list_filter = ("status", "provider", "received_at", EventTypeFilter)
    search_fields = ("external_id", "event_type")
    search_ids = ("request_id",)
    search_numbers = ("id",)
    linked_by = ("external_id",)
    fieldsets = (
        (None, {"fields": ("provider", "event_type", "external_id", "about", "state", "outcome", "request_id")}),
        ("Payload", {"fields": ("payload",), "classes": ("payload",)}),
        ("Headers kept", {"fields": ("headers_text",)}),
        ("Times", {"fields": (("received", "processed"), ("due", "attempts", "crashes"), ("repeats", "replays"))}),
    )
    received = age_of("received_at", "received")
    processed = age_of("processed_at", "processed")
    due = age_of("next_attempt_at", "next try")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookLog]:
        # Lists show no bodies; a page reads its own one.
        return super().get_queryset(request).defer("body")

    def concern(self, log: WebhookLog) -> str:
        return f"It could not be handled: {log.outcome}" if log.status == WebhookLog.Status.FAILED else ""

    def orders_of(self, rows: Sequence[WebhookLog]) -> list[Order | None]:
        names = {log.external_id for log in rows if log.external_id}
        payments = Payment.objects.filter(external_id__in=names).select_related("order")
        ours = Q(external_id__in=names) | Q(supplier_order_id__in=names)
        found = {payment.external_id: payment.order for payment in payments}
        for reservation in Reservation.objects.filter(ours).select_related("item__order"):
            found |= dict.fromkeys((reservation.external_id, reservation.supplier_order_id), reservation.item.order)
        return [found.get(log.external_id) if log.external_id else None for log in rows]

    @admin.display(description="event", ordering="event_type")
    def event(self, log: WebhookLog) -> str:
        return f"{log.pk}: {log.event_type or 'no type'}"

    @admin.display(description="external id", ordering="external_id")
    def external_link(self, log: WebhookLog) -> str:
        if not log.external_id:
            return NOTHING
        page = "payments.payment" if log.provider == WebhookLog.Provider.NOWPAYMENTS else "fulfillment.reservation"
        return list_link(page, short(log.external_id), q=log.external_id)

    @admin.display(description="outcome", ordering="outcome")
    def what_came(self, log: WebhookLog) -> str:
        return short(log.outcome)

    @admin.display(description="about")
    def about(self, log: WebhookLog) -> str:
        rows = [row for rows in _named_by(log) for row in rows]
        return format_html_join(", ", "{}", ((row,) for row in rows)) or "Nothing of ours has this id."

    @admin.display(description="body")
    def payload(self, log: WebhookLog) -> str:
        if log.is_body_forgotten:
            return BODY_FORGOTTEN
        return render_to_string("admin/bitloot/payload.html", view_of(bytes(log.body)))

    @admin.display(description="headers")
    def headers_text(self, log: WebhookLog) -> str:
        return format_html("<pre>{}</pre>", visible(json.dumps(log.headers, indent=2, ensure_ascii=False)))


@admin.display(description="webhooks")
def webhooks(order: Order) -> str:
    """Link to what the providers sent about an order, from the order's page."""
    purchases = Reservation.objects.filter(item__order=order).values_list("external_id", "supplier_order_id")
    names = [name for pair in purchases for name in pair if name]
    names += [name for name in order.payments.values_list("external_id", flat=True) if name]
    if not names:
        return "No provider knows of this order yet."
    return list_link("webhooks.webhooklog", "what the providers sent about it", external_id__in=",".join(names))


OrderAdmin.extend(fieldsets=[("Elsewhere", {"fields": (webhooks,)})], of=WebhookLog)


def _named_by(log: WebhookLog) -> list[list[str]]:
    """Return links to what the webhook is about, and to its order."""
    if not log.external_id:
        return []
    payments = Payment.objects.filter(external_id=log.external_id).select_related("order")
    names = Q(external_id=log.external_id) | Q(supplier_order_id=log.external_id)
    reservations = Reservation.objects.filter(names).select_related("item__order")
    return [
        *([link(payment), link(payment.order)] for payment in payments),
        *([link(reservation), link(reservation.item.order)] for reservation in reservations),
    ]


def view_of(body: bytes) -> dict[str, Any]:
    """Return the body for staff: as it came (as hex if it is no text), and indented if it is JSON."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"size": len(body), "hex": hexdump(body)}
    return {"size": len(body), "raw": visible(text), "pretty": visible(indented(text))}


def indented(text: str) -> str:
    """Indent JSON without reading it into values: numbers, repeated members and their order stay as they were sent."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return ""
    lines, depth = [""], 0
    for part in _TOKEN.findall(text):
        if part in "}]":
            depth -= 1
            lines.append(_indent(depth))
        lines[-1] += f"{part} " if part == ":" else part
        depth += part in "{["
        if part in "{[,":
            lines.append(_indent(depth))
    return re.sub(r"([{\[])\n\s*([}\]])", r"\1\2", "\n".join(line.rstrip() for line in lines))


def _indent(depth: int) -> str:
    return "  " * min(depth, DEEPEST_INDENT)


def visible(text: str) -> str:
    """Write characters that hide or reorder others (controls, bidi marks) as their code points."""
    return "".join(f"⟨U+{ord(sign):04X}⟩" if _hides(sign) else sign for sign in text)


def _hides(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co") and sign not in "\n\t"


def hexdump(body: bytes) -> str:
    lines = []
    for start in range(0, len(body), BYTES_PER_LINE):
        part = body[start : start + BYTES_PER_LINE]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:06x}  {part.hex(' '):<{3 * BYTES_PER_LINE}} {shown}")
    return "\n".join(lines)

"""The page of an order: why it waits and what can be decided, its story, and all rows that hang on it."""

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.formats import date_format

from bitloot.core.admin.base import may_view
from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.admin.formatting import NOTHING, age, copyable, link, state_badge
from bitloot.core.admin.panels import Panel
from bitloot.core.money import plain
from bitloot.evidence.pack import pack_of
from bitloot.evidence.pdf import pdf_of
from bitloot.staff.machines import machines
from bitloot.staff.story import Around, story_of
from bitloot.staff.today import today
from bitloot.staff.waits import waits_for
from fulfillment.models import Reservation
from orders.admin import OrderAdmin
from orders.models import Alert, Email, Order
from payments.models import Payment, Refund
from storage.models import Key

MAY_EXPORT = "orders.export_evidence"
MOST = 20  # rows in a card; the lists have all
NEWEST_MAILS = 5  # the others are folded away


@dataclass(frozen=True)
class Card:
    title: str
    rows: list[dict[str, Any]]
    older: list[dict[str, Any]] = field(default_factory=list)  # shown when somebody opens them


@admin.register(Order)
class OrderPage(OrderAdmin):
    list_display = ("reference", "product", "customer", "amount", "coin", "state_and_why", "placed", "time_to_key")
    change_form_template = "admin/bitloot/order.html"
    panels = (
        Panel(title="Today", template="admin/bitloot/today.html", query=today, place=40),
        Panel(title="Machines", template="admin/bitloot/machines.html", query=machines, place=70),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fieldsets(request, obj)[1:]  # what the apps add, which leads to their lists

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        return super().get_queryset(request).prefetch_related("payments")

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view(self.evidence_view), self.view_name("evidence").partition(":")[2]
        return [path("<uuid:object_id>/evidence/", view, name=name), *super().get_urls()]

    def evidence_view(self, request: HttpRequest, object_id: uuid.UUID) -> HttpResponse:
        """Answer with the evidence about the order; the staff log gets the pack's digest, to compare it with later."""
        if request.method != "POST":
            # Each download leaves a line in the log, which no link may write.
            return HttpResponseNotAllowed(["POST"])
        order = get_object_or_404(Order, pk=object_id)
        if not request.user.has_perm(MAY_EXPORT):
            self._forbid(request, "Evidence", str(order.pk), str(order))
        pack = pack_of(order, actor=request.user.get_username())
        kind = "pdf" if request.POST.get("format") == "pdf" else "json"
        body = pdf_of(pack) if kind == "pdf" else json.dumps(pack, indent=2, ensure_ascii=False).encode()
        words = f"Evidence downloaded ({kind}), digest {pack['digest']}"
        LogEntry.objects.log_actions(cast(int, request.user.pk), [order], CHANGE, words)
        answer = HttpResponse(body, content_type=f"application/{kind}")
        answer["Content-Disposition"] = f'attachment; filename="order-{order.pk}.{kind}"'
        return answer

    def concern(self, order: Order) -> str:
        """Return why the order waits, what comes next and by when; nothing if it waits for nothing."""
        wait = waits_for([order])[order.pk]
        if wait is None and order.status == Order.Status.FAILED:
            return "The purchase failed, and the customer's money is still here. Give it back, or deliver by hand."
        if wait is None:
            return ""
        if wait.until is None:
            return wait.sentence
        return f"{wait.sentence} {wait.then} on {date_format(wait.until, 'j F, H:i')} UTC."

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        order = self.get_object(request, unquote(object_id))
        own = self._context(request, order) if order is not None and self.has_view_permission(request, order) else {}
        # Past DecisionAdmin: this page shows the decisions beside what they are about.
        return super(DecisionAdmin, self).change_view(request, object_id, form_url, {**own, **(extra_context or {})})

    def _context(self, request: HttpRequest, order: Any) -> dict[str, Any]:
        payments = list(order.payments.order_by("-created_at").prefetch_related("refunds")[:MOST])
        purchases = list(_purchases(order))
        keys = list(admin.site.get_model_admin(Key).get_queryset(request).filter(item__order=order)[:MOST])
        refunds = list(order.refunds.select_related("destination", "payment").order_by("-created_at")[:MOST])
        for row in (*payments, *refunds):
            row.order = order  # the objections look at it
        around = Around(order, payments, purchases, [order, *payments, *purchases, *keys, *refunds])
        alerts = order.alerts.filter(status=Alert.Status.OPEN)[:MOST]
        cards = [
            Card("Customer", [_customer(self, order)]),
            _card(request, "Alerts", Alert, alerts, order),
            _card(request, "Payments", Payment, payments, order),
            _card(request, "Purchases", Reservation, purchases, order),
            _card(request, "Keys", Key, keys, order),
            _card(request, "Refunds", Refund, refunds, order),
            _mails(request, order),
        ]
        return {
            "title": f"{order.total} {order.currency} · {order.product_names}",
            "subtitle": None,
            "badge": self.state_and_why(order),
            "short_id": copyable(str(order.pk)),
            "order_choices": self.choices_about(request, order, back="", quiet=True),
            "concern": self.concern(order),
            "cards": [card for card in cards if card and card.rows],
            "story": story_of(request, around),
            "evidence_url": self._evidence_url(request, order),
        }

    def _evidence_url(self, request: HttpRequest, order: Order) -> str:
        return reverse(self.view_name("evidence"), args=[order.pk]) if request.user.has_perm(MAY_EXPORT) else ""

    @admin.display(description="coin")
    def coin(self, order: Any) -> str:
        """The coin of the payment that brought money, or of the newest."""
        payments = sorted(order.payments.all(), key=lambda payment: (payment.actually_paid > 0, payment.created_at))
        return payments[-1].pay_currency.upper() if payments else NOTHING


def _purchases(order: Order) -> QuerySet[Reservation]:
    rows = Reservation.objects.filter(item__order=order).select_related("item__order", "item__product")
    return rows.order_by("item__title", "created_at")[:MOST]


def _card(request: HttpRequest, title: str, model: type[Model], rows: Iterable[Any], order: Order) -> Card | None:
    if not may_view(request, model):
        return None
    page: Any = admin.site.get_model_admin(model)
    back = reverse("admin:orders_order_change", args=[order.pk])
    return Card(title, [_row(request, page, row, back) for row in rows])


def _mails(request: HttpRequest, order: Order) -> Card | None:
    mails = list(order.emails.order_by("-pk")[:MOST])
    # What failed waits for somebody, however old it is.
    shown = [mail for at, mail in enumerate(mails) if at < NEWEST_MAILS or mail.status == Email.Status.FAILED]
    card = _card(request, "Mails", Email, mails, order)
    if card is None:
        return None
    rows = dict(zip(mails, card.rows, strict=True))
    return Card(card.title, [rows.pop(mail) for mail in shown], list(rows.values()))


def _row(request: HttpRequest, page: DecisionAdmin, row: Any, back: str) -> dict[str, Any]:
    return {
        "name": link(row, _NAMES[type(row)](row)),
        "about": _NAMES[type(row)](row),
        "state": page.state_and_why(row) if page.reasons else state_badge(row),
        "facts": [(label, value) for label, value in _FACTS[type(row)](row) if value not in ("", None)],
        "choices": page.choices_about(request, row, back=back, quiet=True),
        "ways": page.ways(row),
    }


def _customer(page: OrderPage, order: Order) -> dict[str, Any]:
    facts = [
        ("E-mail", copyable(order.email, order.email)),
        ("Placed", age(order.created_at)),
        ("Payable until", age(order.expires_at) if order.paid_at is None else ""),
        ("Paid", age(order.paid_at) if order.paid_at else ""),
        ("Delivered", age(order.fulfilled_at) if order.fulfilled_at else ""),
        ("Time to key", page.time_to_key(order) if order.fulfilled_at else ""),
    ]
    return {"name": "", "state": "", "facts": [(label, value) for label, value in facts if value], "choices": []}


def _payment_facts(payment: Payment) -> list[tuple[str, Any]]:
    coin = payment.pay_currency.upper()
    return [
        ("Asked", f"{plain(payment.pay_amount)} {coin}" if payment.pay_amount is not None else ""),
        ("Arrived", f"{plain(payment.actually_paid)} {coin}"),
        ("Price", f"{payment.price_amount} {payment.price_currency.upper()}"),
        ("Address", copyable(payment.pay_address) if payment.pay_address else ""),
        ("Memo", copyable(payment.payin_extra_id) if payment.payin_extra_id else ""),
        ("Transaction", copyable(payment.payin_hash) if payment.payin_hash else ""),
        ("Begun", age(payment.created_at)),
    ]


def _purchase_facts(purchase: Reservation) -> list[tuple[str, Any]]:
    price = purchase.item.unit_price * purchase.quantity
    cap = (purchase.price_cap or purchase.item.product.max_cost) * purchase.quantity
    currency = purchase.item.order.currency
    return [
        ("Price", f"{price} {currency}"),
        ("Cap", f"{cap} EUR"),
        ("Cost", _cost(purchase)),
        ("Margin", _margin(price, purchase.cost) if purchase.cost is not None and currency == "EUR" else ""),
        ("Supplier's order", copyable(purchase.supplier_order_id) if purchase.supplier_order_id else ""),
        ("Our id", copyable(purchase.external_id)),
        ("Last error", purchase.last_error if purchase.status != Reservation.Status.DELIVERED else ""),
    ]


def _cost(purchase: Reservation) -> str:
    if purchase.cost is not None:
        return f"{purchase.cost} EUR"
    return "staff typed the codes" if purchase.manual else "not known yet"


def _margin(price: Decimal, cost: Decimal) -> str:
    return f"{price - cost} EUR, {(price - cost) / price:.0%}"


def _key_facts(key: Key) -> list[tuple[str, Any]]:
    return [
        ("Stored", age(key.stored_at) if key.stored_at else ""),
        ("First opened", age(key.viewed_at) if key.viewed_at else "not yet"),
        ("Trouble", key.error),
    ]


def _refund_facts(refund: Refund) -> list[tuple[str, Any]]:
    return [
        ("Coins", refund.coins),
        ("To", copyable(refund.address) if refund.address else "the customer has not given an address yet"),
        ("Transaction", copyable(refund.transaction_id) if refund.transaction_id else ""),
        ("Why", refund.reason),
    ]


def _mail_facts(mail: Email) -> list[tuple[str, Any]]:
    return [("Sent" if mail.sent_at else "Queued", age(mail.sent_at or mail.created_at)), ("Error", mail.error)]


def _alert_facts(alert: Alert) -> list[tuple[str, Any]]:
    return [("What", alert.said), ("Times", alert.times if alert.times > 1 else "")]


_NAMES: dict[Any, Any] = {
    Payment: lambda payment: payment.external_id or "not named yet",
    Reservation: lambda purchase: f"{purchase.quantity} x {purchase.item.title}",
    Key: lambda key: str(key.pk)[:8],
    Refund: lambda refund: refund.get_kind_display(),
    Email: lambda mail: mail.title,
    Alert: lambda alert: alert.get_kind_display(),
}
_FACTS: dict[Any, Any] = {
    Payment: _payment_facts,
    Reservation: _purchase_facts,
    Key: _key_facts,
    Refund: _refund_facts,
    Email: _mail_facts,
    Alert: _alert_facts,
}

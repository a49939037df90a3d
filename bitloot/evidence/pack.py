"""All that BitLoot can show about an order, for a dispute: one pack, read by the JSON file and by the PDF."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Model, Q, QuerySet
from django.utils import timezone

from bitloot.core.database import one_moment
from bitloot.core.money import plain
from bitloot.evidence.chain import FORMAT, chained, digest_of
from bitloot.evidence.terms import terms_for
from fulfillment.models import Reservation, ReservationAttempt, SupplierCall
from orders.models import Email, Order
from payments.models import Payment, Refund, RefundAddress
from storage.models import Key, KeyAccess, KeyDeliveryLog
from webhooks.choosing import names_of
from webhooks.models import WebhookLog

ORDER = ("id", "email", "status", "reason", "total", "currency", "created_at", "expires_at", "paid_at", "fulfilled_at")
ITEM = ("id", "title", "quantity", "unit_price")
EVENT = ("kind", "from_status", "to_status", "message", "actor")
# The quote that the customer was shown, and what the provider says came.
PAYMENT = (
    "id", "external_id", "status", "reason", "price_amount", "price_currency", "pay_amount", "pay_currency", "network",
    "pay_address", "payin_extra_id", "expires_at", "actually_paid", "outcome_amount", "outcome_currency", "payin_hash",
    "provider_status", "coins_seen_at", "finished_at",
)  # fmt: skip
REFUND = (
    "id", "payment_id", "status", "kind", "amount", "currency", "worth", "reason", "transaction_id", "sent_at",
    "done_at",
)  # fmt: skip
REFUND_ADDRESS = ("refund_id", "address", "extra_id", "client")
# No `facts`: a mail's own words are not what is disputed, and what it links to opens the order.
MAIL = ("id", "kind", "to", "status", "sent_at")
PURCHASE = (
    "id", "item_id", "external_id", "supplier_order_id", "status", "reason", "title", "price_cap", "cost", "manual",
    "reserved_at", "delivered_at",
)  # fmt: skip
PERMIT = ("reservation_id", "number", "price", "outcome")
CALL = ("reservation_id", "call", "outcome", "status_code")
KEY = ("id", "item_id", "status", "content_type", "stored_at", "viewed_at", "shredded_at")
DELIVERY = ("key_id", "status", "customer_email", "expires_at", "times_accessed", "last_accessed_at", "opened_at")
ACCESS = ("key_id", "network", "agent")
WEBHOOK = ("id", "provider", "event_type", "external_id", "status", "outcome", "repeats", "body_sha256")

Part = tuple[str, datetime, dict[str, Any]]


def pack_of(order: Order, *, actor: str) -> dict[str, Any]:
    """Return the pack: never a key, nor what opens one, nor a link."""
    made = timezone.now()
    with one_moment(), transaction.atomic():  # SQLite keeps writers out of a transaction
        order = Order.objects.get(pk=order.pk)
        parts = sorted(_parts(order), key=lambda part: part[1])
        head, terms = ("pack", made, _head(order, actor)), ("terms", made, terms_for(order))
        entries = chained((kind, _text(at), _texts(facts)) for kind, at, facts in (head, *parts, terms))
    return {
        "format": FORMAT, "order": str(order.pk), "made_at": _text(made), "made_by": actor, "entries": entries,
        "digest": digest_of(entries[-1]),
    }  # fmt: skip


def _head(order: Order, actor: str) -> dict[str, Any]:
    return {"shop": settings.STORE_NAME, "site": settings.SITE_URL, "order": order.pk, "made_by": actor}


def _parts(order: Order) -> Iterator[Part]:
    yield "order", order.created_at, {name: getattr(order, name) for name in ORDER}
    for item in order.items.order_by("pk").values(*ITEM):
        yield "item", order.created_at, item
    yield from _each("event", order.events.order_by("pk"), "at", EVENT)
    payments = Payment.objects.filter(order=order)
    yield from _each("payment", payments, "created_at", PAYMENT)
    refunds = Refund.objects.filter(order=order)
    yield from _each("refund", refunds, "created_at", REFUND)
    yield from _each("refund_address", RefundAddress.objects.filter(refund__in=refunds), "given_at", REFUND_ADDRESS)
    yield from _each("mail", order.emails.exclude(kind=Email.Kind.ALERT), "created_at", MAIL)
    purchases = Reservation.objects.filter(item__order=order)
    yield from _each("purchase", purchases, "created_at", PURCHASE)
    permits = ReservationAttempt.objects.filter(reservation__in=purchases)
    yield from _each("purchase_attempt", permits, "permitted_at", PERMIT)
    yield from _each("supplier_call", SupplierCall.objects.filter(reservation__in=purchases), "at", CALL)
    keys = Key.objects.filter(item__order=order)
    yield from _each("key", keys, "received_at", KEY)
    yield from _each("delivery", KeyDeliveryLog.objects.filter(order=order), "created_at", DELIVERY)
    yield from _each("reveal", KeyAccess.objects.filter(order=order), "at", ACCESS)
    yield from _each("webhook", WebhookLog.objects.filter(external_id__in=names_of([order])), "received_at", WEBHOOK)
    yield from _decisions([order, *payments, *refunds, *purchases, *keys.only("pk"), *order.emails.all()])


def _each(kind: str, rows: QuerySet[Any], moment: str, columns: Sequence[str]) -> Iterator[Part]:
    for row in rows.order_by("pk").values(moment, *columns):
        yield kind, row.pop(moment), row


def _decisions(rows: Sequence[Model]) -> Iterator[Part]:
    """Yield what staff decided about any of the rows, as the staff log has it."""
    about = Q(pk__in=[])
    for row in rows:
        about |= Q(content_type=ContentType.objects.get_for_model(row), object_id=str(row.pk))
    for entry in LogEntry.objects.filter(about).select_related("user").order_by("pk"):
        facts = {"by": entry.user.get_username(), "about": entry.object_repr, "what": entry.get_change_message()}
        yield "decision", entry.action_time, facts


def _texts(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: _text(value) for name, value in facts.items()}


def _text(value: Any) -> Any:
    """Write a value for every program: whole numbers, booleans and nothing stay, all else is text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return str(value)

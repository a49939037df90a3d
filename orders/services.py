import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from bitloot.core import queries, wakeup
from orders import idempotency
from orders.exceptions import OrderRefused
from orders.models import MAX_LINES, MAX_QUANTITY, Email, Order, OrderEvent, OrderItem, Product

UNPAID_PER_HOUR = 20
FRESH_LINKS_PER_HOUR = 3
MAX_TOTAL = Decimal("99999999.99")  # what the column holds

# Rows made out of the order's own row, so that the same statements run for an order that does not exist.
_OWE_FRESH_LINK = """
INSERT INTO orders_email (order_id, kind, "to", reason, status, error, attempts, crashes)
SELECT id, 'fresh_link', email, '', 'queued', '', 0, 0 FROM orders_order WHERE id = %s
"""
_NOTE_FRESH_LINK = """
INSERT INTO orders_orderevent (order_id, kind, from_status, to_status, message, actor)
SELECT id, 'mail', '', '', 'A fresh link was mailed; older links no longer open the order.', %s
FROM orders_order WHERE id = %s
"""


@dataclass(frozen=True)
class Line:
    product: str  # id or slug
    quantity: int


@dataclass(frozen=True)
class Placed:
    order: Order
    replayed: bool


def place_order(*, email: str, lines: Sequence[Line], idempotency_key: str = "", body: bytes = b"") -> Placed:
    """Place an order at today's prices; lines of one product are merged.

    Raises OrderRefused with the errors by field, and what `idempotency.once` raises.
    """

    def make() -> uuid.UUID:
        address = _clean_email(email)
        return _create(address, _priced(lines)).id

    once = idempotency.once(route="orders", key=idempotency_key, body=body or _fingerprint(email, lines), make=make)
    return Placed(Order.objects.get(pk=once.object_id), once.replayed)


def queue_email(order: Order, kind: str, *, reason: str = "") -> None:
    """Owe the customer a mail; it leaves after the commit."""
    queries.insert(Email(order=order, kind=kind, to=order.email, reason=reason))
    wakeup.notify("orders")


def send_fresh_link(*, order_id: uuid.UUID, email: str) -> None:
    """Mail a new link to the stored address if the order is that person's; say nothing either way.

    Ends the links mailed before. At most three an hour. The statements are the same whether it matches or not.
    """
    with transaction.atomic():
        order = Order.objects.select_for_update().filter(pk=order_id).first()
        hour_ago = Now() - timedelta(hours=1)
        recent = Email.objects.filter(order_id=order_id, kind=Email.Kind.FRESH_LINK, created_at__gt=hour_ago).count()
        matches = order is not None and order.email.lower() == email.strip().lower()
        _renew(order_id if matches and recent < FRESH_LINKS_PER_HOUR else uuid.UUID(int=0))


def renew_link(order: Order, *, actor: str = "") -> None:
    """End every link mailed so far and mail a new one."""
    with transaction.atomic():
        _renew(order.pk, actor=actor)
    order.refresh_from_db(fields=["link_generation"])


def _renew(order_id: uuid.UUID, *, actor: str = "") -> None:
    pk = Order._meta.pk.get_db_prep_value(order_id, connection)
    Order.objects.filter(pk=order_id).update(link_generation=F("link_generation") + 1)
    with connection.cursor() as cursor:
        cursor.execute(_OWE_FRESH_LINK, [pk])
        cursor.execute(_NOTE_FRESH_LINK, [actor, pk])
    wakeup.notify("orders")


def _clean_email(email: str) -> str:
    address = email.strip()
    try:
        validate_email(address)
    except ValidationError as err:
        raise OrderRefused({"email": ["This is not an e-mail address. Check it: the key is sent there."]}) from err
    if len(address) > 254:
        raise OrderRefused({"email": ["This address is too long."]})
    name, _, host = address.rpartition("@")
    return f"{name}@{host.lower()}"


def _priced(lines: Sequence[Line]) -> list[tuple[Product, int]]:
    merged: dict[str, tuple[Product, int]] = {}
    for number, line in enumerate(lines):
        product = _find_product(line.product)
        if product is None:
            raise OrderRefused({f"items.{number}.product": ["We do not sell this product (any more)."]})
        quantity = merged.get(product.slug, (product, 0))[1] + line.quantity
        if not 1 <= line.quantity <= MAX_QUANTITY or quantity > MAX_QUANTITY:
            raise OrderRefused({f"items.{number}.quantity": [f"Order 1 to {MAX_QUANTITY} keys of one product."]})
        merged[product.slug] = (product, quantity)
    if not 1 <= len(merged) <= MAX_LINES:
        raise OrderRefused({"items": [f"Order 1 to {MAX_LINES} different products."]})
    return list(merged.values())


def _find_product(reference: str) -> Product | None:
    products = Product.objects.filter(is_active=True)
    try:
        return products.filter(pk=uuid.UUID(reference)).first()
    except ValueError:
        return products.filter(slug=reference).first()


def _create(email: str, priced: Sequence[tuple[Product, int]]) -> Order:
    with transaction.atomic():
        hour_ago = Now() - timedelta(hours=1)
        unpaid = Order.objects.filter(email__iexact=email, status=Order.Status.PENDING, created_at__gt=hour_ago)
        if settings.THROTTLE_SCALE and unpaid.count() >= UNPAID_PER_HOUR * settings.THROTTLE_SCALE:
            sentence = "There are many unpaid orders for this address. Pay one, or try in an hour."
            raise OrderRefused({"email": [sentence]})
        total = sum((product.price * quantity for product, quantity in priced), Decimal(0))
        if total > MAX_TOTAL:
            raise OrderRefused({"items": ["This order is too large. Order less, or write to us."]})
        order = Order.objects.create(email=email, total=total, currency=settings.STORE_CURRENCY)
        OrderItem.objects.bulk_create(
            OrderItem(order=order, product=product, title=product.title, quantity=quantity, unit_price=product.price)
            for product, quantity in priced
        )
        OrderEvent.objects.create(order=order, kind="order", to_status=order.status, message="The order was placed.")
        queue_email(order, Email.Kind.ORDER_RECEIVED)
    return order


def _fingerprint(email: str, lines: Sequence[Line]) -> bytes:
    return "\n".join([email, *(f"{line.product} {line.quantity}" for line in lines)]).encode()

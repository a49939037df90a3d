import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from bitloot.core import logs, queries, wakeup
from bitloot.core.clients import ApiClient
from bitloot.core.limits import count
from bitloot.core.signing import keyed_digest
from orders import idempotency
from orders.access import lock_for_holder
from orders.alerts import close_alert
from orders.choices import AlertKind
from orders.codes import end_codes, owe_mail
from orders.exceptions import KeySpent, OrderRefused, TooManyUnpaid
from orders.mailboxes import (
    LETTERS_SENTENCE,
    TOO_MANY_ORDERS,
    is_beyond_us,
    is_mailed_too_often,
    tidy,
    validate_mailbox,
)
from orders.models import MAX_LINES, MAX_QUANTITY, Email, Order, OrderEvent, OrderItem, Product

UNPAID_PER_HOUR = 20
FRESH_LINKS_PER_HOUR = 3
LISTS_PER_HOUR = 3
MAX_TOTAL = Decimal("99999999.99")  # what the column holds
# Held until the transaction ends. The seed sets these locks apart from others on the same text.
_LOCK_ADDRESS = "SELECT pg_advisory_xact_lock(hashtextextended(upper(%s::text), 20))"
# Plain, because every order counts: as a queryset it took 0.6 of the 6 ms of CPU that creation took.
_COUNT_UNPAID = "SELECT COUNT(*) FROM orders_order WHERE {whose} AND status = %s AND created_at > {hour_ago}"
# What an order and its checks read of a product: reading whole rows took 2 % of the CPU that creation took.
_ORDERED = ("id", "slug", "title", "price", "key_type", "max_cost", "min_margin")

FIRST_GENERATION = 1

# Made out of the order's own row, so that the same statements run for an order that does not exist.
_NOTE = """
INSERT INTO orders_orderevent (order_id, kind, from_status, to_status, message, actor)
SELECT id, 'mail', '', '', %s, %s FROM orders_order WHERE id = %s
"""
_FRESH_LINK = gettext_noop("A fresh link was mailed; older links and tokens no longer open the order.")
_CLOSED = gettext_noop("Older links and tokens no longer open the order.")
# To each spelling that orders have of the address, as it stands there: `Kim@` and `kim@` may be two mailboxes.
_OWE_LIST = """
INSERT INTO orders_email (kind, "to", reason, status, error, attempts, crashes)
SELECT DISTINCT CAST(%s AS varchar(20)), email, '', 'queued', '', 0, 0 FROM orders_order WHERE UPPER(email) = UPPER(%s)
"""


@dataclass(frozen=True)
class Line:
    product: str  # id or slug
    quantity: int


# Looks at the products of an order, with their quantities, before it is placed; it raises to refuse them.
Check = Callable[[Sequence[tuple[Product, int]]], None]


@dataclass(frozen=True)
class Placed:
    order: Order
    items: list[OrderItem]
    replayed: bool


def place_order(
    *,
    email: str,
    lines: Sequence[Line],
    language: str = settings.LANGUAGE_CODE,
    idempotency_key: str | None = None,
    body: bytes = b"",
    client: ApiClient | None = None,
    check: Check = lambda _lines: None,
) -> Placed:
    """Place an order at today's prices; lines of one product are merged. Its mails are written in `language`.

    With `client` it belongs to that API key, and its limits count. Raises OrderRefused with the errors by field,
    KeySpent, TooManyUnpaid, and what `check` and `idempotency.once` raise.
    """

    made: list[tuple[Order, list[OrderItem]]] = []

    def make(order_id: uuid.UUID) -> None:
        logs.note(order=order_id)
        address, priced = _clean_email(email), _priced(lines)
        check(priced)
        made.append(_create(order_id, address, priced, language, client))

    # Each API key has its Idempotency-Keys for itself: nobody else's leads to an order of its own.
    route = "orders" if client is None else f"orders:{client.id.hex}"
    once = idempotency.once(route=route, key=idempotency_key, body=body or _fingerprint(email, lines), make=make)
    if once.replayed:
        order = Order.objects.get(pk=once.object_id)
        # The key is forgotten as a way in: what it brings now would open keys, or undo "close other links". With an API
        # key it brings no token.
        if client is None and (order.paid_at is not None or order.link_generation != FIRST_GENERATION):
            raise KeySpent
        return Placed(order, list(order.items.select_related("product")), replayed=True)
    order, items = made[0]  # as it was written: nothing is read back
    return Placed(order, items, replayed=False)


def queue_email(order: Order, kind: str, *, after: timedelta | None = None, **facts: str | bool) -> None:
    """Owe the customer a mail; it leaves after the commit, or after this time if it is not overtaken by then.

    `facts` are what its template says: amounts as decimal text, coins with their name, moments as `isoformat()`.
    """
    due: dict[str, Any] = {} if after is None else {"next_attempt_at": Now() + after}
    queries.insert(Email(order=order, kind=kind, to=order.email, facts=facts, **due))
    wakeup.notify("orders")


def expire(order: Order) -> None:
    """End an order that nobody paid in time, and tell the customer. Raises InvalidTransition if it was paid."""
    with transaction.atomic():
        if order.expire():
            queue_email(order, Email.Kind.EXPIRED)


def send_fresh_link(*, order_id: uuid.UUID, email: str) -> None:
    """Mail a new link to the stored address if the order is theirs; the caller cannot tell which.

    Ends the links and tokens before. At most three an hour. The statements are the same whether it matches or not.
    """
    with transaction.atomic():
        # Locked as `Order.lock` does it, so that parallel requests cannot pass the limit together.
        order = Order.objects.select_for_update(no_key=True).filter(pk=order_id).first()
        hour_ago = Now() - timedelta(hours=1)
        recent = Email.objects.filter(order_id=order_id, kind=Email.Kind.FRESH_LINK, created_at__gt=hour_ago).count()
        matches = order is not None and order.email.lower() == tidy(email).lower()
        is_allowed = matches and recent < FRESH_LINKS_PER_HOUR
        # The nil id belongs to no order, so a stranger's guess runs the same statements and changes nothing.
        _renew(order_id if is_allowed else uuid.UUID(int=0))


def id_of(number: str, *, email: str) -> uuid.UUID:
    """Return the id of the address's newest order that begins with these digits; one of no order if there is none."""
    lowest, highest = uuid.UUID(number.ljust(32, "0")), uuid.UUID(number.ljust(32, "f"))
    found = Order.objects.filter(email__iexact=tidy(email), pk__range=(lowest, highest)).order_by("-created_at")
    return found.values_list("pk", flat=True).first() or uuid.UUID(int=0)


def look_up(*, order_id: uuid.UUID | None, email: str) -> None:
    """Mail a fresh link to this order, or a list of all orders of the address; the caller cannot tell what was found.

    A list ends no links: anyone who knows an address could otherwise close its owner's pages.
    """
    if order_id is not None:
        return send_fresh_link(order_id=order_id, email=email)
    address = tidy(email)
    asked = count(f"find:{keyed_digest('orders.find', address.lower())}", seconds=3600)
    is_allowed = asked <= LISTS_PER_HOUR * settings.THROTTLE_SCALE or not settings.THROTTLE_SCALE
    # The same statement for everybody: no order has an empty address.
    queries.execute(_OWE_LIST, [Email.Kind.YOUR_ORDERS.value, address if is_allowed else ""])
    wakeup.notify("orders")
    return None


def renew_link(order: Order, *, actor: str = "") -> None:
    """End every link, token and code of the order that is out, and mail a new link."""
    with transaction.atomic():
        _renew(order.pk, actor=actor)
    order.refresh_from_db(fields=["link_generation"])


def correct_address(order: Order, *, email: str, actor: str, reason: str) -> None:
    """Give the order another address: links, tokens and codes so far end, and both addresses get a mail.

    The caller holds the order's lock. Raises OrderRefused if it is not an address.
    """
    old, new = order.email, _clean_email(email)
    Order.objects.filter(pk=order.pk).update(email=new, link_generation=F("link_generation") + 1)
    order.refresh_from_db(fields=["email", "link_generation"])
    end_codes(order.pk)
    # What is queued goes to the new address. A mail that a worker has already claimed reads the order when it is sent.
    queued = order.emails.filter(status=Email.Status.QUEUED).exclude(kind__in=Email.WITHOUT_LINK)
    queued.update(to=new)
    queries.insert(Email(order=order, kind=Email.Kind.ADDRESS_CORRECTED, to=new))
    queries.insert(Email(order=order, kind=Email.Kind.ADDRESS_REPLACED, to=old))
    order.note(
        "mail", gettext_noop("The e-mail address was corrected; older links no longer open the order."), actor=actor
    )
    order.note("staff", f"{old} became {new}: {reason}"[:300], actor=actor)
    # Mails that failed to reach the old address no longer need attention: the new one gets a link to all of it.
    for mail in order.emails.filter(status=Email.Status.FAILED):
        close_alert(AlertKind.MAIL_FAILED, mail, by=actor)
    close_alert(AlertKind.MAIL_BOUNCED, order, by=actor)
    wakeup.notify("orders")


def choose_language(order: Order, language: str) -> None:
    """Write the order's mails in this language, also those that are queued: a mail is written when it is sent."""
    Order.objects.filter(pk=order.pk).update(language=language)


def close_other_links(order: Order) -> None:
    """End every link, token and code but the one that this answer brings; the mail tells the customer of it.

    Raises LinkReplaced if the links were ended since `order` was read.
    """
    with transaction.atomic():
        mails = lock_for_holder(order).emails
        recent = mails.filter(kind=Email.Kind.FRESH_LINK, created_at__gt=Now() - timedelta(hours=1))
        # Anyone who holds a leaked token may ask for this as well: never refused, but the mails are counted.
        _renew(order.pk, mails=recent.count() < FRESH_LINKS_PER_HOUR)
    order.refresh_from_db(fields=["link_generation"])


def _renew(order_id: uuid.UUID, *, actor: str = "", mails: bool = True) -> None:
    Order.objects.filter(pk=order_id).update(link_generation=F("link_generation") + 1)
    end_codes(order_id)
    if mails:
        owe_mail(order_id, Email.Kind.FRESH_LINK)
    message = _FRESH_LINK if mails else _CLOSED
    queries.execute(_NOTE, [message, actor, Order._meta.pk.get_db_prep_value(order_id, connection)])
    wakeup.notify("orders")


def _clean_email(email: str) -> str:
    address = tidy(email)
    try:
        validate_mailbox(address)
    except ValidationError as err:
        sentence = _("This is not an e-mail address. Check it: we send the link to your key there.")
        raise OrderRefused({"email": [sentence]}) from err
    if is_beyond_us(address):
        raise OrderRefused({"email": [str(LETTERS_SENTENCE)]})
    if len(address) > 254:
        raise OrderRefused({"email": [_("This address is too long.")]})
    name, at, host = address.rpartition("@")
    return f"{name}{at}{host.lower()}"


def _priced(lines: Sequence[Line]) -> list[tuple[Product, int]]:
    merged: dict[str, tuple[Product, int]] = {}
    for number, line in enumerate(lines):
        product = _find_product(line.product)
        if product is None:
            raise OrderRefused({f"items.{number}.product": [_("This product is not for sale.")]})
        quantity = merged.get(product.slug, (product, 0))[1] + line.quantity
        if not 1 <= line.quantity <= MAX_QUANTITY or quantity > MAX_QUANTITY:
            sentence = _("Order 1 to %(most)s keys of one product.") % {"most": MAX_QUANTITY}
            raise OrderRefused({f"items.{number}.quantity": [sentence]})
        merged[product.slug] = (product, quantity)
    if not 1 <= len(merged) <= MAX_LINES:
        raise OrderRefused({"items": [_("Order 1 to %(most)s different products.") % {"most": MAX_LINES}]})
    return list(merged.values())


def _find_product(reference: str) -> Product | None:
    try:
        named: dict[str, Any] = {"pk": uuid.UUID(reference)}
    except ValueError:
        named = {"slug": reference}
    found = queries.select(Product, {**named, "is_active": True}, only=_ORDERED)
    return found[0] if found else None


def _create(
    order_id: uuid.UUID,
    email: str,
    priced: Sequence[tuple[Product, int]],
    language: str,
    client: ApiClient | None,
) -> tuple[Order, list[OrderItem]]:
    """Write the order in the caller's transaction."""
    _check_limits(email, client)
    total = sum((product.price * quantity for product, quantity in priced), Decimal(0))
    if total > MAX_TOTAL:
        raise OrderRefused({"items": [_("This order is too large. Order less, or write to us.")]})
    order = Order(
        pk=order_id,
        email=email,
        total=total,
        currency=settings.STORE_CURRENCY,
        language=language,
        placed_with=None if client is None else client.id,
    )
    items = [
        OrderItem(order=order, product=product, title=product.title, quantity=quantity, unit_price=product.price)
        for product, quantity in sorted(priced, key=lambda line: line[0].title)  # as a reader of the order gets them
    ]
    placed = OrderEvent(
        order=order, kind="order", to_status=order.status, message=gettext_noop("The order was placed.")
    )
    # In one statement where the database can: four took 0.5 of the 5 ms of CPU that creation took.
    queries.insert_with(order, items, [placed], [Email(order=order, kind=Email.Kind.ORDER_RECEIVED, to=email)])
    wakeup.notify("orders")
    return order, items


def _check_limits(email: str, client: ApiClient | None) -> None:
    # A reseller whose orders all go to their own mailbox asked for those mails; anybody else's stays protected.
    is_own = client is not None and email.lower() == client.email.lower()
    if not is_own and is_mailed_too_often(email):
        raise OrderRefused({"email": [str(TOO_MANY_ORDERS)]})
    if client is not None:
        _check_limit_of(client)
        return
    most = UNPAID_PER_HOUR * settings.THROTTLE_SCALE
    if most and _count_unpaid(email, "UPPER(email) = UPPER(%s)", email) >= most:
        sentence = _("There are too many unpaid orders for this address. Pay one, or try again in an hour.")
        raise OrderRefused({"email": [sentence]})


def _check_limit_of(client: ApiClient) -> None:
    most = client.unpaid_per_hour * settings.THROTTLE_SCALE
    stored = Order._meta.pk.get_db_prep_value(client.id, connection)
    if most and _count_unpaid(str(client.id), "placed_with = %s", stored) >= most:
        raise TooManyUnpaid


def _count_unpaid(whose: str, condition: str, value: Any) -> int:
    # Orders at the same moment do not see each other before they commit, so those of one address or API key go one by
    # one. SQLite lets one transaction write at a time anyway.
    hour_ago = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-1 hour')"
    if connection.vendor == "postgresql":
        queries.execute(_LOCK_ADDRESS, [whose])
        hour_ago = "statement_timestamp() - make_interval(hours => 1)"
    sql = _COUNT_UNPAID.format(whose=condition, hour_ago=hour_ago)
    return int(queries.execute(sql, [value, Order.Status.PENDING.value]).fetchone()[0])


def _fingerprint(email: str, lines: Sequence[Line]) -> bytes:
    return "\n".join([email, *(f"{line.product} {line.quantity}" for line in lines)]).encode()

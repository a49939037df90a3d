"""The order's ETag: it changes whenever the customer's answer does, and costs one statement instead of the answer."""

import uuid
from dataclasses import dataclass
from hashlib import sha256

from django.conf import settings
from django.db import connection
from django.db.models import DateTimeField
from django.utils import timezone

from fulfillment import kinguin
from fulfillment.models import Reservation
from orders.models import Order

# Everything that the answer shows and that can change, not only the newest line of the timeline: reading a payment
# again, an address for a refund, a key that comes or is opened, or a cover that staff exchange leave no line. A quote
# that ends changes the answer without any write. Claims, attempts and what only staff see are left out on purpose.
# The items stand first: PostgreSQL takes the types of the columns from there.
_VERSION = """
SELECT 'item', item.id, purchase.status,
    item.title || '|' || item.quantity || '|' || item.unit_price || '|' || product.slug || '|' || product.cover
    || '|' || product.picture || '|' || product.platform || '|' || product.region || '|' || product.activation
    || '|' || product.stock_wait_hours || '|' || coalesce('' || purchase.waiting_since, '')
FROM orders_orderitem item
JOIN orders_product product ON product.id = item.product_id
LEFT JOIN fulfillment_reservation purchase ON purchase.item_id = item.id AND purchase.replaces_id IS NULL
WHERE item.order_id = %s
UNION ALL
SELECT 'key', item.id, NULL, stored.id || '|' || coalesce('' || stored.viewed_at, '')
FROM orders_orderitem item JOIN storage_key stored ON stored.item_id = item.id AND stored.status <> 'shredded'
WHERE item.order_id = %s
UNION ALL
SELECT 'timeline', NULL, NULL, '' || coalesce(max(id), 0)
FROM orders_orderevent WHERE order_id = %s AND kind <> 'staff'
UNION ALL
SELECT 'payment', NULL, NULL, id || '|' || status || '|' || reason || '|' || coalesce(external_id, '')
    || '|' || pay_address || '|' || coalesce(pay_amount, -1) || '|' || pay_currency || '|' || payin_extra_id
    || '|' || network || '|' || actually_paid || '|' || price_amount || '|' || credit
    || '|' || payin_hash || '|' || coalesce('' || expires_at, '')
    || '|' || CASE WHEN status = 'waiting' AND expires_at > %s THEN 'runs' ELSE '' END
FROM payments_payment WHERE order_id = %s
UNION ALL
SELECT 'refund', NULL, NULL, refund.id || '|' || refund.status || '|' || refund.amount || '|' || refund.currency
    || '|' || coalesce(refund.destination_id, 0) || '|' || refund.transaction_id || '|' || refund.kind
    || '|' || coalesce('' || refund.sent_at, '') || '|' || coalesce('' || refund.done_at, '')
    || '|' || coalesce(coin.network, '')
    || '|' || coalesce(coin.needs_memo, FALSE) || '|' || coalesce(coin.takes_memo, FALSE)
FROM payments_refund refund
LEFT JOIN payments_coin coin ON coin.code = refund.currency WHERE refund.order_id = %s
UNION ALL
SELECT 'stopped', NULL, NULL, '' FROM fulfillment_suppliergate WHERE host = %s AND status = 'stopped'
"""


@dataclass(frozen=True)
class Version:
    etag: str
    has_payments: bool
    has_refunds: bool
    has_keys: bool
    purchases: dict[uuid.UUID, str | None]  # by item: the purchase's status
    waits_for_us: bool  # a key is yet to be bought, and somebody stopped all purchases


def version_of(order: Order, shown: object) -> Version:
    """Return the version of the order as it was loaded, and of its other rows as they are now.

    `shown` is what else the answer depends on. How long things usually take is left out: it changes every few minutes,
    and a page that shows the figure of before is not wrong.
    """
    pk = Order._meta.pk.get_db_prep_value(order.pk, connection)
    now = DateTimeField().get_db_prep_value(timezone.now(), connection)
    with connection.cursor() as cursor:
        cursor.execute(_VERSION, [pk, pk, pk, now, pk, pk, kinguin.client().host])
        rows = sorted(cursor.fetchall(), key=repr)
    own = (
        order.pk,
        order.status,
        order.email,
        order.total,
        order.currency,
        order.expires_at,
        settings.SAFE_MODE,
        shown,
    )
    digest = sha256(repr((own, rows)).encode()).hexdigest()
    parts = {part for part, *_ in rows}
    # SQLite knows no UUIDs.
    purchases = {uuid.UUID(str(item)): status for part, item, status, _ in rows if part == "item"}
    is_stopped = settings.SAFE_MODE or "stopped" in parts
    return Version(
        etag=f'"{digest[:32]}"',
        has_payments="payment" in parts,
        has_refunds="refund" in parts,
        has_keys="key" in parts,
        purchases=purchases,
        waits_for_us=is_stopped and Reservation.Status.PENDING in purchases.values(),
    )

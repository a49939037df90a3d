"""Rows of a store in the middle of its work, put there without the way that leads to them."""

import itertools
from decimal import Decimal

from django.utils import timezone

from fulfillment.models import Reservation, ReservationAttempt
from orders.tests.factories import make_order, make_product
from payments import refunds
from payments.models import Payment
from payments.tests.factories import make_refund_address
from storage.services import store_key

_numbers = itertools.count(1)


def paying(order, status="waiting", **fields):
    """A payment of the whole order in litecoin, as it stands after its last re-read."""
    if status in ("finished", "refunded"):
        fields = {"finished_at": timezone.now(), "actually_paid": Decimal("0.25"), "next_attempt_at": None, **fields}
    return Payment.objects.create(
        order=order,
        status=status,
        **{
            "external_id": str(5_000_000_000 + next(_numbers)),
            "price_amount": order.total,
            "price_currency": "eur",
            "pay_currency": "ltc",
            "pay_amount": Decimal("0.25"),
            **fields,
        },
    )


def paid_order(quantity=1, **product):
    order = make_order(make_product(**product), quantity=quantity)
    paying(order, "finished")
    order.mark_paid(message="Paid.")
    return order


def reservation_of(order):
    return Reservation.objects.get(item__order=order)


def put(row, **fields):
    """Put a row into a state without the way there."""
    type(row)._default_manager.filter(pk=row.pk).update(**fields)
    row.refresh_from_db()
    return row


def bought(order, status="given", **fields):
    purchase = f"SUPPLIER{next(_numbers):05}"
    put(order, status="fulfilling")
    reservation = put(
        reservation_of(order), **{"status": status, "supplier_order_id": purchase, "cost": Decimal("15.50"), **fields}
    )
    ReservationAttempt.objects.create(reservation=reservation, number=1, outcome="placed")
    return reservation


def add_keys(order, count):
    item = order.items.get()
    for _ in range(count):
        number = next(_numbers)
        store_key(item=item, supplier_key_id=f"k{number}", plaintext=b"AAAA-%d" % number, content_type="text/plain")


def delivered_order(quantity=1):
    order = paid_order(quantity)
    bought(order, "delivered", next_attempt_at=None)
    add_keys(order, quantity)
    return put(order, status="fulfilled")


def stopped(order, status, reason="no_keys"):
    """An order whose purchase waits for staff."""
    put(reservation_of(order), status="held", reason=reason, next_attempt_at=None)
    return put(order, status=status, reason=reason)


def refunded_order():
    order = paid_order()
    put(reservation_of(order), status="cancelled", next_attempt_at=None)
    order.mark_refund_due(reason="out_of_stock", message="Owed back.")
    refund = order.refunds.get()
    make_refund_address(refund, "LTC-address-1")
    put(refund, status="sent", transaction_id=f"a1b2c3d4{refund.pk}")
    refunds.mark_done(refund, actor="kim")
    order.refresh_from_db()
    return order

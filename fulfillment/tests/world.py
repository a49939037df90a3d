"""An order that was paid, workers that look at it, and the supplier's own books."""

from datetime import timedelta

from django.utils import timezone

from fulfillment import pipeline
from fulfillment.models import Reservation, SupplierStock
from orders.services import Line, place_order
from tools.dev.supervise import wait_until

HOUR = timedelta(hours=1)


def paid(*lines):
    order = place_order(email="kim@shop.example", lines=[Line(p.slug, n) for p, n in lines]).order
    order.mark_paid(message="Paid.")
    return order


def stock_up(product):
    """Let the supplier have said just now that it has the product: nobody asks it before a payment."""
    said = {"price": product.max_cost, "quantity": 9, "text_quantity": 9, "seen_at": timezone.now()}
    SupplierStock.objects.create(product=product, **said)
    return product


def run(reservation, times=1):
    for _ in range(times):
        assert pipeline.advance(reservation.pk)
    reservation.refresh_from_db()
    reservation.item.order.refresh_from_db()
    return reservation


def finish(reservation):
    """Run until it is delivered: the sandbox hands keys over from a thread of its own."""
    wait_until(lambda: run(reservation).status == "delivered", seconds=60, what=f"the delivery of {reservation}")
    return reservation


def timeline(order):
    return list(order.events.exclude(kind__in=["mail"]).values_list("kind", "to_status"))


def purchases(sandbox, reservation):
    return [line for line in sandbox.ledger("sold") if line["external_id"] == reservation.external_id]


def posts(sandbox, reservation):
    return [line for line in sandbox.ledger("order_received") if line["external_id"] == reservation.external_id]


def age(reservation, **fields):
    Reservation.objects.filter(pk=reservation.pk).update(**fields)

import itertools
from decimal import Decimal

from orders.models import Email, Order, Product
from orders.services import Line, place_order

_numbers = itertools.count(1)


def make_product(**fields):
    number = next(_numbers)
    return Product.objects.create(
        **{
            "slug": f"product-{number}",
            "title": f"Product {number}",
            "price": Decimal("24.99"),
            "max_cost": Decimal("20.00"),
            "supplier_product_id": f"supplier{number:06}",
            "supplier_offer_id": f"offer{number:06}",
            **fields,
        }
    )


def make_order(*products, quantity=1, email="ada@example.org", status="pending", **fields):
    """Place an order through the service, then put it into any state without the way there."""
    lines = [Line(product.slug, quantity) for product in products or [make_product()]]
    order = place_order(email=email, lines=lines).order
    Order.objects.filter(pk=order.pk).update(status=status, **fields)
    order.refresh_from_db()
    return order


def make_paid_order(*products, **fields):
    order = make_order(*products, **fields)
    order.mark_paid(message="Paid in full.")
    return order


def make_email(kind=Email.Kind.ORDER_RECEIVED, **fields):
    order = fields.pop("order", None) or make_order()
    return Email.objects.create(**{"order": order, "kind": kind, "to": order.email, **fields})


def timeline(order):
    return [(event.kind, event.from_status, event.to_status) for event in order.events.all()]

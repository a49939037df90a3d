from decimal import Decimal

import pytest

from fulfillment import kinguin
from fulfillment.models import Reservation
from fulfillment.tests.world import paid
from orders.models import Product


@pytest.fixture
def impatient(settings, sandbox):
    """The real client with the real sandbox behind it, only less patient, so that silence costs a second."""
    kinguin.client()._endpoint._transport.read_timeout = 1
    sandbox.control("config", {"deliver": "auto", "deliver_after_ms": 0})
    sandbox.control("balance", {"balance": 100000})
    return sandbox


@pytest.fixture
def product():
    return Product.objects.create(
        slug="ember-drift",
        title="Ember Drift",
        price=Decimal("9.99"),
        max_cost=Decimal("8.50"),
        supplier_product_id="64b000000000000000000001",
        supplier_offer_id="64c000000000000000000001",
    )


@pytest.fixture
def picture():
    return Product.objects.create(
        slug="nightline-courier",
        title="Nightline Courier",
        price=Decimal("22.99"),
        max_cost=Decimal("20.40"),
        key_type="image",
        supplier_product_id="64b000000000000000000004",
    )


@pytest.fixture
def reservation(product):
    return Reservation.objects.get(item__order=paid((product, 1)))

from decimal import Decimal

import pytest
import responses

from fulfillment.models import Reservation
from fulfillment.tests.world import paid
from orders.models import Product


@pytest.fixture
def supplier(sandbox):
    """The real sandbox, whose silence ends soon: a client with less patience would take a busy machine for silence."""
    sandbox.control("config", {"deliver": "auto", "deliver_after_ms": 0, "hold_s": 0.1})
    sandbox.control("balance", {"balance": 100000})
    return sandbox


@pytest.fixture
def wire():
    with responses.RequestsMock() as mock:
        yield mock


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

import itertools
from collections.abc import Iterator
from decimal import Decimal

import pytest
import responses

from fulfillment.tests.world import stock_up
from orders.models import Order
from orders.tests.factories import make_order, make_product
from payments import creation
from payments.tests.factories import make_coin
from payments.tests.world import Postbox, World

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postbox() -> Iterator[Postbox]:
    box = Postbox()
    yield box
    box.shutdown()
    box.server_close()


@pytest.fixture
def patient_customers(monkeypatch) -> None:
    """A busy machine is no slow provider."""
    monkeypatch.setattr(creation, "CUSTOMER_WAITS", 60)


@pytest.fixture
def order() -> Order:
    """An order of 24.99 EUR that can be paid in two coins, of a product that the supplier has."""
    make_coin("btc")
    make_coin("eth")
    return make_order(stock_up(make_product(price=Decimal("24.99"))))


@pytest.fixture
def world(client, sandbox, postbox, settings) -> World:
    """An order with a customer, the provider and staff; IPNs arrive when the test delivers them."""
    name = f"story-{next(_numbers)}"
    settings.SITE_URL = f"{postbox.url}/{name}"
    return World(client, sandbox, postbox.arrived[name])


@pytest.fixture
def wire() -> Iterator[responses.RequestsMock]:
    """NOWPayments at the wire, where a test tells what it answers."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock

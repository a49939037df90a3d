"""What tests share: the admin's superuser, one order with a row of every model, and a browser with its store."""

from collections.abc import Iterator

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from bitloot.tests.chromium import a_browser, renewed
from bitloot.tests.services import own_store
from bitloot.tests.staff import make_rows, make_staff
from tools.dev.supervise import Store


@pytest.fixture
def boss(client):
    """The client, logged in as a superuser."""
    client.user = make_staff(superuser=True)
    client.force_login(client.user)
    return client


@pytest.fixture
def rows():
    return make_rows()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    # All customers of these tests come from one address.
    with own_store(tmp_path_factory.mktemp("store"), THROTTLE_SCALE="10") as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[WebDriver]:
    with a_browser() as driver:
        yield driver


@pytest.fixture
def browser(chromium) -> WebDriver:
    """A browser as good as new; to start one for each test would take a tenth of all their CPU."""
    return renewed(chromium)

"""What a browser loads until a page is there: bytes and requests, which are the same on every machine."""

import json
from collections.abc import Iterator

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from bitloot.tests.chromium import STRANGER, a_browser, complaints, shown, wait_for_headline
from bitloot.tests.services import ready_database
from bitloot.tests.shopper import Shopper
from tools.dev.browser import wait
from tools.dev.screenshots import finished_store
from tools.dev.supervise import Store

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

MOST_BYTES, MOST_REQUESTS = 60_000, 6
COINS = "/api/payments/currencies"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with finished_store(tmp_path_factory.mktemp("store"), ready=ready_database()) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[WebDriver]:
    with a_browser(logs=("browser", "performance")) as driver:
        yield driver


def loaded(page: WebDriver) -> dict[str, int]:
    """Return what came over the wire since the log was read last: the address of each answer, and its bytes."""
    told = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [one["params"] for one in told if one["method"] == "Network.requestWillBeSent"]
    ended = [one["params"] for one in told if one["method"] == "Network.loadingFinished"]
    lengths = {one["requestId"]: one["encodedDataLength"] for one in ended}
    # A poll asks for the order without the coins: not a part of the first view, and not another address.
    found = [(one["request"]["url"].partition("?")[0], lengths.get(one["requestId"], 0)) for one in asked]
    return {url: length for url, length in reversed(found) if url.startswith("http")}  # of the first, if asked again


def test_order_page_comes_in_few_and_small_answers(browser, store):
    shopper = Shopper(store.url)
    order = shopper.order()
    shopper.wait(lambda: shopper.json("GET", COINS)["currencies"], "the coins, which a worker reads")
    browser.get(f"{store.url}/orders/{order['id']}#{order['access_token']}")
    wait_for_headline(browser, "Choose how to pay")
    wait(browser, lambda page: shown(page, ".coin"), "the coins")
    answers = loaded(browser)
    assert f"{store.url}{COINS}" not in answers  # they came with the order
    assert sum(answers.values()) <= MOST_BYTES, answers
    assert len(answers) <= MOST_REQUESTS, answers
    assert complaints(browser) == []


@pytest.mark.parametrize("path", [f"/orders/{STRANGER}", f"/orders/{STRANGER}/receipt", "/orders/find", "/pages/terms"])
def test_pages_without_pictures_come_in_few_and_small_answers(browser, store, path):
    browser.get(f"{store.url}{path}")
    wait(browser, lambda page: page.execute_script("return document.fonts.status") == "loaded", "the font")
    answers = loaded(browser)
    assert sum(answers.values()) <= MOST_BYTES, answers
    assert len(answers) <= MOST_REQUESTS, answers

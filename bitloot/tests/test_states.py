"""Every page in every state that `make screenshots` takes a picture of: under axe, large, small, in forced colours."""

from collections.abc import Iterator

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from bitloot.tests.reach import findings, flat, moving, overflow, wears
from bitloot.tests.test_browser import browser
from tools.dev.scenes import Page, Scene
from tools.dev.screenshots import WIDTHS, finished_store, open_page
from tools.dev.supervise import Store

__all__ = ["browser"]  # a fixture
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

MOST_SHIFT = 0.02


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with finished_store(tmp_path_factory.mktemp("store")) as running:
        yield running


def test_every_state_is_reached_by_everybody_and_jumps_under_nobody(browser, store):
    pages = list(Scene(store).pages())
    found = {page.name: [*jumps(browser, store, page), *complaints_about(browser)] for page in pages}
    assert {name: said for name, said in found.items() if said} == {}
    assert len(found) > 30


def jumps(browser: WebDriver, store: Store, page: Page) -> Iterator[str]:
    """Open the page on a phone, then on a desktop, where it stays."""
    wears(browser)
    for device, (width, height) in WIDTHS.items():
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": device == "phone"}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        shift = open_page(browser, store.url, page)
        if shift > MOST_SHIFT:
            yield f"jumps by {shift:.3f} on a {device}"


def complaints_about(browser: WebDriver) -> Iterator[str]:
    yield from findings(browser)
    yield from (f"moves: {element}" for element in moving(browser))
    yield from (f"flat in forced colours: {element}" for element in flat(browser))
    yield from (f"at 320 px: {element}" for element in overflow(browser))
    yield from (f"with large text: {element}" for element in overflow(browser, width=390, zoom=2))

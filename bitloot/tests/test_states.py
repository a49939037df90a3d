"""Every page in every state that `make screenshots` takes a picture of: under axe, large, small, in forced colours."""

from collections.abc import Iterator

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from bitloot.tests.reach import broken_words, findings, flat, moving, overflow, wears
from bitloot.tests.services import ready_database
from tools.dev.scenes import Page, Scene
from tools.dev.screenshots import WIDTHS, finished_store, open_page
from tools.dev.staff_scenes import StaffScene
from tools.dev.supervise import Store

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200), pytest.mark.first]

MOST_SHIFT = 0.02


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with finished_store(tmp_path_factory.mktemp("store"), ready=ready_database()) as running:
        yield running


@pytest.fixture(scope="module")
def scene(store) -> Scene:
    return Scene(store)


@pytest.fixture(scope="module")
def states(scene) -> list[Page]:
    return list(scene.pages())


def test_every_state_is_reached_by_everybody_and_jumps_under_nobody(browser, store, states):
    found = {page.name: [*jumps(browser, store, page), *complaints_about(browser)] for page in states}
    assert {name: said for name, said in found.items() if said} == {}
    assert len(found) > 30


def jumps(browser: WebDriver, store: Store, page: Page) -> Iterator[str]:
    """Open the page on a phone, then on a desktop, where it stays."""
    wears(browser)
    for device in WIDTHS:
        size(browser, device)
        shift = open_page(browser, store.url, page)
        if shift > MOST_SHIFT:
            yield f"jumps by {shift:.3f} on a {device}"


def complaints_about(browser: WebDriver) -> Iterator[str]:
    yield from findings(browser)
    yield from (f"moves: {element}" for element in moving(browser))
    yield from (f"flat in forced colours: {element}" for element in flat(browser))
    yield from (f"at 320 px: {element}" for element in overflow(browser))
    yield from (f"with large text: {element}" for element in overflow(browser, width=390, zoom=2))


@pytest.mark.nightly
@pytest.mark.usefixtures("states")
def test_staff_find_every_page_of_theirs_without_fault_on_phone_and_desktop(browser, store, scene):
    """What staff do by clicking, test_admin_browser.py does with every change; it opens each list and a row of it."""
    found: dict[str, list[str]] = {}
    for page in StaffScene(scene, browser).pages():
        wears(browser)
        size(browser, "desktop")
        open_page(browser, store.url, page)
        found[page.name] = [*complaints_of_staff(browser)]
    assert {name: said for name, said in found.items() if said} == {}
    assert len(found) > 60


def complaints_of_staff(browser: WebDriver) -> Iterator[str]:
    yield from findings(browser)
    size(browser, "phone")
    wears(browser)
    yield from (f"on a phone: {finding}" for finding in findings(browser, schemes=("light",)))
    yield from (f"on a phone, broken: {word}" for word in broken_words(browser))
    yield from (f"at 320 px: {element}" for element in overflow(browser))
    yield from (f"with large text: {element}" for element in overflow(browser, width=390, zoom=2))


def size(browser: WebDriver, device: str) -> None:
    width, height = WIDTHS[device]
    told = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": device == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", told)

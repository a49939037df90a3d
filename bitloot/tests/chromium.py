"""A real Chromium, and what all tests in it do with a page and with an order."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from bitloot.tests.services import Sandbox
from tools.dev.browser import wait
from tools.dev.services import find_program
from tools.dev.supervise import Store
from tools.dev.testenv import PROFILE

# Where Debian has it. What stands in /usr/bin is a script: at the end the driver would stop that and leave the browser.
WITHOUT_WINDOWS = Path("/usr/lib/chromium/chromium-headless-shell")
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1280,900", "--no-proxy-server", "--accept-lang=en-GB",
]  # fmt: skip
STRANGER = "5e0a3c39-7a3d-4b0e-9f55-0d8f6a1c2b3d"


@contextmanager
def a_browser(*, logs: Sequence[str] = ("browser",)) -> Iterator[WebDriver]:
    """Start a browser with an empty profile, which the driver makes and removes."""
    options = Options()
    # The same engine without windows takes a fifth less CPU. At night it is the browser that customers have.
    is_shell = PROFILE != "nightly" and WITHOUT_WINDOWS.exists()
    options.binary_location = str(WITHOUT_WINDOWS if is_shell else find_program("chromium", "chromium"))
    for switch in ["--headless" if is_shell else "--headless=new", *SWITCHES]:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", dict.fromkeys(logs, "ALL"))
    driver = webdriver.Chrome(options=options, service=Service(str(find_program("chromedriver", "chromium-driver"))))
    try:
        _let_copy(driver)
        yield driver
    finally:
        driver.quit()


def renewed(browser: WebDriver) -> WebDriver:
    """Leave nothing of the test before: tabs, with what was emulated in them, cookies, storage, messages."""
    before = browser.window_handles
    browser.switch_to.new_window("tab")
    mine = browser.current_window_handle
    for tab in before:
        browser.switch_to.window(tab)
        browser.close()
    browser.switch_to.window(mine)
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
    _let_copy(browser)
    complaints(browser)
    return browser


def _let_copy(browser: WebDriver) -> None:
    """Let pages copy, as a browser lets those that were clicked; the one without windows asks nobody and refuses."""
    if browser.capabilities["browserName"] == "chrome-headless-shell":
        browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardSanitizedWrite"]})


def one(browser: WebDriver, selector: str) -> WebElement:
    """Return the element, as soon as the page that a click leads to is there."""
    return wait(browser, lambda page: page.find_element(By.CSS_SELECTOR, selector), selector)


def text_of(browser: WebDriver, selector: str) -> str:
    """Return what the element says; one of a page that is being left is looked for again."""
    return wait(browser, lambda page: [page.find_element(By.CSS_SELECTOR, selector).text], selector)[0]


def shown(browser: WebDriver, selector: str) -> list[WebElement]:
    return [element for element in browser.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


def wait_for_headline(browser: WebDriver, headline: str) -> None:
    wait(browser, lambda page: one(page, "h1").text == headline, f"“{headline}”")


def wait_for_focus(browser: WebDriver, selector: str) -> None:
    """Return once the focus is there: after `autofocus`, and after a script, it comes some time after the element."""
    wait(browser, lambda page: has_focus(page, selector), f"the focus on {selector}")


def has_focus(browser: WebDriver, selector: str) -> bool:
    return bool(browser.execute_script("return document.activeElement.matches(arguments[0])", selector))


def complaints(browser: WebDriver) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def order(browser: WebDriver, store: Store, slug: str, *, quantity: str = "1") -> str:
    """Go from the shop window to a placed order; return the order's id."""
    browser.get(store.url)
    one(browser, f'a[href="/products/{slug}"]').click()
    Select(one(browser, "select[name=quantity]")).select_by_visible_text(quantity)
    one(browser, ".buy button").click()
    one(browser, "#id_email").send_keys("ada@customer.example")
    one(browser, ".checkout form button").click()
    return wait(browser, lambda page: re.search(r"/orders/([0-9a-f-]{36})", page.current_url), "the order's page")[1]


def choose_coin(browser: WebDriver, code: str) -> None:
    wait(browser, lambda page: shown(page, f".coin[value={code}]"), f"the coin {code}")[0].click()


def mailed_links(store: Store, order_id: str) -> set[str]:
    pattern = re.compile(rf"{re.escape(store.url)}/orders/{order_id}#[\w.-]+")
    mails = (mail.read_text(errors="replace").replace("=\n", "") for mail in (store.var / "mail").glob("*"))
    return {link for mail in mails for link in pattern.findall(mail)}


def mailed_codes(store: Store, order_id: str) -> set[str]:
    mails = (mail.read_text(errors="replace").replace("=\n", "") for mail in (store.var / "mail").glob("*"))
    return {code for mail in mails if order_id in mail for code in re.findall(r"Your code: (\d{6})", mail)}


def on_desk(store: Store, order_id: str, decision: str) -> None:
    """Let staff decide something about the order."""
    order = f"from orders.models import Order; order = Order.objects.get(pk='{order_id}')"
    store.shell(f"from payments import refunds; {order}; {decision}")


def underpay(browser: WebDriver, store: Store) -> str:
    """Order for 9.99 EUR and pay half of it in BTC; return the order's id."""
    order_id = order(browser, store, "ember-drift")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    Sandbox(store.sandbox_url).pay(text_of(browser, "[data-address]"), "under")
    wait_for_headline(browser, "Not all of the money arrived")
    return order_id

"""Every page and state under axe, by keyboard, on a small screen and with large text; and what opening a key shows."""

from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.keys import Keys

from bitloot.tests.services import Sandbox
from bitloot.tests.test_browser import (
    browser,
    choose_coin,
    complaints,
    mailed_links,
    one,
    order,
    shown,
    store,
    wait,
    wait_for_headline,
)

__all__ = ["browser", "store"]  # fixtures
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

AXE = (Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js").read_text()
FINDINGS = """
const done = arguments[0];
axe.run({ resultTypes: ["violations"] }).then(({ violations }) =>
  done(violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 160)}`))));
"""
ADA, BOB = "ada@customer.example", "bob@customer.example"


def findings(page: WebDriver) -> list[str]:
    """Return what axe says about the page as it is now, light and dark."""
    page.execute_script(AXE)
    found = []
    for scheme in ("light", "dark"):
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        found += [f"{scheme}, {finding}" for finding in page.execute_async_script(FINDINGS)]
    return found


STICKING_OUT = """
const WIDTH = arguments[0];
if (document.documentElement.scrollWidth <= WIDTH) return [];
const isOut = (element) => element.getBoundingClientRect().right > WIDTH + 1;
const found = [...document.querySelectorAll("body *")].filter(isOut);
return found.map((element) => element.outerHTML.slice(0, 120)).concat(["the page scrolls sideways"]);
"""


def overflow(page: WebDriver, *, width: int = 320, zoom: float = 1) -> list[str]:
    """Return what sticks out of such a screen; `zoom` grows the text alone."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_script("document.documentElement.style.fontSize = arguments[0]", f"{106.25 * zoom}%")
    found = page.execute_script(STICKING_OUT, width)
    page.execute_script("document.documentElement.style.fontSize = ''")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return found


def check(page: WebDriver) -> None:
    assert findings(page) == []
    assert overflow(page) == []
    assert overflow(page, width=390, zoom=2) == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?q=drift&platform=PC&max_price=x",
        "/?q=zzz&in_stock=true",
        "/products/ember-drift",
        "/checkout?product=ember-drift",
        "/orders/find",
        "/pages/terms",
    ],
)
def test_pages_of_the_shop_have_no_findings(browser, store, path):
    browser.get(store.url + path)
    check(browser)


def test_refused_form_has_no_findings(browser, store):
    browser.get(f"{store.url}/orders/find")
    one(browser, "#id_email").send_keys("ada@customer.example")
    one(browser, "#id_number").send_keys("12")
    one(browser, "main form button").click()
    assert one(browser, ".field-error").text.startswith("This is not a whole order number.")
    check(browser)


def test_purchase_has_no_findings_on_the_way_and_one_click_opens_one_key(browser, store):
    sandbox = Sandbox(store.sandbox_url)
    order(browser, store, "ember-drift", quantity="2")
    wait_for_headline(browser, "Choose how to pay")
    assert one(browser, "[data-email]").text == ADA  # whole: a mistyped one has to be seen
    check(browser)
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    check(browser)
    sandbox.pay(one(browser, "[data-address]").get_attribute("textContent").replace(" ", ""))
    wait_for_headline(browser, "Your keys are ready")
    assert shown(browser, "[data-wrong-address]") == []
    check(browser)

    button = shown(browser, "[data-reveal]")[0]
    button.send_keys(Keys.ENTER)
    wait(browser, lambda page: shown(page, ".key-value code"), "the first key")
    focused = browser.switch_to.active_element
    assert "key-value" in focused.get_attribute("class")
    wait(browser, lambda page: len(shown(page, "[data-opened]")) == 1, "the time of its opening")
    assert one(browser, "[data-opened]").text.startswith("Opened ")
    assert len(shown(browser, "[data-reveal]")) == 1
    assert len(shown(browser, ".key-mask")) == 1
    check(browser)

    one(browser, "[data-reveal-all]").click()
    wait(browser, lambda page: len(shown(page, ".key-value code")) == 2, "the second key")
    wait(browser, lambda page: len(shown(page, "[data-opened]")) == 2, "its time")
    assert one(browser, "[data-copy-all]").text == "Copy all 2"
    saved = shown(browser, ".key-value a[download]")[0]
    assert saved.get_property("download").endswith(".txt")
    for fold in (".receipt summary", ".history summary"):
        one(browser, fold).click()
    receipt = one(browser, "[data-receipt]").text
    assert "19.98 EUR" in receipt
    assert "BTC" in receipt
    check(browser)
    browser.execute_script("dispatchEvent(new PageTransitionEvent('pagehide'))")
    assert shown(browser, ".key-value code") == []
    assert len(shown(browser, ".key-mask")) == 2
    assert complaints(browser) == []


def test_customer_who_does_not_want_to_wait_for_the_supplier_gets_the_money_back(browser, store):
    sandbox = Sandbox(store.sandbox_url)
    order(browser, store, "saltmarsh-signals")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    product = next(row for row in sandbox.control("state")["products"] if "Saltmarsh" in row["name"])
    sandbox.control(f"products/{product['product_id']}", {"qty": 0, "textQty": 0})
    sandbox.pay(one(browser, "[data-address]").get_attribute("textContent").replace(" ", ""))
    wait_for_headline(browser, "Your key has to wait")
    assert one(browser, "[data-lead]").text.startswith("Our supplier is out of stock.")
    check(browser)
    one(browser, "[data-money-back-button]").click()
    browser.switch_to.alert.dismiss()
    assert one(browser, "h1").text == "Your key has to wait"
    one(browser, "[data-money-back-button]").click()
    browser.switch_to.alert.accept()
    wait_for_headline(browser, "We owe you a refund")
    wait(browser, lambda page: shown(page, ".refund [name=address]"), "the form for the address")
    check(browser)


def test_customer_corrects_a_mistyped_address(browser, store):
    order(browser, store, "tiny-orchard-tycoon")
    wait_for_headline(browser, "Choose how to pay")
    one(browser, "[data-wrong-address]").click()
    field = browser.switch_to.active_element
    assert field.get_property("value") == ADA
    field.clear()
    field.send_keys("no address@x" + Keys.ENTER)
    field.clear()
    field.send_keys(BOB + Keys.ENTER)
    wait(browser, lambda page: one(page, "[data-email]").text == BOB, "the new address")
    browser.refresh()
    wait_for_headline(browser, "Choose how to pay")
    assert one(browser, "[data-email]").text == BOB


def test_scanner_that_presses_every_button_uses_nothing_up(browser, store):
    sandbox = Sandbox(store.sandbox_url)
    order_id = order(browser, store, "ember-drift")
    link = wait(browser, lambda page: mailed_links(store, order_id), "the mail").pop()
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    sandbox.pay(one(browser, "[data-address]").get_attribute("textContent").replace(" ", ""))
    wait_for_headline(browser, "Your key is ready")

    browser.switch_to.new_window("tab")
    browser.get(link)
    wait_for_headline(browser, "Your key is ready")
    for fold in shown(browser, "summary"):
        fold.click()
    # As programs do: every button, and no question is answered.
    browser.execute_script("window.confirm = () => false; window.print = () => {};")
    for _ in range(3):
        browser.execute_script("document.querySelectorAll('main button').forEach((button) => button.click())")
        wait(browser, lambda page: not shown(page, "main [aria-busy=true]"), "the end of the scanner's calls")

    browser.switch_to.new_window("tab")
    browser.get(f"{link.partition('#')[0]}?person#{link.partition('#')[2]}")
    wait_for_headline(browser, "Your key is ready")
    shown(browser, "[data-reveal]")[0].click()
    code = wait(browser, lambda page: shown(page, ".key-value code"), "the key")[0]
    assert code.text in [key["serial"] for key in sandbox.sold()]

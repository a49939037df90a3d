"""A purchase and a refund without a mouse: every stop is seen, none is lost, and each piece of news is said once."""

import re

import pytest
from selenium.webdriver.common.keys import Keys

from bitloot.tests.chromium import on_desk, one, shown, text_of, underpay, wait_for_focus, wait_for_headline
from bitloot.tests.keyboard import Keyboard
from bitloot.tests.services import Sandbox
from tools.dev.browser import wait

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
# From the first moment of every page: whatever a live region is told.
LISTEN = """
window.said = [];
new MutationObserver((changes) => {
  const regions = changes.map(({ target }) => target.parentElement?.closest("[role=status], [role=alert]") ?? target);
  for (const region of new Set(regions)) {
    const text = region.matches?.("[role=status], [role=alert]") ? region.textContent.trim() : "";
    if (text && !region.closest("[hidden]")) said.push(text);
  }
}).observe(document, { subtree: true, childList: true, characterData: true });
"""
NEWS = [
    "Choose how to pay. Your order is placed. Pick a coin and we show you the exact amount and the address.",
    "Waiting for your payment. This page updates as soon as the network shows your payment.",
    "Your keys are ready. Have fun. This page stays here if you need a key again.",
]


def test_a_purchase_with_the_keyboard_alone(browser, store):
    keyboard = Keyboard(browser)
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LISTEN})
    browser.get(store.url)
    keyboard.press(Keys.TAB, Keys.ENTER)
    wait_for_focus(browser, "#main")  # past the header
    keyboard.go_to("#id_q")
    keyboard.press("ember", Keys.ENTER)
    wait(browser, lambda page: shown(page, ".chips"), "what was found")
    keyboard.go_to(".finder-stock input")
    keyboard.press(Keys.SPACE)
    keyboard.go_to(".finder-fields button")
    keyboard.press(Keys.SPACE)
    wait(browser, lambda page: "in_stock=true" in page.current_url, "the filtered list")
    keyboard.go_to('a[href="/products/ember-drift"]')
    keyboard.press(Keys.ENTER)
    wait_for_headline(browser, "Ember Drift")
    keyboard.go_to("select[name=quantity]")
    keyboard.press(Keys.ARROW_DOWN)
    keyboard.go_to(".buy button")
    keyboard.press(Keys.SPACE)
    one(browser, "#id_email")
    keyboard.go_to("#id_email")
    keyboard.press("ada@customer.example", Keys.ENTER)

    wait_for_headline(browser, "Choose how to pay")
    wait(browser, lambda page: shown(page, ".coin"), "the coins")
    keyboard.go_to("#coin-search")
    keyboard.press("ripple")
    wait(browser, lambda page: len(shown(page, ".coin")) == 1, "the coin")
    keyboard.press_with(Keys.SHIFT, Keys.TAB)
    wait_for_focus(browser, ".coin[value=xrp]")
    keyboard.press(Keys.ENTER)
    keyboard.wait_for("#pay-title")
    for row in ("amount", "address", "memo"):
        keyboard.go_to(f"[data-copy-row={row}]")
        keyboard.press(Keys.SPACE)
        wait(browser, lambda page: "Copied" in page.switch_to.active_element.text, "that it was copied")
    Sandbox(store.sandbox_url).pay(text_of(browser, "[data-address]"))

    keyboard.wait_for("[data-headline]")  # the panel with the keyboard in it has gone
    wait_for_headline(browser, "Your keys are ready")
    keyboard.go_to("[data-reveal]")
    keyboard.press(Keys.ENTER)
    keyboard.wait_for(".key-value")
    for stop, key in ((".key-value button", Keys.SPACE), (".key-value a", None), (".how summary", Keys.SPACE)):
        keyboard.go_to(stop)
        keyboard.press(key or "")
    keyboard.go_to(".history summary")
    keyboard.press(Keys.ENTER)
    said = browser.execute_script("return said")
    assert [text for text in said if text in NEWS] == NEWS
    others = [text for text in said if not re.match("Copied|[0-9]+ coins?", text)]
    assert len(others) == len(set(others))
    keyboard.go_to("[data-way]")
    keyboard.press(Keys.ENTER)
    wait_for_headline(browser, "Receipt")
    keyboard.go_to("[data-print]")
    keyboard.go_to("[data-way]")


def test_a_refunds_address_is_given_and_changed_with_the_keyboard_alone(browser, store):
    order_id = underpay(browser, store)
    keyboard = Keyboard(browser)
    on_desk(store, order_id, "refunds.request_refund(order.payments.get(), actor='kim', reason='The customer asked.')")
    wait_for_headline(browser, "We owe you a refund")
    keyboard.go_to(".refund [name=address]")
    keyboard.press("nonsense", Keys.ENTER)
    wait(browser, lambda page: shown(page, ".refund .field-error"), "the refusal")
    wait_for_focus(browser, ".refund [name=address]")
    keyboard.press_with(Keys.CONTROL, "a")
    keyboard.press("bc1q" + "a" * 38, Keys.ENTER)
    keyboard.wait_for("[data-edit]")
    keyboard.press(Keys.SPACE)
    keyboard.wait_for(".refund [name=address]")
    keyboard.go_to("[data-leave]")
    keyboard.press(Keys.SPACE)
    keyboard.wait_for("[data-edit]")

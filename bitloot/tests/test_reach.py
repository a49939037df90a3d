"""By keyboard and by ear: what a purchase says aloud, what opening a key shows, and what programs cannot press."""

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.keys import Keys

from bitloot.tests.chromium import (
    choose_coin,
    complaints,
    mailed_links,
    one,
    order,
    shown,
    text_of,
    wait_for_focus,
    wait_for_headline,
)
from bitloot.tests.services import Sandbox
from tools.dev.browser import wait

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ADA, BOB = "ada@customer.example", "bob@customer.example"


LISTEN = """
window.said = [];
const live = document.querySelectorAll("[role=status], [role=alert], [aria-live]");
const note = (changes) => changes.forEach(({ target }) => target.textContent && window.said.push(target.textContent));
live.forEach((region) => new MutationObserver(note).observe(region, { childList: true }));
"""


def said(page: WebDriver) -> list[str]:
    """Return what a screen reader read out since LISTEN, in its order."""
    return page.execute_script("return window.said")


def test_each_state_is_said_once_and_the_clock_stays_silent(browser, store):
    order(browser, store, "ember-drift")
    wait_for_headline(browser, "Choose how to pay")
    wait(browser, lambda page: shown(page, ".coin"), "the coins")
    browser.execute_script(LISTEN)
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    before, clocks = said(browser), {text_of(browser, "[data-countdown]")}
    wait(browser, lambda page: clocks.add(one(page, "[data-countdown]").text) or len(clocks) > 3, "the seconds")
    assert said(browser) == before
    assert before[-1].startswith("Waiting for your payment. This page updates")
    Sandbox(store.sandbox_url).pay(one(browser, "[data-address]").get_attribute("textContent").replace(" ", ""))
    wait_for_headline(browser, "Your key is ready")
    assert len(said(browser)) == len(set(said(browser)))
    assert said(browser)[-1] == "Your key is ready. Have fun. This page stays here if you need a key again."


def test_one_click_opens_one_key_and_the_focus_goes_with_it(browser, store):
    sandbox = Sandbox(store.sandbox_url)
    order(browser, store, "ember-drift", quantity="2")
    wait_for_headline(browser, "Choose how to pay")
    assert text_of(browser, "[data-email]") == ADA  # whole: a mistyped one has to be seen
    assert one(browser, "[data-email] wbr")  # a long one breaks at its @
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    sandbox.pay(one(browser, "[data-address]").get_attribute("textContent").replace(" ", ""))
    wait_for_headline(browser, "Your keys are ready")
    assert shown(browser, "[data-wrong-address]") == []

    button = shown(browser, "[data-reveal]")[0]
    button.send_keys(Keys.ENTER)
    wait(browser, lambda page: shown(page, ".key-value code"), "the first key")
    wait_for_focus(browser, ".key-value")
    wait(browser, lambda page: len(shown(page, "[data-opened]")) == 1, "the time of its opening")
    assert text_of(browser, "[data-opened]").startswith("Opened ")
    assert len(shown(browser, "[data-reveal]")) == 1
    assert len(shown(browser, ".key-mask")) == 1

    one(browser, "[data-reveal-all]").click()
    wait(browser, lambda page: len(shown(page, ".key-value code")) == 2, "the second key")
    wait(browser, lambda page: len(shown(page, "[data-opened]")) == 2, "its time")
    assert text_of(browser, "[data-copy-all]") == "Copy all 2"
    saved = shown(browser, ".key-value a[download]")[0]
    assert saved.get_property("download").endswith(".txt")
    one(browser, ".history summary").click()
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
    assert text_of(browser, "[data-lead]").startswith("Our supplier is out of stock.")
    one(browser, "[data-money-back-button]").click()
    browser.switch_to.alert.dismiss()
    assert text_of(browser, "h1") == "Your key has to wait"
    one(browser, "[data-money-back-button]").click()
    browser.switch_to.alert.accept()
    wait_for_headline(browser, "We owe you a refund")
    wait(browser, lambda page: shown(page, ".refund [name=address]"), "the form for the address")


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
    assert text_of(browser, "[data-email]") == BOB


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

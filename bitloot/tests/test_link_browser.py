"""The links and codes that lead a customer to an order, and those that do not any more, in a real Chromium."""

import re
import time

import pytest
from selenium.webdriver.common.keys import Keys

from bitloot.tests.chromium import (
    STRANGER,
    choose_coin,
    mailed_codes,
    mailed_links,
    on_desk,
    one,
    order,
    shown,
    text_of,
    wait_for_headline,
)
from bitloot.tests.shopper import Shopper
from tools.dev.browser import wait

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def test_receipt_without_the_token_asks_for_a_new_link_like_the_orders_page(browser, store):
    order_id = order(browser, store, "tiny-orchard-tycoon")
    wait_for_headline(browser, "Choose how to pay")
    browser.switch_to.new_window("tab")  # which knows nothing of the first one
    browser.get(f"{store.url}/orders/{order_id}/receipt")
    wait_for_headline(browser, "This link does not open an order")
    assert shown(browser, ".receipt") == []
    one(browser, "#lookup-email").send_keys("ada@customer.example")
    one(browser, "[data-lookup] button[value=code]").click()
    code = wait(browser, lambda page: mailed_codes(store, order_id), "the mail with the code").pop()
    field = one(browser, "#lookup-code")
    field.send_keys("no", Keys.ENTER)
    assert field.get_property("validity")["patternMismatch"] is True
    field.clear()
    field.send_keys(f"{(int(code) + 1) % 1_000_000:06}", Keys.ENTER)
    wait(browser, lambda page: shown(page, "#code-error"), "the refusal")
    assert (field.get_attribute("aria-invalid"), field.accessible_name) == ("true", "The six digits from our e-mail")
    field.clear()
    field.send_keys(code, Keys.ENTER)
    wait_for_headline(browser, "Receipt")
    wait(browser, lambda page: page.switch_to.active_element.tag_name == "h1", "the focus, which was in the form")
    assert "Paid\nNothing yet" in text_of(browser, "[data-receipt]")
    one(browser, "[data-language][lang=de]").click()
    wait_for_headline(browser, "Beleg")
    assert not re.search(r"\b(the|your|you|and|is|was|of)\b", text_of(browser, "body"))


def test_link_from_the_mail_opens_the_order_until_a_fresh_one_is_asked_for(browser, store):
    order_id = order(browser, store, "tiny-orchard-tycoon")
    link = wait(browser, lambda page: mailed_links(store, order_id), "the mail").pop()
    browser.switch_to.new_window("tab")  # which knows nothing of the first one
    browser.get(link)
    wait_for_headline(browser, "Choose how to pay")
    assert "#" not in browser.current_url
    assert text_of(browser, "[data-email]") == "a…@customer.example"

    browser.get(f"{store.url}/orders/{order_id}?again#a.wrong")
    wait_for_headline(browser, "This link does not open an order")
    one(browser, "#lookup-email").send_keys("ada@customer.example")
    one(browser, "[data-lookup] button").click()
    fresh = wait(browser, lambda page: mailed_links(store, order_id) - {link}, "the mail with the fresh link").pop()
    browser.get(f"{link.partition('#')[0]}?old#{link.partition('#')[2]}")
    wait_for_headline(browser, "This link has been replaced")
    browser.execute_script("location.hash = arguments[0]", fresh.partition("#")[2])
    wait_for_headline(browser, "Choose how to pay")


def test_code_by_mail_opens_a_link_that_lost_its_end_and_other_links_can_be_closed(browser, store):
    order_id = order(browser, store, "tiny-orchard-tycoon")
    link = wait(browser, lambda page: mailed_links(store, order_id), "the mail").pop()
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    browser.get(link.partition("#")[0])
    wait_for_headline(browser, "This link does not open an order")
    one(browser, "#lookup-email").send_keys("ada@customer.example")
    one(browser, "[data-lookup] button[value=code]").click()
    code = wait(browser, lambda page: mailed_codes(store, order_id), "the mail with the code").pop()
    one(browser, "#lookup-code").send_keys(code)
    one(browser, "[data-code] button").click()
    wait_for_headline(browser, "Choose how to pay")
    one(browser, ".history summary").click()
    one(browser, "[data-close-links]").click()
    browser.switch_to.alert.accept()
    wait(browser, lambda page: one(page, "[data-close-answer]").text.startswith("Done."), "the end of other links")
    browser.refresh()
    wait_for_headline(browser, "Choose how to pay")
    browser.switch_to.window(first)
    browser.refresh()
    wait_for_headline(browser, "This link has been replaced")


def test_link_of_the_mail_with_the_code_leads_to_where_it_is_typed(browser, store):
    order = Shopper(store.url).order(email="ada@customer.example")
    asked = {"order_id": order["id"], "email": "ada@customer.example"}
    Shopper(store.url).json("POST", "/api/orders/code", json=asked)
    code = wait(browser, lambda page: mailed_codes(store, order["id"]), "the mail with the code").pop()
    mails = [mail.read_text(errors="replace").replace("=\n", "") for mail in (store.var / "mail").glob("*")]
    (mail,) = [mail for mail in mails if f"Your code: {code}" in mail]
    browser.get(re.search(r"http\S+#code", mail)[0])
    wait_for_headline(browser, "Enter your code")
    one(browser, "#lookup-code").send_keys(code, Keys.ENTER)
    wait_for_headline(browser, "Choose how to pay")
    assert browser.current_url == f"{store.url}/orders/{order['id']}"


def test_page_that_closes_the_other_links_stays_open_though_it_was_looking_for_news(browser, store):
    order(browser, store, "tiny-orchard-tycoon")
    wait_for_headline(browser, "Choose how to pay")
    one(browser, ".history summary").click()
    # Once the shop has ended the token, and before its answer with the new one is there.
    browser.execute_script("""
        const fetchNow = fetch;
        window.fetch = async (path, options) => {
          const answer = await fetchNow(path, options);
          if (path.endsWith("/close-links")) {
            document.dispatchEvent(new Event("visibilitychange"));
            await new Promise((wake) => setTimeout(wake, 1000));
            window.lostBefore = document.querySelector("h1").textContent;
          }
          return answer;
        };
    """)
    one(browser, "[data-close-links]").click()
    browser.switch_to.alert.accept()
    wait(browser, lambda page: one(page, "[data-close-answer]").text.startswith("Done."), "the end of other links")
    assert browser.execute_script("return lostBefore") == "This link has been replaced"
    assert text_of(browser, "h1") == "Choose how to pay"


def test_page_whose_link_was_replaced_does_not_come_back_when_its_quote_ends(browser, store):
    order_id = order(browser, store, "tiny-orchard-tycoon")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    on_desk(store, order_id, "from orders.services import renew_link; renew_link(order)")
    wait_for_headline(browser, "This link has been replaced")
    browser.execute_script("const now = Date.now; Date.now = () => now() + 86_400_000")
    time.sleep(2.5)  # the page looks at the clock each second
    assert text_of(browser, "h1") == "This link has been replaced"
    assert shown(browser, "[data-panel=lookup]") != []


@pytest.mark.parametrize("fragment", ["", "#a.wrong"])
def test_link_that_opens_nothing_offers_a_fresh_one(browser, store, fragment):
    browser.get(f"{store.url}/orders/{STRANGER}{fragment}")
    wait_for_headline(browser, "This link does not open an order")
    one(browser, "#lookup-email").send_keys("ada@customer.example")
    one(browser, "[data-lookup] button").click()
    answer = wait(browser, lambda page: one(page, "[data-lookup-answer]").text, "the answer")
    assert answer.startswith("If this order belongs to that address, a new link is on its way.")


def test_skip_link_does_not_cost_the_order_where_the_browser_keeps_nothing(browser, store):
    order = Shopper(store.url).order()
    blocked = "Object.defineProperty(window, 'sessionStorage', { get() { throw new Error('blocked'); } })"
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": blocked})
    browser.get(f"{store.url}/orders/{order['id']}#{order['access_token']}")
    wait_for_headline(browser, "Choose how to pay")
    one(browser, ".skip").send_keys(Keys.ENTER)
    wait(browser, lambda page: page.switch_to.active_element.get_attribute("id") == "main", "the skipped to part")
    browser.refresh()
    wait_for_headline(browser, "Choose how to pay")

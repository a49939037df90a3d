"""The customer's way through the shop, in a real Chromium against a whole running store."""

import base64
import re
from decimal import Decimal

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from bitloot.tests.chromium import (
    STRANGER,
    a_browser,
    choose_coin,
    complaints,
    on_desk,
    one,
    order,
    shown,
    text_of,
    underpay,
    wait_for_focus,
    wait_for_headline,
)
from bitloot.tests.services import Sandbox, answers, wait_until
from bitloot.tests.shopper import Shopper
from tools.dev.browser import wait

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

REPLACE = """
from bitloot.core.decisions import Secret
from fulfillment.by_hand import replace_by_hand
from storage.models import Key
key = Key.objects.get(item__order=order)
replace_by_hand(key, actor="kim", reason="It does not work.", code=Secret("NEWXX-NEWXX-NEWXX"), old_key="destroy")
"""
SHRED = """
from storage.models import Key
from storage.services import shred
shred(Key.objects.exclude(status="shredded").get(item__order=order), reason="Its time is over.")
"""
FIRST_ADDRESS, SECOND_ADDRESS = "bc1q" + "a" * 38, "bc1q" + "z" * 38


def test_no_browser_stays_behind():
    with a_browser() as browser:
        address = f"http://{browser.capabilities['goog:chromeOptions']['debuggerAddress']}/json/version"
        assert answers(address)
    wait_until(lambda: not answers(address), seconds=20, what="the browser's end")


def test_customer_buys_two_keys_and_opens_them(browser, store):
    sandbox = Sandbox(store.sandbox_url)
    order_id = order(browser, store, "ember-drift", quantity="2")
    wait_for_headline(browser, "Choose how to pay")
    assert browser.current_url == f"{store.url}/orders/{order_id}"  # the token has left the address bar

    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    assert one(browser, "[data-qr]").get_property("naturalWidth") > 0
    assert re.fullmatch(r"\d+:\d\d left at this price", text_of(browser, "[data-countdown]"))
    asked = text_of(browser, ".amount")
    paid = sandbox.pay(text_of(browser, "[data-address]"))
    assert Decimal(asked.removesuffix(" BTC")) == Decimal(str(paid["pay_amount"]))

    wait_for_headline(browser, "Your keys are ready")
    assert shown(browser, ".key-value code") == []  # nothing opens unasked
    for button in shown(browser, "[data-reveal]"):
        button.click()
    opened = wait(browser, lambda page: len(found := shown(page, ".key-value code")) == 2 and found, "both keys")
    assert sorted(code.text for code in opened) == sorted(key["serial"] for key in sandbox.sold())

    browser.refresh()
    wait_for_headline(browser, "Your keys are ready")
    assert shown(browser, ".key-value code") == []
    assert complaints(browser) == []


def test_german_buys_a_key_by_clicking_and_reads_no_english(browser, store):
    sandbox = Sandbox(store.sandbox_url)
    sold = len(sandbox.sold())
    browser.get(store.url)
    one(browser, "[data-language][lang=de]").click()
    wait(browser, lambda page: one(page, "html").get_attribute("lang") == "de", "the German page")
    one(browser, 'a[href="/products/ember-drift"]').click()
    one(browser, ".buy button").click()
    assert Select(one(browser, "#id_quantity")).first_selected_option.text == "1 Key: 9,99 EUR"
    one(browser, "#id_email").send_keys("jana@customer.example")
    one(browser, ".checkout form button").click()
    wait_for_headline(browser, "Womit möchten Sie bezahlen?")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Wir warten auf Ihre Zahlung")
    assert text_of(browser, "[data-price]") == "9,99 EUR"
    assert re.fullmatch(r"noch \d+:\d\d zu diesem Preis", text_of(browser, "[data-countdown]"))
    one(browser, "[data-language][lang=en]").click()  # the page and its token stay
    wait_for_headline(browser, "Waiting for your payment")
    one(browser, "[data-language][lang=de]").click()
    wait_for_headline(browser, "Wir warten auf Ihre Zahlung")
    sandbox.pay(text_of(browser, "[data-address]"))
    wait_for_headline(browser, "Ihr Key ist da")
    assert [step.text for step in shown(browser, ".steps li")] == ["Coin", "Bezahlen", "Bestätigt", "Key"]
    one(browser, ".history summary").click()
    told = text_of(browser, ".history")
    assert "Die Bestellung ist eingegangen." in told
    assert re.search(r"Mit [\d.]+ BTC vollständig bezahlt\.", told)
    shown(browser, "[data-reveal]")[0].click()
    code = wait(browser, lambda page: shown(page, ".key-value code"), "the key")[0]
    assert code.text in [key["serial"] for key in sandbox.sold()[sold:]]
    assert not re.search(r"\b(the|your|you|and|is|was|of)\b", text_of(browser, "body"))
    assert complaints(browser) == []


def test_the_mails_of_an_order_follow_the_language_chosen_on_its_page(browser, store):
    order_id = order(browser, store, "ember-drift")
    wait_for_headline(browser, "Choose how to pay")
    one(browser, "[data-language][lang=de]").click()
    wait_for_headline(browser, "Womit möchten Sie bezahlen?")
    one(browser, ".history summary").click()
    one(browser, "[data-close-links]").click()
    browser.switch_to.alert.accept()

    def written():
        mails = [mail.read_text(errors="replace") for mail in (store.var / "mail").glob("*")]
        return any(order_id in mail and "\nSubject: Ein neuer Link zu Ihrer Bestellung" in mail for mail in mails)

    wait(browser, lambda page: written(), "the German mail")


def test_receipt_is_a_page_of_its_own_that_opens_with_the_orders_token(browser, store):
    order_id = order(browser, store, "ember-drift", quantity="2")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    assert shown(browser, "[data-way]") == []  # nothing is paid that it could show
    Sandbox(store.sandbox_url).pay(text_of(browser, "[data-address]"))
    wait_for_headline(browser, "Your keys are ready")
    one(browser, "[data-way]").click()
    wait_for_headline(browser, "Receipt")
    assert browser.current_url == f"{store.url}/orders/{order_id}/receipt"
    receipt = text_of(browser, ".receipt")
    for told in (order_id, "Ember Drift\n2 × 9.99 EUR", "Total\n19.98 EUR", " BTC, ", "Bitcoin", "BitLoot"):
        assert told in receipt, told
    assert len(shown(browser, "[data-print]")) == 1
    assert printed_pages(browser) == 1
    one(browser, "[data-way]").click()
    wait_for_headline(browser, "Your keys are ready")
    assert complaints(browser) == []


def printed_pages(browser: WebDriver) -> int:
    paper = browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})  # A4
    return len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(paper["data"])))


def test_picture_key_is_shown_as_a_picture_and_forgotten_when_the_page_is_left(browser, store):
    order(browser, store, "nightline-courier")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    Sandbox(store.sandbox_url).pay(text_of(browser, "[data-address]"))
    wait_for_headline(browser, "Your key is ready")
    one(browser, "[data-reveal]").click()
    picture = wait(browser, lambda page: shown(page, ".key-value img"), "the picture")[0]
    wait(browser, lambda page: picture.get_property("naturalWidth") > 0, "the picture's pixels")
    assert picture.get_property("src").startswith("blob:")
    assert one(browser, ".key-value a[download]").get_property("download").endswith(".png")
    browser.execute_script("dispatchEvent(new PageTransitionEvent('pagehide'))")
    assert shown(browser, ".key-value img") == []
    assert complaints(browser) == []


@pytest.mark.parametrize(("path", "wrong"), [("/checkout?product=ember-drift", "email"), ("/orders/find", "number")])
def test_form_that_comes_back_has_the_focus_in_the_field_to_correct(browser, store, path, wrong):
    browser.get(f"{store.url}{path}")
    browser.execute_script("document.querySelector('main form').noValidate = true")
    for field in browser.find_elements(By.CSS_SELECTOR, "main form input:not([type=hidden])"):
        name = field.get_attribute("name")
        field.send_keys("zzz" if name == wrong else "ada@customer.example")
    one(browser, "main form [type=submit]").click()
    wait(browser, lambda page: shown(page, ".field-error"), "the refusal")
    wait_for_focus(browser, f"[name={wrong}]")


def test_address_with_letters_before_the_at_is_typed_and_corrected(browser, store):
    browser.get(f"{store.url}/checkout?product=saltmarsh-signals")
    field = one(browser, "#id_email")
    field.send_keys("山田@customer")
    one(browser, ".checkout form button").click()
    assert field.get_property("validity")["patternMismatch"] is True  # said by the browser, before anything is sent
    field.send_keys(".example")
    one(browser, ".checkout form button").click()
    wait_for_headline(browser, "Choose how to pay")
    assert text_of(browser, "[data-email]") == "山田@customer.example"
    one(browser, "[data-wrong-address]").click()
    field = one(browser, "#new-email")
    field.clear()
    field.send_keys("jürgen@customer.example")
    one(browser, "[data-address-form] button").click()
    wait(browser, lambda page: one(page, "[data-email]").text == "jürgen@customer.example", "the new address")
    # A look that was under way went out with the token that has just ended.
    assert [said for said in complaints(browser) if "401" not in said] == []


def test_customer_who_paid_too_little_pays_the_rest_in_another_coin(browser, store):
    order_id = underpay(browser, store)
    told = re.match(r"(\S+) of (\S+) BTC arrived, (\S+) EUR are still missing\.", text_of(browser, "[data-lead]"))
    arrived, asked = Decimal(told[1]), Decimal(told[2])
    assert (arrived * 2, told[3]) == (asked, text_of(browser, "[data-due]").removesuffix(" EUR"))
    assert Decimal("4.99") <= Decimal(told[3]) <= Decimal("5.01")
    assert "Do not send the rest to the first address." in text_of(browser, "[data-panel=coins]")

    choose_coin(browser, "ltc")
    wait_for_headline(browser, "Waiting for the rest")
    rest = text_of(browser, "[data-address]")
    assert shown(browser, "[data-panel=coins]") == []
    browser.refresh()
    wait(browser, lambda page: one(page, "h1").text in ("Not all of the money arrived", "Waiting for the rest"), "it")
    if text_of(browser, "h1") == "Not all of the money arrived":
        choose_coin(browser, "ltc")
    wait_for_headline(browser, "Waiting for the rest")
    assert text_of(browser, "[data-address]") == rest

    sandbox = Sandbox(store.sandbox_url)
    before = len(sandbox.sold())
    sandbox.pay(rest)
    wait_for_headline(browser, "Your key is ready")
    assert len(sandbox.sold()) == before + 1
    assert text_of(browser, "[data-number]") == f"Order {order_id[:8]} Copy"
    assert complaints(browser) == []


def test_customer_says_where_the_money_goes_back_to(browser, store):
    order_id = underpay(browser, store)
    on_desk(store, order_id, "refunds.request_refund(order.payments.get(), actor='kim', reason='The customer asked.')")
    wait_for_headline(browser, "We owe you a refund")
    assert text_of(browser, "[data-lead]") == "Your money goes back to you. Tell us below which address it goes to."
    give_address(browser, "not-an-address")
    refused = wait(browser, lambda page: shown(page, ".refund .field-error"), "the refusal")[0]
    assert refused.text == "This is not an address for Bitcoin. Copy it from your wallet as it is."
    field = one(browser, ".refund [name=address]")
    assert field.get_attribute("aria-describedby") == refused.get_attribute("id")
    assert field.get_attribute("aria-invalid") == "true"

    give_address(browser, FIRST_ADDRESS)
    given = wait(browser, lambda page: shown(page, "[data-given=address] code"), "the address")[0]
    assert (given.text, shown(browser, ".refund form")) == (FIRST_ADDRESS, [])
    wait_for_focus(browser, "[data-edit]")  # the form went away with the focus in it
    one(browser, "[data-edit]").click()
    assert one(browser, ".refund [name=address]").get_property("value") == FIRST_ADDRESS
    give_address(browser, SECOND_ADDRESS)
    wait(browser, lambda page: given.text == SECOND_ADDRESS, "the new address")

    # Two days later: until then the second address rests.
    on_desk(store, order_id, "order.refunds.get().addresses.update(rests_until=None)")
    sent = "refund, actor='kim', transaction_id='f4184fc596403b9d', destination=refund.destination_id"
    on_desk(store, order_id, f"refund = order.refunds.get(); refunds.mark_sent({sent})")
    sent = wait(browser, lambda page: shown(page, "[data-given=transaction] code"), "the transaction")[0]
    assert (sent.text, shown(browser, "[data-edit]")) == ("f4184fc596403b9d", [])
    on_desk(store, order_id, "refunds.mark_done(order.refunds.get(), actor='kim')")
    wait_for_headline(browser, "Your money was returned")
    assert text_of(browser, "[data-told]") == "This was sent back and has arrived."


def test_provider_that_does_not_answer_leaves_the_coins_choosable(browser, store):
    sandbox = Sandbox(store.sandbox_url)
    order(browser, store, "ember-drift")
    sandbox.fault("nowpayments.payment.create", "5xx_before", times=1)
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Choose a coin again")
    browser.refresh()
    wait_for_headline(browser, "Choose a coin again")
    assert "The payment provider did not answer." in text_of(browser, "[data-lead]")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")


def test_keys_that_come_one_by_one_are_no_failure(browser, store):
    sandbox = Sandbox(store.sandbox_url)
    sandbox.control("config", {"deliver": "manual"})
    order(browser, store, "ember-drift", quantity="3")
    assert shown(browser, ".steps li")[0].text == "Choose coin"
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    sandbox.pay(text_of(browser, "[data-address]"))
    purchase = wait(browser, lambda page: bought(sandbox, keys=3), "the purchase")
    sandbox.control(f"orders/{purchase}/deliver", {"count": 1})
    wait_for_headline(browser, "1 of 3 keys is ready")
    assert text_of(browser, "[data-lead]") == "You can open what is ready. The rest appears here automatically."
    assert text_of(browser, ".steps [aria-current=step]") == "Key"
    sandbox.control("config", {"deliver": "auto"})
    sandbox.control(f"orders/{purchase}/deliver", {})
    wait_for_headline(browser, "Your keys are ready")


def bought(sandbox: Sandbox, *, keys: int) -> str:
    """Return the purchase of so many keys, or nothing while there is none."""
    purchases = sandbox.control("state")["orders"]
    return next((row["order_id"] for row in purchases if len(row["keys"]) == keys), "")


def test_replaced_key_leaves_the_page_and_one_that_is_not_kept_is_not_said_to_come(browser, store):
    shopper = Shopper(store.url)
    order = shopper.order()
    Sandbox(store.sandbox_url).pay(shopper.payment(order)["pay_address"])
    shopper.wait_fulfilled(order)
    browser.get(f"{store.url}/orders/{order['id']}#{order['access_token']}")
    wait_for_headline(browser, "Your key is ready")
    one(browser, "[data-reveal]").click()
    wait(browser, lambda page: shown(page, ".key-value code"), "the key")
    on_desk(store, order["id"], REPLACE)
    browser.execute_script("document.dispatchEvent(new Event('visibilitychange'))")
    wait(browser, lambda page: shown(page, ".key-value code") == [], "the end of the first one")
    one(browser, "[data-reveal]").click()
    code = wait(browser, lambda page: shown(page, ".key-value code"), "the second key")
    assert [row.text for row in code] == ["NEWXX-NEWXX-NEWXX"]
    on_desk(store, order["id"], SHRED)
    browser.execute_script("document.dispatchEvent(new Event('visibilitychange'))")
    wait_for_headline(browser, "Your key is no longer kept")
    assert shown(browser, ".key") == []
    assert shown(browser, "[data-write] a")


def test_page_that_could_not_reach_the_shop_looks_again_once_it_is_online(browser, store):
    order(browser, store, "tiny-orchard-tycoon")
    wait_for_headline(browser, "Choose how to pay")
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/api/orders/*"]})
    # The look that is due fails, and the next one never comes: it may be a minute away.
    browser.execute_script("window.setTimeout = () => 0")
    trouble = wait(browser, lambda page: shown(page, "[data-trouble]"), "the word about it")[0]
    assert trouble.text.startswith("We cannot reach the shop right now.")
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    browser.execute_script("dispatchEvent(new Event('online'))")
    wait(browser, lambda page: shown(page, "[data-trouble]") == [], "the order again")


def test_order_that_did_not_change_is_answered_with_304_and_stays_shown(browser, store):
    order(browser, store, "ember-drift")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    wait(browser, lambda page: 304 in statuses_of_polls(page), "an answer that nothing changed")
    # The answer has no body: the page shows what it kept.
    assert text_of(browser, "h1") == "Waiting for your payment"
    assert {200, 304} == set(statuses_of_polls(browser))


def statuses_of_polls(browser: WebDriver) -> list[int]:
    return browser.execute_script(
        "return performance.getEntriesByType('resource')"
        ".filter(entry => /api.orders.[0-9a-f-]{36}$/.test(entry.name)).map(entry => entry.responseStatus)"
    )


def test_focus_follows_the_panels_and_the_log_is_folded(browser, store):
    order(browser, store, "ember-drift")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    wait_for_focus(browser, "h1, h2")
    one(browser, "[data-change]").click()
    wait_for_focus(browser, "#coins-title")
    one(browser, "[data-keep]").click()
    wait_for_focus(browser, "#pay-title")
    assert shown(browser, ".timeline li") == []
    one(browser, ".history summary").click()
    assert shown(browser, ".timeline li") != []


def give_address(browser: WebDriver, address: str) -> None:
    field = wait(browser, lambda page: shown(page, ".refund [name=address]"), "the form for the address")[0]
    field.clear()
    field.send_keys(address)
    one(browser, ".refund [type=submit]").click()


def test_quote_can_be_changed_to_another_coin(browser, store):
    order(browser, store, "ember-drift")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    first = text_of(browser, "[data-address]")
    one(browser, "[data-change]").click()
    assert shown(browser, "[data-panel=pay]") == []
    choose_coin(browser, "ltc")
    wait(browser, lambda page: one(page, "[data-address]").text not in ("", first), "another address")
    assert text_of(browser, "[data-coin]") == "LTC"


def test_shop_works_without_javascript_up_to_the_orders_page(browser, store):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    order(browser, store, "saltmarsh-signals")
    assert "This page needs JavaScript." in text_of(browser, "main")


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_page_whose_script_was_blocked_says_after_a_while_what_to_do(browser, store, motion):
    features = [{"name": "prefers-reduced-motion", "value": motion}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/order*.js"]})
    browser.get(f"{store.url}/orders/{STRANGER}")
    assert shown(browser, ".stuck") == []
    # What a customer waits for, at once.
    browser.execute_script("document.getAnimations().forEach((animation) => animation.finish())")
    assert "open the link of our e-mail in another browser" in shown(browser, ".stuck")[0].text
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    browser.refresh()
    wait_for_headline(browser, "This link does not open an order")
    assert browser.find_elements(By.CSS_SELECTOR, ".stuck") == []


def test_what_is_copied_second_is_said_as_well(browser, store):
    order(browser, store, "tiny-orchard-tycoon")
    choose_coin(browser, "btc")
    wait_for_headline(browser, "Waiting for your payment")
    browser.execute_script("""
        window.said = [];
        const heard = new MutationObserver(() => said.push(document.querySelector('[data-say]').textContent.trim()));
        heard.observe(document.querySelector('[data-say]'), { childList: true, characterData: true, subtree: true });
    """)
    for row in shown(browser, "[data-copy-row]"):
        row.click()
    said = wait(browser, lambda page: len(found := page.execute_script("return said")) == 2 and found, "both")
    assert said[0] == said[1]


def test_page_stays_where_it_is_when_its_scrollbar_comes(browser, store):
    """A browser shows the first half of a page before the rest has arrived."""
    left = "return document.querySelector('header').getBoundingClientRect().left"
    browser.get(store.url)
    whole = browser.execute_script(left)
    browser.execute_script("document.querySelector('main').replaceChildren()")
    assert browser.execute_script("return document.documentElement.scrollHeight <= innerHeight")
    assert browser.execute_script(left) == whole


@pytest.mark.parametrize("width", [320, 768, 1440])
@pytest.mark.parametrize("path", ["/", "/products/ember-drift", "/checkout?product=ember-drift", f"/orders/{STRANGER}"])
def test_pages_fit_the_screen(browser, store, path, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(store.url + path)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    unnamed = "return [...document.querySelectorAll('button, a, input:not([type=hidden]), select')].filter("
    unnamed += "e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)"
    assert browser.execute_script(unnamed) == []

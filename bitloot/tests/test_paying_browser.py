"""Choosing a coin and paying in a real Chromium: every way in which money goes astray, and none of them a dead end."""

import re

import pytest

from bitloot.tests.chromium import choose_coin, complaints, one, order, shown, text_of, underpay, wait_for_headline
from bitloot.tests.services import Sandbox
from bitloot.tests.shopper import Shopper
from tools.dev.browser import wait

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def ask_to_pay(browser, store, slug="ember-drift", coin="btc"):
    order(browser, store, slug)
    choose_coin(browser, coin)
    wait_for_headline(browser, "Waiting for your payment")
    return text_of(browser, "[data-address]")


def told(browser, selector):
    """Return the text of the element, once it has some."""
    return wait(browser, lambda page: one(page, selector).text, selector)


def test_card_holds_all_that_a_wallet_needs(browser, store):
    address = ask_to_pay(browser, store, coin="xrp")
    amount, ticker = text_of(browser, ".pay-sum .amount").split()
    memo = text_of(browser, "[data-memo]")
    assert (ticker, text_of(browser, "[data-price]")) == ("XRP", "9.99 EUR")
    wallet = one(browser, "[data-wallet]").get_attribute("href")
    assert wallet == f"xrpl://{address}?amount={amount}&dt={memo}"
    assert text_of(browser, "[data-qr-note]") == "The code holds the address, the amount and the memo."
    assert re.fullmatch(r"\d+:\d\d left at this price", text_of(browser, "[data-countdown]"))
    assert 0 < float(one(browser, "progress").get_property("value")) <= 1
    one(browser, "[data-change]").click()
    choose_coin(browser, "ltc")
    wait(browser, lambda page: one(page, "[data-coin]").text == "LTC", "the other coin")
    assert shown(browser, "[data-memo-only]") == []
    assert complaints(browser) == []


def test_coins_are_found_by_words_in_any_order(browser, store):
    order(browser, store, "ember-drift")
    wait(browser, lambda page: len(shown(page, ".coin")) == 6, "the first coins")
    search = one(browser, "#coin-search")
    search.send_keys("tron tether")
    wait(browser, lambda page: [tile.get_attribute("value") for tile in shown(page, ".coin")] == ["usdttrc20"], "it")
    search.send_keys(" nonsense")
    wait(browser, lambda page: shown(page, ".coin") == [], "no coin")
    assert text_of(browser, "[data-coin-note]").startswith("Nothing matches.")


def test_coins_of_a_page_left_open_are_renewed_under_the_keyboard(browser, store):
    order(browser, store, "ember-drift")
    wait(browser, lambda page: len(shown(page, ".coin")) == 6, "the first coins")
    browser.execute_script("document.querySelector('.coin[value=ltc]').focus()")
    before = text_of(browser, ".coin[value=ltc] .coin-price")
    renew = "from payments.models import Coin; Coin.objects.filter(code='ltc').update(rate=7)"
    store.shell(renew)
    browser.execute_script("const { now } = Date; Date.now = () => now() + 11 * 60_000")
    wait(browser, lambda page: text_of(page, ".coin[value=ltc] .coin-price") == "about 69.93 LTC", "the new price")
    assert before != "about 69.93 LTC"
    assert browser.switch_to.active_element.get_attribute("value") == "ltc"
    assert complaints(browser) == []


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("429", "The payment provider did not answer."),
        ("refuse", "This coin is not on offer."),
    ],
)
def test_provider_that_gives_no_address_leaves_the_coins_choosable(browser, store, fault, sentence):
    order(browser, store, "ember-drift")
    Sandbox(store.sandbox_url).fault("nowpayments.payment.create", fault, times=1)
    choose_coin(browser, "btc")
    assert told(browser, "[data-coins-error]").startswith(sentence)
    choose_coin(browser, "ltc")
    wait_for_headline(browser, "Waiting for your payment")


def test_payment_behind_an_unreadable_answer_is_found_and_shown(browser, store):
    order(browser, store, "ember-drift")
    Sandbox(store.sandbox_url).fault("nowpayments.payment.create", "garbage", times=1)
    choose_coin(browser, "btc")
    # The worker asks the provider what it made. Until then the page may say that there was no answer.
    wait_for_headline(browser, "Waiting for your payment")
    assert text_of(browser, "[data-coin]") == "BTC"


def test_what_is_sold_out_is_said_before_anybody_pays(browser, store):
    sandbox = Sandbox(store.sandbox_url)
    product = next(row for row in sandbox.control("state")["products"] if "Saltmarsh" in row["name"])
    order(browser, store, "saltmarsh-signals")
    sandbox.control(f"products/{product['product_id']}", {"qty": 0, "textQty": 0})
    # What was seen when the shop started is too old to sell by.
    aged = "from django.utils import timezone; from datetime import timedelta"
    aged += "; from fulfillment.models import SupplierStock"
    aged += "; SupplierStock.objects.update(seen_at=timezone.now() - timedelta(minutes=2))"
    store.shell(aged)
    choose_coin(browser, "btc")
    assert "is sold out at the moment. Nothing was charged." in told(browser, "[data-coins-error]")

    def is_said_in_the_window(page):
        page.get(store.url)  # which is kept for seconds
        return "Sold out" in one(page, 'a[href="/products/saltmarsh-signals"]').text

    wait(browser, is_said_in_the_window, "“Sold out” in the shop window")
    browser.get(f"{store.url}/products/saltmarsh-signals")
    assert text_of(browser, ".gone") == "Sold out"
    assert shown(browser, ".buy button") == []


def test_surplus_is_asked_back_with_one_button(browser, store):
    address = ask_to_pay(browser, store)
    Sandbox(store.sandbox_url).pay(address, "over")
    wait_for_headline(browser, "Your key is ready")
    wait(browser, lambda page: shown(page, "[data-surplus-back]"), "the button")[0].click()
    wait(browser, lambda page: shown(page, ".refund [name=address]"), "the form for the address")
    assert shown(browser, "[data-surplus]") == []


def test_wrong_coin_has_a_headline_and_a_way_to_us(browser, store):
    address = ask_to_pay(browser, store)
    Sandbox(store.sandbox_url).pay(address, "wrong_coin")
    wait_for_headline(browser, "Your coins came, but not as asked")
    assert "count them towards your order or send them back" in text_of(browser, "[data-lead]")
    assert shown(browser, "[data-write] a")[0].get_attribute("href").startswith("mailto:")


def test_order_that_expired_says_write_to_us_and_lets_you(browser, store):
    order = Shopper(store.url).order()
    expire = f"from orders.models import Order; Order.objects.get(pk='{order['id']}').expire()"
    store.shell(expire)
    browser.get(f"{store.url}/orders/{order['id']}#{order['access_token']}")
    wait_for_headline(browser, "This order has expired")
    assert "write to us" in text_of(browser, "[data-lead]")
    assert shown(browser, "[data-write] a")[0].get_attribute("href").startswith("mailto:")


def test_coins_for_a_cancelled_order_are_told_instead_of_place_a_new_one(browser, store):
    sandbox, shopper = Sandbox(store.sandbox_url), Shopper(store.url)
    order = shopper.order()
    address = shopper.payment(order)["pay_address"]
    cancel = f"from orders.models import Order; Order.objects.get(pk='{order['id']}').cancel(message='It ends.')"
    store.shell(cancel)
    sandbox.pay(address)
    browser.get(f"{store.url}/orders/{order['id']}#{order['access_token']}")
    wait(browser, lambda page: browser.refresh() or "came after the end" in one(page, "h1").text, "the news")
    assert "Our staff send them back" in text_of(browser, "[data-lead]")
    assert shown(browser, "[data-again]") == []
    assert shown(browser, "[data-write] a")


def test_coins_that_the_provider_sent_back_leave_the_coins_choosable(browser, store):
    address = ask_to_pay(browser, store)
    sandbox = Sandbox(store.sandbox_url)
    sandbox.control(f"payments/{address}/status", {"status": "confirming"})
    wait_for_headline(browser, "Payment seen")
    sandbox.control(f"payments/{address}/status", {"status": "refunded"})
    wait_for_headline(browser, "Your payment was returned")
    choose_coin(browser, "ltc")
    wait_for_headline(browser, "Waiting for your payment")
    assert complaints(browser) == []


def test_second_deposit_is_told_beside_the_key(browser, store):
    address = ask_to_pay(browser, store)
    sandbox = Sandbox(store.sandbox_url)
    sandbox.pay(address)
    wait_for_headline(browser, "Your key is ready")
    sandbox.pay(address, "repeat")
    browser.refresh()
    wait(browser, lambda page: browser.refresh() or shown(page, "[data-extra]"), "the word about it")
    assert text_of(browser, "[data-extra-headline]") == "A second payment came"


def test_rest_goes_to_a_new_address_and_the_page_warns_of_the_old_one(browser, store):
    underpay(browser, store)
    assert "5.00 EUR are still missing" in text_of(browser, "[data-lead]")
    choose_coin(browser, "ltc")
    wait_for_headline(browser, "Waiting for the rest")
    assert text_of(browser, "[data-price]") == "5.00 EUR"
    assert "This is a new address." in text_of(browser, "[data-panel=pay]")

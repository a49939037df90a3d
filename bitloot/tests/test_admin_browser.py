"""The admin in a real Chromium against a running store: the strict CSP, lists that freshen themselves, a replay."""

from collections.abc import Iterator

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import Select

from bitloot.tests.chromium import a_browser, complaints, one, shown, text_of, wait_for_focus, wait_for_headline
from bitloot.tests.hands import Hands, clicks_documented
from bitloot.tests.keyboard import Keyboard
from bitloot.tests.reach import broken_words
from bitloot.tests.services import Sandbox, own_store
from bitloot.tests.shopper import Shopper, bearer
from bitloot.tests.staff import LISTS
from tools.dev.browser import wait
from tools.dev.supervise import Store

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
PASSWORD = "a-word-for-the-test"
# May approve, and has the permission for what is approved.
COLLEAGUE = f"""
from django.contrib.auth.models import Group, User
robin = User.objects.create_user("robin", "robin@shop.example", "{PASSWORD}", is_staff=True)
robin.groups.set(Group.objects.filter(name__in=["operations", "finance"]))
"""
ROWS = "#result_list tbody tr"
# How light the words of the page are, from 0 to 765.
INK = """
const { color } = getComputedStyle(document.querySelector(".order-row dd"));
return color.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    # All customers of these tests come from one address, and a fast machine has more than sixty of them in a minute.
    with own_store(tmp_path_factory.mktemp("store"), THROTTLE_SCALE="10") as running:
        running.seed("--staff", "staff", "--password", PASSWORD)
        shell(running, COLLEAGUE)
        yield running


@pytest.fixture(scope="module")
def hands(store) -> Iterator[Hands]:
    """One browser for all stories: each member of staff signs in once."""
    with a_browser() as browser:
        yield Hands(browser, store.url, PASSWORD)


@pytest.fixture
def staff(hands) -> WebDriver:
    hands.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    hands.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    hands.become("staff")
    complaints(hands.browser)  # those of the story before are its own
    return hands.browser


def shell(store, script):
    return store.shell(script).strip()


def buy(store):
    shopper = Shopper(store.url)
    order = shopper.order()
    Sandbox(store.sandbox_url).pay(shopper.payment(order)["payment_id"])
    shopper.wait_fulfilled(order)
    return order


def note(page):
    return one(page, "[data-live-note]").text


def test_every_list_and_page_obeys_the_strict_policy(staff, store):
    buy(store)
    for name in LISTS:
        staff.get(f"{store.url}/admin/{name.replace('.', '/')}/")
        if first := staff.find_elements(By.CSS_SELECTOR, f"{ROWS} th a"):
            first[0].click()
            wait(staff, lambda page: one(page, "form[id$=_form]"), f"a page of {name}")
    assert complaints(staff) == []


def test_list_freshens_itself_and_rests_when_told(staff, store):
    staff.get(f"{store.url}/admin/webhooks/webhooklog/")
    before = len(staff.find_elements(By.CSS_SELECTOR, ROWS))
    buy(store)
    wait(staff, lambda page: len(page.find_elements(By.CSS_SELECTOR, ROWS)) > before, "the new webhooks")
    one(staff, ".action-select").click()
    wait(staff, lambda page: note(page) == "Paused while you work in the list.", "rest")
    assert text_of(staff, ".action-counter").startswith("1 of ")  # Django's script knows the new tick boxes
    one(staff, "[data-live-pause]").click()
    staff.refresh()
    assert note(staff) == "Paused: what you see may be old."
    one(staff, "[data-live-pause]").click()
    wait(staff, lambda page: note(page).startswith("Updated at"), "the next freshening")
    assert complaints(staff) == []


def test_older_mails_stay_unfolded_when_the_page_freshens_itself(staff, store):
    order = buy(store)
    send = f"""
from orders.models import Email, Order
order = Order.objects.get(pk="{order["id"]}")
Email.objects.bulk_create(Email(order=order, kind="fresh_link", to=order.email, status="sent") for _ in range(6))
"""
    shell(store, send)
    staff.get(f"{store.url}/admin/orders/order/{order['id']}/change/")
    summary = one(staff, "#older-mails > summary")
    before = summary.text
    summary.click()
    staff.execute_script("document.activeElement.blur()")
    shell(store, send)
    wait(staff, lambda page: one(page, "#older-mails > summary").text != before, "the mails that came meanwhile")
    assert one(staff, "#older-mails").get_attribute("open") is not None
    assert complaints(staff) == []


def test_webhook_is_replayed_from_the_list_and_from_its_page(staff, store):
    buy(store)
    staff.get(f"{store.url}/admin/webhooks/webhooklog/?provider__exact=kinguin")
    one(staff, ".action-select").click()
    Select(one(staff, "select[name=action]")).select_by_value("replay")
    one(staff, "button[name=index]").click()
    assert "handed to its handler again" in text_of(staff, ".messagelist")
    for times in ("1", "2"):
        wait(staff, lambda page: one(page, ".field-replays").text == times, "the count of replays")  # noqa: B023
        wait(
            staff, lambda page: "nothing new: it is delivered" in one(page, f"{ROWS} .field-what_came").text, "the end"
        )
        one(staff, f"{ROWS} th a").click()
        one(staff, ".object-tools form button").click()
        assert "handed to its handler again" in text_of(staff, ".messagelist")
        staff.get(f"{store.url}/admin/webhooks/webhooklog/?provider__exact=kinguin")
    assert complaints(staff) == []


def test_product_is_imported_by_one_click_and_gets_a_cover(staff, store, tmp_path):
    free = "from orders.models import Product; Product.objects.get(slug='tiny-orchard-tycoon').delete()"
    store.shell(free)
    Image.new("RGB", (60, 80), "#204080").save(tmp_path / "cover.png")
    staff.get(f"{store.url}/admin/orders/product/")
    staff.find_element(By.LINK_TEXT, "Import from Kinguin").click()
    one(staff, "#id_name").send_keys("orchard", Keys.ENTER)
    one(staff, ".rows button").click()
    assert one(staff, "#id_title").get_attribute("value") == "Tiny Orchard Tycoon"
    one(staff, "#id_upload").send_keys(str(tmp_path / "cover.png"))
    one(staff, "#id_is_active").click()
    one(staff, "input[name=_continue]").click()
    # The one that stands for none, /static/covers/…, is there before it is saved.
    wait(staff, lambda page: f"{store.url}/covers/" in one(page, "img.cover").get_attribute("src"), "the cover")
    staff.get(f"{store.url}/products/tiny-orchard-tycoon")
    wait(staff, lambda page: one(page, ".cover img").get_property("naturalWidth"), "the product's cover")


def test_webhooks_that_match_a_filter_are_rehearsed_then_replayed_in_the_background(staff, store):
    order = buy(store)
    staff.get(f"{store.url}/admin/webhooks/webhooklog/?q={order['id']}&provider__exact=nowpayments")
    count = len(staff.find_elements(By.CSS_SELECTOR, ROWS))
    one(staff, ".replay-all a").click()
    assert text_of(staff, "#content-main b") == f"{count} webhooks"
    one(staff, "button[value=dry]").click()
    done = f"{count} of {count} looked at"
    wait(staff, lambda page: done in one(page, "#live-decisions").text, "the end of the dry run, without a reload")
    said = wait(staff, lambda page: page.find_elements(By.CSS_SELECTOR, "#live-rows .said"), "what would change")
    assert [part.text for part in said] == ["Nothing would change. Its handler says: already finished."] * count
    staff.refresh()
    next(part for part in staff.find_elements(By.CSS_SELECTOR, ".choices a") if part.text == "Replay these now").click()
    one(staff, "input[type=submit]").click()
    assert "they are replayed in the background" in text_of(staff, ".messagelist")
    staff.get(f"{store.url}/admin/webhooks/replayrun/?is_dry__exact=0")
    one(staff, f"{ROWS} th a").click()
    wait(
        staff, lambda page: f"{count} of {count} handled" in one(page, "#live-decisions").text, "the end of the replay"
    )
    one(staff, "#live-rows tbody a").click()
    attempts = staff.find_elements(By.CSS_SELECTOR, "[aria-labelledby=tries-heading] tbody tr")
    assert [row.text.split()[-1] for row in attempts] == ["–", "staff"]
    assert complaints(staff) == []


def test_alert_leads_to_its_row_of_the_runbook_and_the_home_page_names_the_worker(staff, store):
    assert "process" in text_of(staff, ".machines")
    staff.get(f"{store.url}/admin/runbook/#alert-low_balance")
    row = "const row = document.querySelector(':target').closest('tr'), {top} = row.getBoundingClientRect();"
    text = staff.execute_script(f"{row} return top >= 0 && top < innerHeight ? row.innerText : top")
    assert "low_balance" in str(text)
    assert complaints(staff) == []


def test_phone_needs_no_sideways_scrolling(staff, store):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    staff.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for path in ("", "orders/order/", "webhooks/webhooklog/", "fulfillment/reservation/"):
        staff.get(f"{store.url}/admin/{path}")
        assert staff.execute_script("return document.documentElement.scrollWidth") <= 390, path


def test_order_is_found_by_each_of_its_numbers(staff, hands, store):
    order = buy(store)
    buy(store)
    its_page = f"{store.url}/admin/orders/order/{order['id']}/change/"
    staff.get(its_page)
    numbers = {part.get_attribute("data-copy") for part in staff.find_elements(By.CSS_SELECTOR, "[data-copy]")}
    assert len(numbers) >= 5  # its id, the e-mail, the pay address, our id of the purchase, the supplier's order
    for number in numbers:
        hands.find(number)
        assert one(staff, ".found .hit a").get_attribute("href") == its_page
    hands.go_home()
    hands.find(order["id"])
    hands.press(f"order {order['id'][:8]}", within=".hit")
    assert staff.current_url == its_page
    assert hands.clicks == clicks_documented()["find an order by any of its numbers"]
    assert complaints(staff) == []


def test_pages_that_demand_trusted_types_work_with_them(staff, store):
    """Fails if such a page loads jQuery, or if a script makes markup of text: the first page freshens itself."""
    for path in ("system/", "runbook/", "password_change/", "orders/", "?q=ember", ""):
        staff.get(f"{store.url}/admin/{path}")
    wait(staff, lambda page: note(page).startswith("Updated at"), "a first page that is fresh")
    # Chromium has an opinion of its own about Django's form for a new password.
    assert [said for said in complaints(staff) if "username fields" not in said] == []


@pytest.fixture
def held(store):
    """An order that is paid for, of which the supplier has nothing left."""
    sandbox, shopper = Sandbox(store.sandbox_url), Shopper(store.url)
    order = shopper.order("saltmarsh-signals")
    payment = shopper.payment(order)
    stock(sandbox, 0)
    sandbox.pay(payment["payment_id"])
    shopper.wait(lambda: shopper.read(order)["status"] == "held", "the order that waits for stock")
    yield order
    stock(sandbox, 9)


def stock(sandbox, count):
    product = next(row for row in sandbox.control("state")["products"] if "Saltmarsh" in row["name"])
    sandbox.control(f"products/{product['product_id']}", {"qty": count, "textQty": count})


def paid(store, mode):
    shopper = Shopper(store.url)
    order = shopper.order()
    Sandbox(store.sandbox_url).pay(shopper.payment(order)["payment_id"], mode)
    return order


def row_of(store, module, model, condition):
    """Return the id of the newest such row."""
    found = f"{model}.objects.filter({condition}).order_by('pk').last()"
    return shell(store, f"from {module} import {model}; row = {found}; print(row.pk)")


def decide(hands, choice, reason, **fields):
    """Say why on the page that a decision leads to, and send it with its own button."""
    for selector, text in fields.items():
        hands.type(f"#id_{selector}", text)
    if reason:
        hands.type("#id_reason", reason)
    hands.press(choice, within="#content-main")
    return hands.told()


def open_customers_page(page, store, order, headline):
    page.get("about:blank")
    page.get(f"{store.url}/orders/{order['id']}#{order['access_token']}")
    wait_for_headline(page, headline)


def revealed(page):
    wait(page, lambda now: shown(now, "[data-reveal]"), "the button that reveals it")[0].click()
    return wait(page, lambda now: shown(now, ".key-value code"), "the key")[0].text


def test_order_that_waits_is_understood_and_mended_from_the_home_page(staff, hands, store, held):
    sandbox, shopper, order = Sandbox(store.sandbox_url), Shopper(store.url), held
    hands.go_home()
    case = one(staff, hands.case_of(order["id"]))
    assert "Out of stock" in case.text
    assert "The money is owed back in" in case.text
    assert hands.clicks == clicks_documented()["see why an order waits"]
    stock(sandbox, 9)
    hands.press("Let it continue", within=hands.case_of(order["id"]))
    assert "it is bought as if it were new" in hands.told()
    assert staff.current_url == f"{store.url}/admin/"
    shopper.wait_fulfilled(order)
    wait(
        staff, lambda page: not page.find_elements(By.CSS_SELECTOR, f".case a[href*='{order['id']}']"), "an empty list"
    )
    assert complaints(staff) == []


def test_key_is_delivered_by_hand(staff, hands, store, held):
    hands.go_home()
    hands.press("Deliver by hand", within=hands.case_of(held["id"]))
    hands.type("textarea[name^=code_]", "HAND-MADE-CODE-0001")
    assert "the codes are sealed" in decide(hands, "Deliver by hand", "Bought at another shop.")
    assert hands.clicks == clicks_documented()["deliver by hand"]
    Shopper(store.url).wait_fulfilled(held)
    open_customers_page(staff, store, held, "Your key is ready")
    assert revealed(staff) == "HAND-MADE-CODE-0001"
    assert complaints(staff) == []


def test_underpaid_order_is_accepted(staff, hands, store):
    order = paid(store, "under")
    hands.go_home()
    hands.press("Accept as paid", within=hands.case_of(order["id"]))
    told = decide(hands, "Accept as paid", "A good customer, and the rate fell.")
    assert "a second member of staff has to approve it" in told  # half of the price is much
    assert hands.clicks == clicks_documented()["accept an underpaid order"]
    hands.become("robin")
    hands.press("Approve", within=hands.case_of(order["id"]))
    assert "approved and carried out" in decide(hands, "Approve", "")
    Shopper(store.url).wait_fulfilled(order)
    assert complaints(staff) == []


def test_surplus_is_refunded_and_its_coins_are_sent(staff, hands, store):
    order, shopper = paid(store, "over"), Shopper(store.url)
    shopper.wait_fulfilled(order)
    hands.go_home()
    hands.press("Refund the surplus", within=hands.case_of(order["id"]))
    decide(hands, "Refund the surplus", "The customer paid too much.")
    assert hands.clicks == clicks_documented()["decide about a refund"]
    refund = shopper.read(order)["refunds"][0]
    address = {"order_id": order["id"], "refund": refund["id"], "address": "bc1q" + "a" * 38, "extra_id": ""}
    shopper.json("POST", "/api/payments/refund-address", json=address, headers=bearer(order))
    hands.go_home()
    hands.press("Mark as sent", within=hands.case_of(order["id"]))
    decide(hands, "Mark as sent", "", transaction_id="f4184fc596403b9d638783cf57adfe4c")
    assert hands.clicks == clicks_documented()["record a refund once its address is there"]
    open_customers_page(staff, store, order, "Your key is ready")
    sent = wait(staff, lambda page: shown(page, "[data-given=transaction] code"), "the transaction")
    assert sent[0].text == "f4184fc596403b9d638783cf57adfe4c"
    assert complaints(staff) == []


def test_key_of_a_delivered_order_is_replaced_by_two_people(staff, hands, store):
    order = buy(store)
    open_customers_page(staff, store, order, "Your key is ready")
    old, old_keys = revealed(staff), keys_of(Shopper(store.url), order)
    hands.go_home()
    hands.find(order["id"])
    hands.press(f"order {order['id'][:8]}", within=".hit")
    hands.press("Replace: buy again", within=".order-cards")
    told = decide(hands, "Replace: buy again", "The platform says that it was used before.")
    assert "a second member of staff has to approve it" in told
    assert hands.clicks == clicks_documented()["ask for another key"]
    assert "Approve" not in text_of(staff, ".order-cards")

    hands.go_home()
    assert "Approve" not in one(staff, hands.case_of(order["id"])).text  # not by the one who asked
    hands.become("robin")
    hands.press("Approve", within=hands.case_of(order["id"]))
    assert "The platform says that it was used before." in text_of(staff, "#content-main")
    assert "approved and carried out" in decide(hands, "Approve", "")
    assert hands.clicks == clicks_documented()["approve what a colleague asks for"]

    shopper = Shopper(store.url)
    shopper.wait(lambda: keys_of(shopper, order) not in ([], old_keys), "the new key")
    open_customers_page(staff, store, order, "Your key is ready")
    new = revealed(staff)
    assert new != old
    assert new in [key["serial"] for key in Sandbox(store.sandbox_url).sold()]
    assert complaints(staff) == []


def keys_of(shopper, order):
    return [key["id"] for item in shopper.read(order)["items"] for key in item["keys"]]


def test_fresh_link_is_mailed_from_the_finder(staff, hands, store):
    order = buy(store)
    hands.go_home()
    hands.find(order["id"][:8])
    hands.press("Mail a fresh link", within=".hit")
    assert hands.clicks == clicks_documented()["mail a fresh link"]
    assert "link" in hands.told()
    assert text_of(staff, ".hit a") == f"order {order['id'][:8]}"


def test_first_button_of_an_order_does_what_it_says(staff, hands, store):
    order = buy(store)
    staff.get(f"{store.url}/admin/orders/order/{order['id']}/change/")
    hands.press("Mail a fresh link", within=".order-head")
    assert "a fresh link goes to the customer" in hands.told()
    assert complaints(staff) == []


def test_what_failed_is_tried_again_from_the_home_page(staff, hands, store):
    order = buy(store)
    mail = row_of(store, "orders.models", "Email", f"order='{order['id']}', status='sent'")
    webhook = row_of(store, "webhooks.models", "WebhookLog", "provider='kinguin', status='processed'")
    shell(store, f"from orders.models import Email; Email.objects.filter(pk={mail}).update(status='failed')")
    shell(
        store,
        f"""
from webhooks.models import WebhookLog
WebhookLog.objects.filter(pk={webhook}).update(status="failed")
from orders.alerts import raise_alert
from orders.models import Email
mail = Email.objects.get(pk={mail})
raise_alert("mail_failed", mail, "A mail could not be sent.", order=mail.order)
""",
    )
    hands.go_home()
    hands.press("Send again", within=hands.case_of(order["id"]))
    assert hands.clicks == clicks_documented()["send a failed mail again"]
    hands.go_home()
    hands.press("Replay: run the handler again", within=".cases")
    assert hands.clicks == clicks_documented()["replay a failed webhook"]
    assert "handed to its handler again" in hands.told()
    assert complaints(staff) == []


def test_what_was_typed_comes_back_after_the_session_ended(staff, hands, store):
    order = buy(store)
    form = f"{store.url}/admin/orders/order/{order['id']}/decide/correct-email/"
    staff.get(form)
    hands.type("#id_email", "right@customer.example")
    hands.type("#id_reason", "The customer mistyped it.")
    session = staff.get_cookie("sessionid")
    staff.delete_cookie("sessionid")
    hands.press("Correct the e-mail address", within="#content-main")
    assert "You were signed out" in hands.told()
    staff.add_cookie(session)
    staff.get(form)  # where the sign-in leads
    assert "is filled in again" in text_of(staff, ".concern")
    assert one(staff, "#id_email").get_attribute("value") == "right@customer.example"
    hands.press("Correct the e-mail address", within="#content-main")
    assert "corrected. The new address gets a fresh link" in hands.told()
    staff.get(form)
    assert one(staff, "#id_reason").get_attribute("value") == ""


def test_order_is_found_held_and_released_with_the_keyboard_alone(staff, store):
    order_id = buy(store)["id"]
    shell(store, f"from orders.models import Order; Order.objects.filter(pk='{order_id}').update(status='fulfilling')")
    keyboard = Keyboard(staff)
    staff.delete_all_cookies()
    staff.get(f"{store.url}/admin/")
    wait_for_focus(staff, "#id_username")
    keyboard.press("staff", Keys.TAB, PASSWORD, Keys.ENTER)
    wait(staff, lambda page: one(page, ".cases"), "the home page")
    keyboard.press("/")
    keyboard.wait_for("#finder")
    keyboard.press(order_id[:8], Keys.ENTER)
    wait(staff, lambda page: order_id[:8] in one(page, "#found-heading").text, "what was found")
    keyboard.go_to(f".found a[href*='order/{order_id}/change']")
    keyboard.press(Keys.ENTER)
    keyboard.go_to(f"[data-copy='{order_id}']")
    keyboard.press(Keys.SPACE)
    wait(staff, lambda page: "opied" in one(page, "[role=status]").get_property("textContent"), "that it is said")
    for decision in ("hold", "release"):
        keyboard.go_to(f"a[href*='/decide/{decision}']")
        keyboard.press(Keys.ENTER)
        one(staff, "[name=reason]")
        keyboard.go_to("[name=reason]")
        keyboard.press("The customer asked for it.")
        keyboard.go_to(".submit-row [type=submit]")
        keyboard.press(Keys.SPACE)
        wait(staff, lambda page: one(page, ".messagelist"), "the outcome")
    assert complaints(staff) == []


def test_code_that_was_typed_is_kept_nowhere_in_the_browser(staff, hands, store, held):
    staff.get(f"{store.url}/admin/orders/order/{held['id']}/decide/deliver-by-hand/")
    hands.type("textarea[name^=code_]", "HAND-MADE-CODE-0002")
    hands.type("#id_reason", "Bought at another shop.")
    staff.execute_script("document.addEventListener('submit', (event) => event.preventDefault())")
    hands.press("Deliver by hand", within="#content-main")
    kept = staff.execute_script("return JSON.stringify(sessionStorage)")
    assert ("Bought at another shop." in kept, "HAND-MADE" in kept) == (True, False)


def test_double_click_sends_a_form_once(staff, store):
    staff.get(f"{store.url}/admin/partners/apikey/add/")
    one(staff, "#id_name").send_keys("Clicked twice")
    one(staff, "#id_email").send_keys("dev@partner.example")
    ActionChains(staff).double_click(one(staff, "#content-main input[type=submit]")).perform()
    wait(staff, lambda page: one(page, ".secret code"), "the new key")
    count = "from bitloot.partners.models import ApiKey; print(ApiKey.objects.filter(name='Clicked twice').count())"
    assert shell(store, count) == "1"


def test_case_with_many_buttons_keeps_its_words_whole(staff, hands, store):
    order = buy(store)
    shell(
        store,
        f"""
from orders.alerts import raise_alert
from orders.models import Email, Order
order = Order.objects.get(pk="{order["id"]}")
for mail in order.emails.all():
    Email.objects.filter(pk=mail.pk).update(status="failed")
    raise_alert("mail_failed", mail, "A mail could not be sent.", order=order)
""",
    )
    hands.go_home()
    case = one(staff, hands.case_of(order["id"]))
    assert len(case.find_elements(By.CSS_SELECTOR, "button")) >= 6
    assert broken_words(staff) == []


def test_least_margin_and_patience_of_a_product_are_set(staff, hands):
    hands.press("Products", within="nav.lists")
    hands.press("Ember Drift", within="#result_list")
    hands.type("#id_min_margin", "0.50")
    hands.type("#id_stock_wait_hours", "12")
    hands.press("Save", within="#product_form")
    assert "was changed successfully" in hands.told()
    assert hands.clicks == clicks_documented()["set the least margin and the patience of a product"]


def test_order_is_printed_in_ink_whatever_theme_is_chosen(staff, store):
    order = buy(store)
    staff.execute_script("localStorage.setItem('theme', 'dark')")
    staff.get(f"{store.url}/admin/orders/order/{order['id']}/change/")
    on_screen = staff.execute_script(INK)
    staff.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    on_paper = staff.execute_script(INK)
    staff.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    staff.execute_script("localStorage.removeItem('theme')")
    assert (on_screen > 384, on_paper < 384) == (True, True)  # light words on the dark screen, dark ones on paper


def test_filter_closes_once_it_is_chosen_and_with_escape(staff, store):
    staff.get(f"{store.url}/admin/webhooks/webhooklog/")
    filters = "#changelist-filter details"
    one(staff, f"{filters} summary").click()
    assert len(shown(staff, f"{filters}[open]")) == 1
    staff.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert shown(staff, f"{filters}[open]") == []
    one(staff, f"{filters} summary").click()
    one(staff, f"{filters} li:nth-child(2) a").click()
    wait(staff, lambda page: "status" in page.current_url, "the narrowed list")
    assert shown(staff, f"{filters}[open]") == []  # it would cover the list

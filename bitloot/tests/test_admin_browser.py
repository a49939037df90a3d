"""The admin in a real Chromium against a running store: the strict CSP, lists that freshen themselves, a replay."""

from collections.abc import Iterator

import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import Select

from bitloot.tests.services import Sandbox, own_store
from bitloot.tests.shopper import Shopper
from bitloot.tests.staff import LISTS
from bitloot.tests.test_browser import browser, complaints, one, wait  # noqa: F401
from tools.dev.supervise import Store

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
PASSWORD = "a-word-for-the-test"
ROWS = "#result_list tbody tr"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with own_store(tmp_path_factory.mktemp("store")) as running:
        running.seed("--staff", "staff", "--password", PASSWORD)
        yield running


@pytest.fixture
def staff(browser, store) -> WebDriver:  # noqa: F811
    browser.get(f"{store.url}/admin/")
    one(browser, "#id_username").send_keys("staff")
    one(browser, "#id_password").send_keys(PASSWORD)
    one(browser, "input[type=submit]").click()
    wait(browser, lambda page: one(page, "h1").text == "What needs attention", "the first page")
    return browser


def buy(store):
    shopper = Shopper(store.url)
    order = shopper.order()
    Sandbox(store.sandbox_url).pay(shopper.payment(order)["payment_id"])
    shopper.wait_fulfilled(order)
    return order


def note(page):
    return one(page, "[data-live-note]").text


def test_every_list_and_page_obeys_the_strict_policy_in_light_and_dark(staff, store):
    buy(store)
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        staff.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        for name in LISTS:
            staff.get(f"{store.url}/admin/{name.replace('.', '/')}/")
            if first := staff.find_elements(By.CSS_SELECTOR, f"{ROWS} th a"):
                first[0].click()
                wait(staff, lambda page: one(page, "h2"), f"a page of {name}")
    assert complaints(staff) == []


def test_list_freshens_itself_and_rests_when_told(staff, store):
    staff.get(f"{store.url}/admin/webhooks/webhooklog/")
    before = len(staff.find_elements(By.CSS_SELECTOR, ROWS))
    buy(store)
    wait(staff, lambda page: len(page.find_elements(By.CSS_SELECTOR, ROWS)) > before, "the new webhooks")
    one(staff, ".action-select").click()
    wait(staff, lambda page: note(page) == "Paused while you work in the list.", "rest")
    assert one(staff, ".action-counter").text.startswith("1 of ")  # Django's script knows the new tick boxes
    one(staff, "[data-live-pause]").click()
    staff.refresh()
    assert note(staff) == "Paused: what you see may be old."
    one(staff, "[data-live-pause]").click()
    wait(staff, lambda page: note(page).startswith("Updated at"), "the next freshening")
    assert complaints(staff) == []


def test_webhook_is_replayed_from_the_list_and_from_its_page(staff, store):
    buy(store)
    staff.get(f"{store.url}/admin/webhooks/webhooklog/?provider__exact=kinguin")
    one(staff, ".action-select").click()
    Select(one(staff, "select[name=action]")).select_by_value("replay")
    one(staff, "button[name=index]").click()
    assert "handed to its handler again" in one(staff, ".messagelist").text
    for times in ("1", "2"):
        wait(staff, lambda page: one(page, ".field-replays").text == times, "the count of replays")  # noqa: B023
        wait(
            staff, lambda page: "nothing new: it is delivered" in one(page, f"{ROWS} .field-what_came").text, "the end"
        )
        one(staff, f"{ROWS} th a").click()
        one(staff, ".object-tools form button").click()
        assert "handed to its handler again" in one(staff, ".messagelist").text
        staff.get(f"{store.url}/admin/webhooks/webhooklog/?provider__exact=kinguin")
    assert complaints(staff) == []


def test_product_is_imported_by_one_click_and_gets_a_cover(staff, store, tmp_path):
    free = "from orders.models import Product; Product.objects.get(slug='tiny-orchard-tycoon').delete()"
    store.manage("shell", "--verbosity", "0", "-c", free)
    Image.new("RGB", (60, 80), "#204080").save(tmp_path / "cover.png")
    staff.get(f"{store.url}/admin/orders/product/")
    staff.find_element(By.LINK_TEXT, "IMPORT FROM KINGUIN").click()
    one(staff, "#id_name").send_keys("orchard", Keys.ENTER)
    one(staff, ".rows button").click()
    assert one(staff, "#id_title").get_attribute("value") == "Tiny Orchard Tycoon"
    one(staff, "#id_upload").send_keys(str(tmp_path / "cover.png"))
    one(staff, "#id_is_active").click()
    one(staff, "input[name=_continue]").click()
    wait(staff, lambda page: "/covers/" in one(page, "img.cover").get_attribute("src"), "the cover")
    staff.get(f"{store.url}/products/tiny-orchard-tycoon")
    assert staff.execute_script("return document.querySelector('.cover img').naturalWidth") > 0


def test_webhooks_that_match_a_filter_are_rehearsed_then_replayed_in_the_background(staff, store):
    order = buy(store)
    staff.get(f"{store.url}/admin/webhooks/webhooklog/?q={order['id']}&provider__exact=nowpayments")
    count = len(staff.find_elements(By.CSS_SELECTOR, ROWS))
    one(staff, ".replay-all a").click()
    assert one(staff, "#content-main b").text == f"{count} webhooks"
    one(staff, "button[value=dry]").click()
    done = f"{count} of {count} looked at"
    wait(staff, lambda page: done in one(page, "#live-decisions").text, "the end of the dry run, without a reload")
    said = wait(staff, lambda page: page.find_elements(By.CSS_SELECTOR, "#live-rows .said"), "what would change")
    assert [part.text for part in said] == ["Nothing would change. Its handler says: already finished."] * count
    staff.refresh()
    next(part for part in staff.find_elements(By.CSS_SELECTOR, ".choices a") if part.text == "Replay these now").click()
    one(staff, "input[type=submit]").click()
    assert "they are replayed in the background" in one(staff, ".messagelist").text
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
    assert "process" in one(staff, ".machines").text
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


def find(page, number):
    """Type a number into the finder, which "/" leads to; return the address of the first order it shows."""
    page.find_element(By.TAG_NAME, "body").send_keys("/")
    assert page.switch_to.active_element.get_attribute("id") == "finder"
    page.switch_to.active_element.send_keys(Keys.CONTROL, "a")
    page.switch_to.active_element.send_keys(number, Keys.ENTER)
    wait(page, lambda now: number[:50] in one(now, "#found-heading").text, f"what is found for {number}")
    return one(page, ".found .hit a").get_attribute("href")


def test_order_is_found_by_each_of_its_numbers(staff, store):
    order = buy(store)
    buy(store)
    its_page = f"{store.url}/admin/orders/order/{order['id']}/change/"
    staff.get(its_page)
    numbers = {part.get_attribute("data-copy") for part in staff.find_elements(By.CSS_SELECTOR, "[data-copy]")}
    assert len(numbers) >= 5  # its id, the e-mail, the pay address, our id of the purchase, the supplier's order
    for number in numbers:
        assert find(staff, number) == its_page
    assert complaints(staff) == []


def test_pages_that_demand_trusted_types_work_with_them(staff, store):
    """Fails if such a page loads jQuery, or if a script makes markup of text: the first page freshens itself."""
    for path in ("system/", "runbook/", "password_change/", "orders/", "?q=ember", ""):
        staff.get(f"{store.url}/admin/{path}")
    wait(staff, lambda page: note(page).startswith("Updated at"), "a first page that is fresh")
    # Chromium has an opinion of its own about Django's form for a new password.
    assert [said for said in complaints(staff) if "username fields" not in said] == []


def test_order_that_waits_is_understood_and_mended_from_the_home_page(staff, store):
    sandbox, shopper = Sandbox(store.sandbox_url), Shopper(store.url)
    product = next(row for row in sandbox.control("state")["products"] if "Saltmarsh" in row["name"])
    order = shopper.order("saltmarsh-signals")
    payment = shopper.payment(order)
    sandbox.control(f"products/{product['product_id']}", {"qty": 0, "textQty": 0})
    sandbox.pay(payment["payment_id"])
    staff.get(f"{store.url}/admin/")
    case = wait(staff, lambda page: one(page, f".case:has(a[href*='{order['id']}'])"), "its case")
    assert "Out of stock" in case.text
    assert "The money is owed back in" in case.text
    sandbox.control(f"products/{product['product_id']}", {"qty": 9, "textQty": 9})
    next(part for part in case.find_elements(By.CSS_SELECTOR, ".choice") if part.text == "Let it continue").click()
    assert "it is bought as if it were new" in one(staff, ".messagelist").text
    assert staff.current_url == f"{store.url}/admin/"
    shopper.wait_fulfilled(order)
    wait(
        staff, lambda page: not page.find_elements(By.CSS_SELECTOR, f".case a[href*='{order['id']}']"), "an empty list"
    )
    assert complaints(staff) == []

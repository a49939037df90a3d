"""`make screenshots`: every page a customer sees, in every state, on phone and desktop, light and dark.

Starts a store of its own, with DEBUG off, and brings orders into each state through the sandbox. The pictures and the
layout shift of each page come into var/screenshots/.
"""

import base64
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from bitloot.tests.services import Sandbox
from bitloot.tests.shopper import Shopper, bearer
from tools.dev.devenv import ROOT
from tools.dev.services import find_program
from tools.dev.supervise import Store, free_port

PICTURES = ROOT / "var" / "screenshots"
WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}
SCHEMES = ("light", "dark")
PATIENCE = 60
SWITCHES = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server",
    "--accept-lang=en-GB",
)  # fmt: skip
STRANGER = "5e0a3c39-7a3d-4b0e-9f55-0d8f6a1c2b3d"
FILL = "document.querySelector('[type=email]').value = 'ada@customer.example';"
FORGE = "document.querySelector('[name=csrfmiddlewaretoken]').value = 'a'.repeat(64);"
SEND = "const form = document.querySelector('main form'); form.noValidate = true; form.requestSubmit();"
REVEAL = "document.querySelectorAll('[data-reveal]').forEach((button) => button.click());"
RETURN = """
from payments.refund_addresses import give_address
refund = order.refunds.get()
give_address(order=order, refund_id=refund.pk, address="bc1q" + "a" * 38)
refund.refresh_from_db()
refunds.mark_sent(refund, actor="kim", transaction_id="f4184fc596403b9d", destination=refund.destination_id)
refunds.mark_done(refund, actor="kim")
"""
SHIFT = """
const done = arguments[0]; let sum = 0;
new PerformanceObserver((list) => { for (const entry of list.getEntries()) sum += entry.value; })
  .observe({ type: "layout-shift", buffered: true });
setTimeout(() => done(sum), 100);
"""


@dataclass(frozen=True)
class Page:
    name: str
    path: str
    headline: str = ""  # which tells that the page is in its state
    act: str = ""  # the script that somebody's clicks stand for
    until: str = ""  # and what shows their outcome


class Scene:
    """Orders in every state; each method makes one and returns its page."""

    def __init__(self, store: Store) -> None:
        self.store, self.shopper, self.sandbox = store, Shopper(store.url), Sandbox(store.sandbox_url)

    def pages(self) -> Iterator[Page]:
        yield Page("shop", "/")
        yield Page("shop-narrowed", "/?q=e&platform=PC&in_stock=true&max_price=15&ordering=price")
        yield Page("shop-nothing", "/?q=zzz&region=Moon")
        yield Page("product", "/products/nightline-courier")
        yield Page("checkout", "/checkout?product=ember-drift&quantity=2")
        yield Page("checkout-refused", "/checkout?product=ember-drift", act=SEND, until=".field-error")
        yield Page("find", "/orders/find")
        yield Page("find-refused", "/orders/find", act=SEND, until=".field-error")
        yield Page("found", "/orders/find", act=f"{FILL} {SEND}", until=".notice")
        yield Page("form-refused", "/orders/find", act=f"{FORGE} {SEND}", until=".stop")
        for name in ("terms", "privacy", "imprint"):
            yield Page(name, f"/pages/{name}")
        yield Page("not-found", "/nowhere")
        yield from self._lost()
        yield self._before_payment()
        yield from self._paying()
        yield self._provider_down()
        yield self._underpaid()
        yield from self._waiting_for_the_supplier()
        yield self._held()
        yield from self._ended()
        yield self._overpaid()
        yield from self._refunds()
        yield from self._fulfilled()

    def _lost(self) -> Iterator[Page]:
        headline = "This link does not open an order"
        yield Page("lost-link", f"/orders/{STRANGER}", headline)
        code = f"{FILL} document.querySelector('[value=code]').click();"
        yield Page("lost-link-code", f"/orders/{STRANGER}", headline, act=code, until="[data-code]")

    def _before_payment(self) -> Page:
        return self._page("choose", self.shopper.order(), "Choose how to pay")

    def _paying(self) -> Iterator[Page]:
        for coin in ("btc", "xrp"):
            order = self.shopper.order()
            self.shopper.payment(order, coin)
            yield self._page(f"pay-{coin}", order, "Waiting for your payment")
        order = self.shopper.order()
        self.sandbox.control(f"payments/{self._address(order)}/status", {"status": "confirming"})
        yield self._page("confirming", order, "Payment seen")

    def _provider_down(self) -> Page:
        order = self.shopper.order()
        self.sandbox.fault("nowpayments.payment.create", "5xx_before", times=1)
        asked = {"order_id": order["id"], "pay_currency": "btc"}
        self.shopper.send("POST", "/api/payments/create", json=asked, headers=bearer(order))
        return self._page("provider-down", order, "Choose a coin again")

    def _underpaid(self) -> Page:
        return self._page("underpaid", self._paid("ember-drift", mode="under"), "Not all of the money arrived")

    def _waiting_for_the_supplier(self) -> Iterator[Page]:
        self.sandbox.control("config", {"deliver": "manual"})
        waiting, partly = self._paid("ember-drift"), self._paid("ember-drift", quantity=3)
        for order in (waiting, partly):
            self._until(order, lambda now: any(line["event"] == "given" for line in now["timeline"]))
        purchase = next(row for row in self.sandbox.control("state")["orders"] if len(row["keys"]) == 3)
        self.sandbox.control(f"orders/{purchase['order_id']}/deliver", {"count": 1})
        self.sandbox.control("config", {"deliver": "auto"})
        yield self._page("waiting", waiting, "Paid. We are getting your key")
        yield self._page("partly", partly, "1 of 3 keys is ready")

    def _held(self) -> Page:
        order = self.shopper.order("saltmarsh-signals")
        address = self._address(order)
        self._sell_out()  # between the look before the payment and the purchase
        self.sandbox.pay(address)
        return self._page("held", order, "Your key has to wait")

    def _sell_out(self) -> None:
        product = next(row for row in self.sandbox.control("state")["products"] if "Saltmarsh" in row["name"])
        self.sandbox.control(f"products/{product['product_id']}", {"qty": 0, "textQty": 0})

    def _ended(self) -> Iterator[Page]:
        expired, cancelled = self.shopper.order(), self.shopper.order()
        self._shell(expired, "order.expire()")
        self._shell(cancelled, "order.cancel(message='Our staff cancelled this order.')")
        yield self._page("expired", expired, "This order has expired")
        yield self._page("cancelled", cancelled, "Order cancelled")

    def _overpaid(self) -> Page:
        order = self._paid("ember-drift", mode="over")
        self._until(order, lambda now: now["payment"]["surplus"] is not None)
        return self._page("overpaid", order, "Your key is ready")

    def _refunds(self) -> Iterator[Page]:
        asked, given, sent = (self._paid("ember-drift", mode="under") for _ in range(3))
        for order in (asked, given, sent):
            self._until(order, lambda now: now["status"] == "underpaid")
            self._shell(order, "refunds.request_refund(order.payments.get(), actor='kim', reason='Asked for.')")
        refund = self.shopper.read(given)["refunds"][0]["id"]
        body = {"order_id": given["id"], "refund": refund, "address": "bc1q" + "a" * 38, "extra_id": ""}
        self.shopper.json("POST", "/api/payments/refund-address", json=body, headers=bearer(given))
        yield self._page("refund", asked, "We owe you a refund")
        yield self._page("refund-address", given, "We owe you a refund")
        self._shell(sent, RETURN)
        yield self._page("refunded", sent, "Your money was returned")

    def _fulfilled(self) -> Iterator[Page]:
        text, picture = self._paid("ember-drift", quantity=2), self._paid("nightline-courier")
        for order in (text, picture):
            self.shopper.wait_fulfilled(order)
        yield self._page("fulfilled", text, "Your keys are ready")
        yield self._page("opened", text, "Your keys are ready", act=REVEAL, until=".key-value code")
        unfolded = f"{REVEAL} document.querySelectorAll('summary').forEach((fold) => fold.click());"
        yield self._page("opened-details", picture, "Your key is ready", act=unfolded, until=".key-value img")

    def _page(self, name: str, order: dict[str, Any], headline: str, *, act: str = "", until: str = "") -> Page:
        return Page(name, f"/orders/{order['id']}#{order['access_token']}", headline, act, until)

    def _address(self, order: dict[str, Any]) -> str:
        return str(self.shopper.payment(order)["pay_address"])

    def _paid(self, product: str, *, mode: str = "exact", quantity: int = 1) -> dict[str, Any]:
        order = self.shopper.order(product, quantity=quantity)
        self.sandbox.pay(self._address(order), mode)
        return order

    def _until(self, order: dict[str, Any], condition: Callable[[dict[str, Any]], bool]) -> None:
        self.shopper.wait(lambda: condition(self.shopper.read(order)), "the order's state")

    def _shell(self, order: dict[str, Any], decision: str) -> None:
        found = f"from orders.models import Order; order = Order.objects.get(pk='{order['id']}')"
        self.store.manage("shell", "--verbosity", "0", "-c", f"from payments import refunds; {found}; {decision}")


def main() -> None:
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    with _folder() as folder, finished_store(folder / "store") as store, _browser(folder / "profile") as browser:
        for page in list(Scene(store).pages()):
            shifts = [_take(browser, store.url, page, device, scheme) for device in WIDTHS for scheme in SCHEMES]
            print(f"{page.name:16} layout shift {max(shifts):.3f}", flush=True)
    print(f"{len(list(PICTURES.iterdir()))} pictures in {PICTURES.relative_to(ROOT)}/")


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bitloot-screenshots-") as name:
        yield Path(name)


@contextmanager
def finished_store(folder: Path) -> Iterator[Store]:
    """Start a store as production has it: its own error pages, and the static files as an image holds them."""
    # DEBUG is off because Django shows its own page instead of ours for what is not found.
    services = {"DATABASE_URL": "", "REDIS_URL": "", "DEBUG": "0"}
    store = Store(folder, port=free_port(), sandbox_port=free_port(), **services)
    store.manage("collectstatic", "--no-input", "--verbosity", "0")
    store.manage("migrate", "--verbosity", "0")
    store.seed()
    try:
        store.start()
        yield store
    finally:
        store.stop()


@contextmanager
def _browser(profile: Path) -> Iterator[WebDriver]:
    options = Options()
    options.binary_location = find_program("chromium", "chromium")
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    browser = webdriver.Chrome(options=options, service=Service(find_program("chromedriver", "chromium-driver")))
    try:
        yield browser
    finally:
        browser.quit()


def _take(browser: WebDriver, url: str, page: Page, device: str, scheme: str) -> float:
    """Write the picture of the whole page; return how far it jumped while it loaded."""
    width, height = WIDTHS[device]
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": device == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    shift = open_page(browser, url, page)
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
    (PICTURES / f"{page.name}-{device}-{scheme}.png").write_bytes(base64.b64decode(picture["data"]))
    return shift


def open_page(browser: WebDriver, url: str, page: Page) -> float:
    """Bring the browser to the page in its state; return how far it jumped while it loaded."""
    browser.get("about:blank")  # or only the fragment would change
    browser.get(f"{url}{page.path}")
    WebDriverWait(browser, PATIENCE).until(lambda now: _is_there(now, page), f"{page.name} did not come")
    shift = float(browser.execute_async_script(SHIFT))
    if page.act:
        browser.execute_script(page.act)
        WebDriverWait(browser, PATIENCE).until(lambda now: _shows(now, page.until), f"{page.until} did not come")
    WebDriverWait(browser, PATIENCE).until(_is_quiet, f"{page.name} does not come to rest")
    return shift


def _shows(browser: WebDriver, selector: str) -> bool:
    return bool(browser.execute_script("return document.querySelector(arguments[0])?.offsetParent", selector))


def _is_there(browser: WebDriver, page: Page) -> bool:
    headline = browser.execute_script("return document.querySelector('h1')?.innerText")
    coins_missing = (
        "return [...document.querySelectorAll('[data-coin-list]')].some(e => e.offsetParent && !e.children[0])"
    )
    return page.headline in ("", headline) and not browser.execute_script(coins_missing)


def _is_quiet(browser: WebDriver) -> bool:
    loading = "return [...document.images].some(i => i.loading != 'lazy' && i.offsetParent && !i.complete)"
    return not browser.execute_script(loading) and not _shows(browser, "[aria-busy=true]")


if __name__ == "__main__":
    main()

"""Every page that staff see: each list with its first row, and what is neither list nor row."""

import re
import time
from base64 import b32decode
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from django_otp.oath import totp
from selenium.webdriver.chrome.webdriver import WebDriver

from tools.dev.browser import wait
from tools.dev.scenes import Page, Scene

NAME, PASSWORD = "kim", "a word for pictures only"
ORDERS = ("fulfilled", "held", "underpaid", "refund_due", "refunded", "pending", "partially_fulfilled")
SENT = "document.querySelector('main form, #content form').submit();"
# What a busy shop has beside its orders.
ROWS = """
from decimal import Decimal
from django.contrib.auth.models import User
from bitloot.core.clients import Scope
from bitloot.partners.events import Event
from bitloot.partners.services import add_endpoint, create_key, send_test
from fulfillment.models import PriceRule
from orders.alerts import raise_alert
from orders.models import Email
from webhooks.choosing import Chosen
from webhooks.replays import begin
kim = User.objects.get(username="kim")
key, _ = create_key(name="Arcade Bundle", email="dev@partner.example", scopes=list(Scope.values))
create_key(name="Key Comparison", email="it@compare.example", scopes=Scope.values[:1])
send_test(add_endpoint(key, url="https://hooks.partner.example/bitloot", events=list(Event.values)))
PriceRule.objects.create(name="PC, a fifth on top", platform="PC", margin=Decimal(20))
failed = Email.objects.filter(status="sent").exclude(order=None).last()
Email.objects.filter(pk=failed.pk).update(status="failed", error="550 5.1.1 No such mailbox.")
raise_alert("mail_failed", failed, "A mail could not be sent: 550 5.1.1 No such mailbox.", order=failed.order)
begin(Chosen(provider="nowpayments"), is_dry=True, user=kim)
begin(Chosen(provider="kinguin"), is_dry=False, user=kim)
"""


class StaffScene:
    """The pages of staff in the store of the customers' scene; signs the browser in on the way."""

    def __init__(self, scene: Scene, browser: WebDriver) -> None:
        self.scene, self.store, self.browser = scene, scene.store, browser

    def pages(self) -> Iterator[Page]:
        self.store.shell(self._account())
        device = self.store.manage("staff_device", NAME)
        yield from self._joining()
        yield _page("sign-in", "/admin/")
        wrong = _typed("#id_username", NAME) + _typed("#id_password", "wrong") + _typed("#id_code", "123456")
        yield _page("sign-in-refused", "/admin/", act=wrong + SENT, until=".errornote")
        self._sign_in(device)
        self.store.shell(ROWS)
        yield from self._home()
        yield from self._orders()
        yield from self._two_people()
        yield from self._webhooks()
        yield from self._products()
        yield from self._other()
        yield from self._lists()
        yield _page("signed-out", "/admin/system/", act="document.querySelector('#logout-form').submit();", until="h1")

    def mails(self, folder: Path) -> Iterator[Page]:
        """Yield every mail, in each language that it is written in."""
        self.store.manage("preview_emails", str(folder))
        for path in sorted(folder.glob("*.en.html")):
            for letter in sorted(folder.glob(f"{path.name.partition('.')[0]}.*.html")):
                name, language = letter.name.split(".")[:2]
                yield Page(f"{name}-{language}", letter.as_uri(), group="mail", languages=("en",))

    def _account(self) -> str:
        made = f"create_superuser('{NAME}', 'kim@shop.example', '{PASSWORD}')"
        return f"from django.contrib.auth.models import User; User.objects.{made}"

    def _joining(self) -> Iterator[Page]:
        self.store.manage("createstaff", "ada", "--email", "ada@shop.example", "--group", "finance")
        link = self._mailed(r"(/admin/join/\S+)")
        yield _page("join", link)
        yield _page("join-refused", link, act=_typed("#id_code", "000000") + SENT, until=".errorlist")
        time.sleep(2)  # after a wrong code the authenticator takes none for a second
        secret = self.browser.execute_script("return document.querySelector('ol code').innerText")
        fields = {"#id_code": _code(secret), "#id_new_password1": PASSWORD, "#id_new_password2": PASSWORD}
        typed = "".join(_typed(selector, text) for selector, text in fields.items())
        yield _page("joined", link, act=typed + SENT, until="ul code")
        yield _page("join-ended", link)

    def _mailed(self, pattern: str) -> str:
        for path in (self.store.var / "mail").glob("*"):
            body: Any = message_from_bytes(path.read_bytes(), policy=policy.default).get_body(("plain",))
            if body is not None and (found := re.search(pattern, body.get_content())):
                return found[1]
        raise LookupError(f"no mail has {pattern}")

    def _sign_in(self, device: str) -> None:
        secret = re.search(r"secret=(\w+)", device)
        assert secret is not None
        fields = {"#id_username": NAME, "#id_password": PASSWORD, "#id_code": _code(secret[1])}
        self.browser.get(f"{self.store.url}/admin/")
        self.browser.execute_script("".join(_typed(name, text) for name, text in fields.items()) + SENT)
        self._until("return document.querySelector('.finder')", "the home page")

    def _home(self) -> Iterator[Page]:
        yield _page("home", "/admin/", until=".cases")
        yield _page("home-30d", "/admin/?period=30d")
        order = self._order("status='fulfilled'")
        yield _page("found", f"/admin/?q={order[:8]}")
        yield _page("found-nothing", "/admin/?q=nobody@nowhere.example")

    def _orders(self) -> Iterator[Page]:
        found = self._ids("orders.models", "Order", *(f"status='{status}'" for status in ORDERS))
        for status, order in zip(ORDERS, found, strict=True):
            if not order:
                continue
            yield _page(f"order-{status}", f"/admin/orders/order/{order}/change/")
            for choice in self._choices():
                yield _page(f"decide-{status}-{choice.split('/decide/')[1].split('/')[0]}", choice)

    def _choices(self) -> list[str]:
        """Return the addresses of the decisions that the page offers and that ask for something."""
        script = "return [...document.querySelectorAll('a.choice, .choices a')].map(link => link.getAttribute('href'))"
        return list(dict.fromkeys(url for url in self.browser.execute_script(script) if "/decide/" in url))

    def _two_people(self) -> Iterator[Page]:
        """Ask for the refund of a whole order, which a second person has to approve."""
        payment = self._id("payments.models", "Payment", "order__status='fulfilled', status='finished'")
        refund = f"/admin/payments/payment/{payment}/decide/refund/"
        asked = _typed("textarea", "The key was sold twice. The customer wants the money back.") + SENT
        yield _page("asked-for-approval", refund, act=asked, until=".messagelist")
        approval = self._id("orders.models", "Approval", "status='waiting'")
        yield _page("approval", f"/admin/orders/approval/{approval}/change/")
        yield _page("approve", f"/admin/orders/approval/{approval}/decide/approve/")
        yield _page("decline", f"/admin/orders/approval/{approval}/decide/decline/")

    def _webhooks(self) -> Iterator[Page]:
        yield _page("webhooks-filtered", "/admin/webhooks/webhooklog/?provider__exact=kinguin")
        yield _page("webhooks-nothing", "/admin/webhooks/webhooklog/?q=nothing-has-this")
        yield _page(
            "webhooks-filter-open", "/admin/webhooks/webhooklog/", act=_OPEN_FILTER, until="#changelist-filter li"
        )
        yield _page("webhooks-ticked", "/admin/webhooks/webhooklog/", act=_TICK, until=".actions")
        yield _page("replay", "/admin/webhooks/webhooklog/")
        self.browser.get(f"{self.store.url}/admin/webhooks/webhooklog/?provider__exact=kinguin")
        yield _page("replay-filter", self._link(".replay-all a"))
        runs = self._ids("webhooks.models", "ReplayRun", "is_dry=True", "is_dry=False")
        for name, run in zip(("replay-dry-run", "replay-run"), runs, strict=True):
            yield _page(name, f"/admin/webhooks/replayrun/{run}/change/")

    def _products(self) -> Iterator[Page]:
        yield _page("import", "/admin/orders/product/import/")
        yield _page("import-found", "/admin/orders/product/import/?name=lumen")
        yield _page("import-nothing", "/admin/orders/product/import/?name=zzzz")
        rule = self._id("fulfillment.models", "PriceRule", "platform='PC'")
        yield _page("price-rule", f"/admin/fulfillment/pricerule/{rule}/change/")
        yield _page("reprice", f"/admin/fulfillment/pricerule/{rule}/decide/apply/")
        yield _page("price-rule-new", "/admin/fulfillment/pricerule/add/", act=SENT, until=".errornote")
        yield _page("product-new", "/admin/orders/product/add/")
        product = self._id("orders.models", "Product", "slug='ember-drift'")
        yield _page("product-refused", f"/admin/orders/product/{product}/change/", act=_NO_PRICE, until=".errornote")
        yield _page("product-history", f"/admin/orders/product/{product}/history/")

    def _other(self) -> Iterator[Page]:
        yield _page("system", "/admin/system/")
        tools = "return [...document.querySelectorAll('ul.tools a')].map(link => link.getAttribute('href'))"
        for tool in self.browser.execute_script(tools):
            yield _page(tool.strip("/").replace("admin/", "").replace("/", "-"), tool)
        yield _page("password", "/admin/password_change/")
        yield _page("not-found", "/admin/nowhere/")
        yield _page("key-new", "/admin/partners/apikey/add/")
        fields = _typed("#id_name", "Bundle Maker") + _typed("#id_email", "dev@bundle.example")
        yield _page("key-made", "/admin/partners/apikey/add/", act=fields + SENT, until=".secret code")
        user = self._id("django.contrib.auth.models", "User", "username='ada'")
        yield _page("account", f"/admin/auth/user/{user}/change/")

    def _lists(self) -> Iterator[Page]:
        """Yield each list, and the page of its first row."""
        self.browser.get(f"{self.store.url}/admin/system/")
        script = "return [...document.querySelectorAll('.app-list th a')].map(link => link.getAttribute('href'))"
        for path in dict.fromkeys(self.browser.execute_script(script)):
            name = "-".join(path.strip("/").split("/")[1:])
            if name in ("", "system"):
                continue
            yield _page(f"list-{name}", path)
            if row := self._link("#result_list tbody th a"):
                yield _page(f"row-{name}", row)

    def _link(self, selector: str) -> str:
        found = self.browser.execute_script(
            "return document.querySelector(arguments[0])?.getAttribute('href')", selector
        )
        if not found or found.startswith("/"):
            return str(found or "")
        path = self.browser.execute_script("return location.pathname")
        return f"{path}{found}" if found.startswith("?") else str(found)

    def _order(self, condition: str) -> str:
        return self._id("orders.models", "Order", condition)

    def _id(self, module: str, model: str, condition: str) -> str:
        return self._ids(module, model, condition)[0]

    def _ids(self, module: str, model: str, *conditions: str) -> list[str]:
        """Return for each condition the id of the last row that meets it, or ""; one process answers all."""
        asked = ", ".join(f"{model}.objects.filter({condition}).last()" for condition in conditions)
        script = f"from {module} import {model}\nfor row in [{asked}]: print(row.pk if row else '-')"
        told = self.store.shell(script)
        return ["" if line == "-" else line for line in told.split()]

    def _until(self, script: str, what: str) -> None:
        wait(self.browser, lambda page: page.execute_script(script), what)


_OPEN_FILTER = "document.querySelector('#changelist-filter details').open = true;"
_TICK = "document.querySelectorAll('.action-select').forEach((box, at) => { if (at < 2) box.click(); });"
_NO_PRICE = "document.querySelector('#id_price').value = ''; document.querySelector('#product_form').submit();"


def _page(name: str, path: str, *, act: str = "", until: str = "") -> Page:
    return Page(name, path, act=act, until=until or "h1", group="staff", languages=("en",))


def _typed(selector: str, text: str) -> str:
    return f"document.querySelector('{selector}').value = '{text}';"


def _code(secret: str) -> str:
    padded = secret + "=" * (-len(secret) % 8)
    return f"{totp(b32decode(padded)):06}"

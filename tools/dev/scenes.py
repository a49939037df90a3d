"""What `make screenshots` and the tests of all states look at: every page that a customer sees, in every state.

Orders are brought into each state through the sandbox, in a store that runs with DEBUG off.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bitloot.tests.services import Sandbox
from bitloot.tests.shopper import Shopper, bearer
from tools.dev.supervise import Store

LANGUAGES = ("en", "de")
NAMES = ("ada.lovelace", "grace", "linus", "margaret.hamilton", "radia", "barbara", "donald.knuth")
LOOKUPS_A_MINUTE = 20
STRANGER = "5e0a3c39-7a3d-4b0e-9f55-0d8f6a1c2b3d"
FILL = "document.querySelector('[name=email]').value = 'ada@customer.example';"
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


@dataclass(frozen=True)
class Page:
    name: str
    path: str
    headline: str = ""  # which tells that the page is in its state
    act: str = ""  # the script that somebody's clicks stand for
    until: str = ""  # and what shows their outcome
    group: str = "shop"
    languages: tuple[str, ...] = LANGUAGES


class Scene:
    """Orders in every state; each method makes one and returns its page."""

    def __init__(self, store: Store) -> None:
        self._customers = 0
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

    def broken_pages(self) -> Iterator[Page]:
        """Yield what is shown when something is wrong, each made only when it is asked for; the store is lost then."""
        for _ in range(LOOKUPS_A_MINUTE + 1):
            self._look_up()
        yield Page("too-often", "/orders/find", act=f"{FILL} {SEND}", until=".stop")
        self._sql("UPDATE orders_product SET price = 'much'")
        yield Page("broken", "/?q=e", "Something broke on our side")
        self._sql("ALTER TABLE orders_product RENAME TO orders_product_away")
        yield Page("unavailable", "/?q=o", "We will be right back")

    def _look_up(self) -> None:
        form = self.shopper.get("/orders/find")
        token = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', form.text)
        assert token is not None
        self.shopper.send("POST", "/orders/find", data={"csrfmiddlewaretoken": token[1], "email": "ada@c.example"})

    def _sql(self, statement: str) -> None:
        script = "from django.db import connection as c; cursor = c.cursor()"
        script += f"; cursor.execute('PRAGMA ignore_check_constraints = 1'); cursor.execute({statement!r})"
        self.store.shell(script)

    def _lost(self) -> Iterator[Page]:
        headline = "This link does not open an order"
        yield Page("lost-link", f"/orders/{STRANGER}", headline)
        code = f"{FILL} document.querySelector('[value=code]').click();"
        yield Page("lost-link-code", f"/orders/{STRANGER}", headline, act=code, until="[data-code]")
        yield Page("receipt-lost-link", f"/orders/{STRANGER}/receipt", headline)

    def _before_payment(self) -> Page:
        return self._page("choose", self._order(), "Choose how to pay")

    def _paying(self) -> Iterator[Page]:
        for coin in ("btc", "xrp"):
            order = self._order()
            self.shopper.payment(order, coin)
            yield self._page(f"pay-{coin}", order, "Waiting for your payment")
        order = self._order()
        self.sandbox.control(f"payments/{self._address(order)}/status", {"status": "confirming"})
        yield self._page("confirming", order, "Payment seen")

    def _provider_down(self) -> Page:
        order = self._order()
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
        order = self._order("saltmarsh-signals")
        address = self._address(order)
        self._sell_out()  # between the look before the payment and the purchase
        self.sandbox.pay(address)
        return self._page("held", order, "Your key has to wait")

    def _sell_out(self) -> None:
        product = next(row for row in self.sandbox.control("state")["products"] if "Saltmarsh" in row["name"])
        self.sandbox.control(f"products/{product['product_id']}", {"qty": 0, "textQty": 0})

    def _ended(self) -> Iterator[Page]:
        expired, cancelled = self._order(), self._order()
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
        yield self._receipt("receipt-refunded", sent)

    def _fulfilled(self) -> Iterator[Page]:
        text, picture = self._paid("ember-drift", quantity=2), self._paid("nightline-courier")
        for order in (text, picture):
            self.shopper.wait_fulfilled(order)
        yield self._page("fulfilled", text, "Your keys are ready")
        yield self._receipt("receipt", text)
        yield self._page("opened", text, "Your keys are ready", act=REVEAL, until=".key-value code")
        unfolded = f"{REVEAL} document.querySelectorAll('summary').forEach((fold) => fold.click());"
        yield self._page("opened-details", picture, "Your key is ready", act=unfolded, until=".key-value img")

    def _page(self, name: str, order: dict[str, Any], headline: str, *, act: str = "", until: str = "") -> Page:
        return Page(name, f"/orders/{order['id']}#{order['access_token']}", headline, act, until)

    def _receipt(self, name: str, order: dict[str, Any]) -> Page:
        return Page(name, f"/orders/{order['id']}/receipt#{order['access_token']}", "Receipt")

    def _order(self, product: str = "ember-drift", *, quantity: int = 1) -> dict[str, Any]:
        self._customers += 1
        name = NAMES[self._customers % len(NAMES)]
        # Each has an address of their own: the shop limits the unpaid orders of one.
        return self.shopper.order(product, email=f"{name}{self._customers}@customer.example", quantity=quantity)

    def _address(self, order: dict[str, Any]) -> str:
        return str(self.shopper.payment(order)["pay_address"])

    def _paid(self, product: str, *, mode: str = "exact", quantity: int = 1) -> dict[str, Any]:
        order = self._order(product, quantity=quantity)
        self.sandbox.pay(self._address(order), mode)
        return order

    def _until(self, order: dict[str, Any], condition: Callable[[dict[str, Any]], bool]) -> None:
        self.shopper.wait(lambda: condition(self.shopper.read(order)), "the order's state")

    def _shell(self, order: dict[str, Any], decision: str) -> None:
        found = f"from orders.models import Order; order = Order.objects.get(pk='{order['id']}')"
        self.store.shell(f"from payments import refunds; {found}; {decision}")

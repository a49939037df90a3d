"""The tables of docs/runbook.md, and an operator who does what they say through the admin."""

from pathlib import Path

from django.conf import settings
from django.contrib import admin
from django.test import Client

from bitloot.accounting.checks import differences
from bitloot.accounting.ledger import Scope
from bitloot.core.admin import runbook
from bitloot.tests.staff import button_of, make_staff
from fulfillment.models import Reservation
from fulfillment.tests.world import run
from orders.decisions import CLOSE
from orders.models import Alert, Order, Product
from orders.services import Line, place_order
from payments.refund_addresses import give_address
from payments.tests.factories import ASKED, make_payment

RUNBOOK = Path(settings.BASE_DIR) / "docs" / "runbook.md"
WHY = "The runbook says so."
SCENARIOS = {}  # those of bitloot/tests/scenarios, by the names of their rows


def row(*names):
    """Register a scenario for rows of the runbook. It returns the order and how that ends, or None without an order."""

    def register(scenario):
        SCENARIOS.update(dict.fromkeys(names, scenario))
        return scenario

    return register


def rows():
    """Yield "section:name" of each row of the runbook's tables, and the row's last cell, which says what to do."""
    for _, section, (first, *_, last) in runbook.rows(RUNBOOK.read_text()):
        for name in runbook.names_in(first):
            yield f"{section}:{name}", last


class Operator:
    """A member of staff with every permission; what they see is kept, so that a test can compare it with the row.

    Checking the books takes as long as a few pages, so it is done only for rows about them.
    """

    def __init__(self, request, *, row=""):
        self.client, self._request, self.seen = Client(), request, set()
        self._looks_at_books = row.startswith("difference:")
        self.client.force_login(make_staff(superuser=True))

    def fixture(self, name):
        return self._request.getfixturevalue(name)

    def fixture_of(self, context):
        """Enter a context manager until the test ends."""
        value = context.__enter__()
        self._request.addfinalizer(lambda: context.__exit__(None, None, None))
        return value

    def colleague(self):
        return Operator(self._request)

    @staticmethod
    def anybody():
        return Client()

    # --- what the store was brought to

    def sees(self):
        """Look at the open alerts and at the books; keep what the runbook would be opened for."""
        self.seen |= {*open_alerts(), *(open_differences() if self._looks_at_books else ())}

    # --- what the rows say

    def decides(self, row, label, **fields):
        """Use the decision that is labelled so on the page of a row; it has to be possible, and to succeed."""
        decision, said = self._uses(row, label, fields)
        assert any(decision.done in message for message in said), said
        row.refresh_from_db()

    def asks_a_second_for(self, row, label, **fields):
        _, said = self._uses(row, label, fields)
        assert "a second member of staff has to approve it" in said[0], said

    def _uses(self, row, label, fields):
        page = admin.site.get_model_admin(type(row))
        decision = next(one for one in page.decisions if one.label == label)
        url, sent = button_of(row, decision.name), fields
        if decision.form is not None:
            form = self.client.get(url)
            assert form.status_code == 200, f"“{label}” is not possible: {decision.objection(row)}"
            shown = {name: value for name, value in form.context["form"].initial.items() if value is not None}
            asked = {"reason": WHY} if "reason" in form.context["form"].fields else {}
            sent = {"seen": form.context["seen"], **shown, **asked, **fields}
        answer = self.client.post(url, sent, follow=True)
        return decision, [str(message) for message in answer.context["messages"]] or [answer.context["form"].errors]

    def closes(self, kind):
        self.decides(Alert.objects.get(kind=kind, status="open"), CLOSE.label)

    def delivers_by_hand(self, order):
        """Type a code into each field of the page."""
        form = self.client.get(button_of(order, "deliver-by-hand")).context["form"]
        names = [name for name in form.fields if name.startswith("code_")]
        codes = {name: f"TYPED-{order.pk.hex[:8]}-{number}" for number, name in enumerate(names)}
        self.decides(order, "Deliver by hand", **codes)

    def pays_back(self, order):
        """Give the address as the customer does, send the coins and say so."""
        refunds = list(order.refunds.all())
        assert refunds, "nothing goes back"
        for refund in refunds:
            give_address(order=order, refund_id=refund.pk, address="bc1" + "q" * 39)
            self.sees()
            self.decides(refund, "Mark as sent", transaction_id=refund.pk.hex)
            self.decides(refund, "Mark as done")
        order.refresh_from_db()

    # --- orders at the supplier's sandbox

    def supplier(self):
        sandbox = self.fixture("sandbox")
        sandbox.control("config", {"deliver": "auto", "deliver_after_ms": 0, "hold_s": 0.1})
        sandbox.control("balance", {"balance": 100000})
        return sandbox

    def reservation(self, quantity=1):
        """A paid order of a product that the sandbox sells; nothing is bought for it yet."""
        product, _ = Product.objects.get_or_create(
            slug="ember-drift",
            defaults={
                "title": "Ember Drift",
                "price": "9.99",
                "max_cost": "8.50",
                "supplier_product_id": "64b000000000000000000001",
                "supplier_offer_id": "64c000000000000000000001",
            },
        )
        order = place_order(email="kim@shop.example", lines=[Line(product.slug, quantity)]).order
        make_payment(order, "finished", actually_paid=ASKED, finished_at=order.created_at, next_attempt_at=None)
        order.mark_paid(message="Paid.")
        return Reservation.objects.get(item__order=order)

    def until_held(self, reservation):
        for _ in range(20):
            if run(reservation).status == "held":
                break
        self.sees()
        return reservation


def open_alerts():
    """Yield the rows that the open alerts lead to: their kind, or the reason in the alert's row or its brackets."""
    for alert in Alert.objects.filter(status=Alert.Status.OPEN):
        yield f"alert:{alert.kind}"
        if alert.kind == "reservation":
            yield "reservation:" + alert.message.partition("]")[0].lstrip("[")
        if alert.kind == "payment_review":
            yield "review:" + alert.message.partition(" needs attention: ")[2].partition(".")[0]


def open_differences():
    return [f"difference:{difference.kind}" for difference in differences(Scope())]


def state(order):
    return Order.objects.get(pk=order.pk).status

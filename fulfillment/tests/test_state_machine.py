"""Any order of messages, crashes, lies, staff and supplier faults: the real pipeline against the sandbox in-process.

The supplier's ledger is the oracle. A crash is a failpoint that ends the worker where it stands; a process that really
dies is the business of `make chaos`.
"""

import contextlib
import re
import uuid
from decimal import Decimal
from unittest import mock

import pytest
import requests
import responses
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from urllib3.exceptions import NewConnectionError
from werkzeug.test import Client

from bitloot.core import faults
from bitloot.core.clock import delay
from bitloot.core.decisions import DecisionRefused
from bitloot.core.queue import MAX_CRASHES, LeaseLost
from fulfillment import kinguin, pipeline
from fulfillment import services as fulfillment
from fulfillment.exceptions import NotDeliverable
from fulfillment.kinguin import SupplierEvent
from fulfillment.models import Reservation, SupplierGate
from orders.models import Alert, Email, Order, Product
from orders.services import Line, place_order
from sandbox import purchases
from sandbox.app import create_app
from sandbox.config import Config
from storage.models import Key

STEPS = ("purchase.", "search.", "give.", "keys.", "delivery.", "hold.", "resume.", "call.", "http.", "key.")
CRASHES = [name for name in faults.NAMES if name.startswith(STEPS)]
FAULTS = ["5xx_before", "5xx_after", "accept_then_silent", "accept_late", "garbage", "truncated", "redirect_307",
          "out_of_stock", "insufficient_balance", "refuse", "429"]  # fmt: skip
SENDING = ["purchase.permit.committed", "http.before_send:raise:2", "http.answered:raise:2", "http.read:raise:2",
           "call.answered:raise:2", "purchase.answered", "purchase.placed.recorded", "purchase.failed",
           "purchase.unknown.recorded", "purchase.placed.committed"]  # fmt: skip
READS = ["kinguin.product", "kinguin.order.get", "kinguin.order.keys", "kinguin.order.search"]
PRODUCT = "64b000000000000000000001"
GOES_ON, BY_STAFF = ("paid", "fulfilling", "partially_fulfilled"), "held_by_staff"
MINUTES_16, HOURS_25 = 16 * 60, 25 * 3600


@pytest.fixture(scope="module")
def supplier(tmp_path_factory):
    """The sandbox as a WSGI application in this process; what its threads would do, a rule does instead."""
    secrets = {
        "kinguin_api_key": settings.KINGUIN_API_KEY,
        "kinguin_client_id": settings.KINGUIN_CLIENT_ID,
        "kinguin_client_secret": settings.KINGUIN_CLIENT_SECRET,
        "kinguin_webhook_secret": settings.KINGUIN_WEBHOOK_SECRET[0],
        "nowpayments_api_key": settings.NOWPAYMENTS_API_KEY,
        "nowpayments_ipn_secret": settings.NOWPAYMENTS_IPN_SECRET[0],
    }
    database = tmp_path_factory.mktemp("sandbox") / "sandbox.sqlite3"
    sandbox = create_app(
        Config(
            **secrets,
            db=str(database),
            store_url="http://127.0.0.1:9",
            deliver="manual",
            hold_s=0,
            late_s=1e6,
            enforce_external_id=False,
        )  # fmt: skip
    )
    yield sandbox
    sandbox.close()


class Purchase(RuleBasedStateMachine):
    sandbox = None

    def __init__(self):
        super().__init__()
        self.client = Client(self.sandbox)
        self.wire = responses.RequestsMock(assert_all_requests_are_fired=False)
        self.wire.start()
        for method in ("GET", "POST"):
            self.wire.add_callback(method, re.compile(re.escape(settings.KINGUIN_BASE_URL)), self.answer)
        self.reachable = True
        self.asleep, self.page, self.at_payback = [], None, None
        self.control("faults/clear", {})
        self.control("balance", {"balance": 100000})
        self.control(f"products/{PRODUCT}", {"price": 7.49, "qty": 1000, "textQty": 1000})
        self.control("faults", {"op": "webhook.kinguin", "fault": "lost"})
        self.atomic = transaction.atomic()
        self.atomic.__enter__()

    def teardown(self):
        try:
            self.come_to_rest()
        finally:
            faults.arm("")
            settings.KINGUIN_API = "ecommerce"
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)
            self.wire.stop(allow_assert=False)

    def answer(self, request):
        if not self.reachable:
            raise requests.exceptions.ConnectionError(NewConnectionError(mock.Mock(), "refused"))
        path = request.url.removeprefix(settings.KINGUIN_BASE_URL)
        reply = self.client.open(
            f"/kinguin/esa/api{path}", method=request.method, data=request.body, headers=dict(request.headers)
        )
        return reply.status_code, dict(reply.headers), reply.get_data()

    def control(self, path, body=None):
        if body is None:
            return self.client.get(f"/control/{path}").get_json()
        return self.client.post(f"/control/{path}", json=body).get_json()

    def ledger(self, what):
        sql = "SELECT * FROM ledger WHERE what = ? AND external_id = ?"
        return self.sandbox.world.store.read(sql, what, self.external_id)

    @property
    def reservation(self):
        return Reservation.objects.select_related("item__order").get(pk=self.pk)

    @property
    def order(self):
        return self.reservation.item.order

    @initialize(
        quantity=st.integers(1, 2),
        fault=st.sampled_from(["", *FAULTS]),
        crash=st.sampled_from(["", *SENDING]),
    )
    def place(self, quantity, fault, crash):
        """An order is paid; more often than not its first purchase goes wrong, or the worker that sends it dies."""
        product = Product.objects.create(
            slug=f"game-{uuid.uuid4().hex}", title="Ember Drift", price=Decimal("9.99"), max_cost=Decimal("8.50"),
            supplier_product_id=PRODUCT,
        )  # fmt: skip
        order = place_order(email="kim@shop.example", lines=[Line(product.slug, quantity)]).order
        order.mark_paid(message="Paid.")
        reservation = Reservation.objects.get(item__order=order)
        self.pk, self.external_id, self.quantity = reservation.pk, reservation.external_id, quantity
        if fault:
            self.next_purchase_goes_wrong(fault)
        if crash:
            name, _, rest = crash.partition(":")
            self.worker_dies(name, int(rest.rpartition(":")[2] or 1))

    # --- workers

    @rule(times=st.integers(1, 3))
    def message_arrives(self, times):
        for _ in range(times):
            self.advance()

    @rule(name=st.sampled_from(CRASHES), nth=st.integers(1, 2))
    def worker_dies(self, name, nth):
        faults.arm(f"{name}:raise:{nth}")
        self.advance()
        faults.arm("")

    @rule()
    def worker_claims_and_falls_asleep(self):
        self.asleep += Reservation.objects.all().claim(only=self.pk)

    @precondition(lambda self: self.asleep)
    @rule()
    def sleeper_wakes(self):
        with contextlib.suppress(LeaseLost):
            pipeline.advance_claimed(self.asleep.pop(0))

    def advance(self):
        with contextlib.suppress(LeaseLost, faults.FailpointHit):
            for reservation in Reservation.objects.all().claim(only=self.pk):
                if reservation.crashes > MAX_CRASHES:
                    pipeline.give_up(reservation)
                else:
                    pipeline.advance_claimed(reservation)

    # --- time

    @rule()
    def lease_lapses_and_the_pause_ends(self):
        Reservation.objects.filter(pk=self.pk, next_attempt_at__isnull=False).update(next_attempt_at=Now())
        SupplierGate.objects.filter(status="paused").update(probe_at=Now())

    @rule(seconds=st.sampled_from([MINUTES_16, HOURS_25]))
    def the_unknown_grows_old(self, seconds):
        Reservation.objects.filter(pk=self.pk, unknown_at__isnull=False).update(unknown_at=Now() - delay(seconds))

    # --- the supplier

    @rule(fault=st.sampled_from(FAULTS))
    def next_purchase_goes_wrong(self, fault):
        self.control("faults", {"op": "kinguin.order.create", "fault": fault, "times": 1})

    @rule(op=st.sampled_from(READS), fault=st.sampled_from(["5xx_before", "garbage", "truncated"]))
    def next_answer_goes_wrong(self, op, fault):
        self.control("faults", {"op": op, "fault": fault, "times": 1})

    @rule(reachable=st.booleans())
    def network(self, reachable):
        self.reachable = reachable

    @rule()
    def late_request_arrives(self):
        world = self.sandbox.world
        for job in [job for job in world.store.unfinished_jobs() if job.kind == "place"]:
            world.write(lambda tx, job=job: (tx.finish(job), purchases.place_job(world, tx, job.payload)))

    @rule(count=st.integers(1, 2))
    def supplier_delivers(self, count):
        self.control(f"orders/{self.external_id}/deliver", {"count": count})

    @rule(price=st.sampled_from([7.49, 50]), qty=st.sampled_from([0, 1000]))
    def market_moves(self, price, qty):
        self.control(f"products/{PRODUCT}", {"price": price, "qty": qty, "textQty": qty})

    @rule(balance=st.sampled_from([1, 100000]))
    def our_balance_moves(self, balance):
        self.control("balance", {"balance": balance})

    @rule(status=st.sampled_from(["processing", "completed", "canceled", "refunded"]), order_id=st.booleans())
    def webhook_claims(self, status, order_id):
        named = (self.reservation.supplier_order_id or "") if order_id else ""
        before = self.reservation.status
        fulfillment.handle_supplier_event(
            SupplierEvent("order", "order.status", order_id=named, external_id=self.external_id, status=status)
        )
        assert self.reservation.status == before

    # --- staff

    @rule()
    def staff_run_it_again(self):
        with contextlib.suppress(NotDeliverable):
            fulfillment.run_order(self.order, actor="kim")

    @rule()
    def staff_resume_it(self):
        with contextlib.suppress(DecisionRefused):
            fulfillment.resume(self.reservation, actor="kim")
        with contextlib.suppress(DecisionRefused):
            fulfillment.search(self.reservation, actor="kim")

    @rule()
    def staff_open_its_page(self):
        self.page = self.reservation

    @precondition(lambda self: self.page)
    @rule()
    def staff_resume_it_from_an_old_page(self):
        with contextlib.suppress(DecisionRefused):
            fulfillment.resume(self.page, actor="kim")

    @precondition(lambda self: self.order.status in GOES_ON)
    @rule()
    def staff_hold_the_order(self):
        self.order.hold(reason=BY_STAFF, message="Staff look at it.")

    @precondition(lambda self: (self.order.status, self.order.reason) == ("held", BY_STAFF))
    @rule()
    def staff_let_the_order_go_on(self):
        self.order.mark_fulfilling()

    @rule(dialect=st.sampled_from(["ecommerce", "ecommerce", "orders"]))
    def operator_changes_the_dialect(self, dialect):
        settings.KINGUIN_API = dialect

    # --- the payment

    @precondition(lambda self: self.order.status in (*GOES_ON, "held") and self.at_payback is None)
    @rule(really=st.integers(0, 4))
    def payment_goes_back(self, really):
        if really == 0:
            self.order.hold_unpaid(message="The payment was refunded by the provider.")
            self.at_payback = self.spent()

    def spent(self):
        """Return what the order has had: purchases sent for it, and keys."""
        return len(self.ledger("order_received")), Key.objects.filter(item_id=self.external_id).count()

    @precondition(lambda self: Order.Status.REFUND_DUE in Order.TRANSITIONS[self.order.status])
    @rule(really=st.integers(0, 9))
    def staff_give_the_money_back(self, really):
        if really == 0:
            self.order.mark_refund_due(reason="asked", message="The customer asked for it.")

    # --- what always holds

    @invariant()
    def bought_at_most_once(self):
        if hasattr(self, "pk"):
            assert len(self.ledger("sold")) <= 1
            assert len(self.ledger("order_received")) <= self.reservation.permits.count()

    @invariant()
    def one_external_id_for_life(self):
        if hasattr(self, "pk"):
            assert self.reservation.external_id == str(self.reservation.item_id) == self.external_id

    @invariant()
    def nothing_bought_looks_unbought(self):
        if hasattr(self, "pk") and self.ledger("sold"):
            assert self.reservation.status not in ("pending", "cancelled", "failed") or self.ledger("refunded")

    @invariant()
    def nothing_more_for_an_order_without_its_money(self):
        if self.at_payback is not None:
            assert self.spent() == self.at_payback
            assert (self.order.status, self.order.reason) in (("held", "payment_refunded"), ("refund_due", "asked"))

    @invariant()
    def delivered_means_every_key(self):
        if hasattr(self, "pk") and self.reservation.status == "delivered":
            assert Key.objects.filter(item_id=self.external_id).count() == self.quantity
            assert self.order.status in ("fulfilled", "held")

    def come_to_rest(self):
        """Everything heals, everything late arrives, time passes: then nothing may be left in between."""
        self.reachable = True
        faults.arm("")
        settings.KINGUIN_API = "ecommerce"
        self.control("faults/clear", {})
        self.control("faults", {"op": "webhook.kinguin", "fault": "lost"})
        self.market_moves(7.49, 1000)
        self.our_balance_moves(100000)
        self.late_request_arrives()
        for passed in range(8):
            if self.ledger("sold"):
                self.control(f"orders/{self.external_id}/deliver", {})
            Reservation.objects.filter(pk=self.pk).update(crashes=0)
            self.lease_lapses_and_the_pause_ends()
            self.advance()
            if self.order.status == Order.Status.FULFILLED:
                break
            if passed > 4:
                self.the_unknown_grows_old(HOURS_25)
        self.assert_at_rest()

    def assert_at_rest(self):
        reservation, order = self.reservation, self.order
        told = Alert.objects.filter(order=order, status="open").exists()
        if order.status == "fulfilled":
            assert reservation.status == "delivered"
            assert Email.objects.filter(order=order, kind="key_ready").count() == 1
        elif reservation.status == "held":
            assert told
        elif order.status == "held":
            assert order.reason in (BY_STAFF, "payment_refunded")
        else:
            assert (order.status, reservation.status) == ("refund_due", "cancelled")
        if sold := self.ledger("sold"):
            assert reservation.supplier_order_id == sold[0]["order_id"] or (reservation.status == "held" and told)


@pytest.mark.timeout(900)
@pytest.mark.django_db
def test_no_order_of_events_buys_twice_or_forgets(supplier, settings, monkeypatch):
    settings.CLOCK_SCALE = 1e-4  # time stands still unless a rule lets it pass
    monkeypatch.setattr(Purchase, "sandbox", supplier)
    kinguin._client.cache_clear()
    examples = max(12, hypothesis_settings.default.max_examples // 5)
    run_state_machine_as_test(
        Purchase, settings=hypothesis_settings(max_examples=examples, stateful_step_count=20, deadline=None)
    )

"""`reconcile --ask`: what the two providers say is held against our rows."""

import json
import sqlite3
import threading
import uuid
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from bitloot.accounting import provider_checks
from bitloot.accounting.checks import differences
from bitloot.accounting.ledger import Scope
from bitloot.accounting.tests.ledgers import bought, paid_order, paying, put, reservation_of
from fulfillment import kinguin, pipeline
from fulfillment.models import ForeignPurchase, Reservation, ReservationAttempt, SupplierCall
from orders.models import Alert, Order, OrderEvent, Product
from orders.tests.factories import make_order
from payments import coins, review
from payments.creation import start_payment
from payments.models import Coin, Payment, Refund
from payments.sync import refresh
from storage.models import Key

pytestmark = pytest.mark.django_db
EVERYTHING = Scope()


@pytest.fixture(autouse=True)
def _bought_long_ago(sandbox):
    """The sandbox also has what other tests bought, whose rows are gone: that was long ago."""
    with closing(sqlite3.connect(settings.VAR_DIR / "sandbox.sqlite3", timeout=10)) as theirs, theirs:
        theirs.execute("UPDATE purchase SET created = created - 5184000")


@pytest.fixture
def shop(sandbox):
    """A product that the sandbox sells, and its coins on offer."""
    sandbox.control("config", {"deliver": "auto", "deliver_after_ms": 0, "step_ms": 0})
    sandbox.control("balance", {"balance": 100000})
    coins.refresh()
    return Product.objects.create(
        slug="ember-drift",
        title="Ember Drift",
        price=Decimal("24.99"),
        max_cost=Decimal("20.00"),
        supplier_product_id="64b000000000000000000001",
        supplier_offer_id="64c000000000000000000001",
    )


def wait_for(condition):
    for _ in range(200):
        if value := condition():
            return value
        threading.Event().wait(0.05)
    return pytest.fail("it did not come")


def at_provider(sandbox, payment):
    shown = sandbox.control("state?limit=500")["payments"]
    return next(row for row in shown if str(row["payment_id"]) == payment.external_id)


def pay_silently(sandbox, payment):
    sandbox.pay(payment.external_id, silent=True)
    wait_for(lambda: at_provider(sandbox, payment)["payment_status"] == "finished")


@pytest.fixture
def payment(sandbox, shop):
    order = make_order(shop)
    return start_payment(order=order, coin=Coin.objects.filter(is_offered=True).first().code)


@pytest.fixture
def delivered(sandbox, payment):
    """A reservation bought and delivered at the sandbox, for money that came there."""
    pay_silently(sandbox, payment)
    assert refresh(payment) == "paid"
    return deliver(reservation_of(payment.order))


def deliver(reservation):
    def is_delivered():
        pipeline.advance(reservation.pk)
        reservation.refresh_from_db()
        return reservation.status == "delivered"

    wait_for(is_delivered)
    reservation.item.order.refresh_from_db()
    return reservation


def asked(scope=EVERYTHING):
    """Ask both providers; nothing of ours may change by it."""
    before = everything()
    answers = [provider_checks.ask_nowpayments(scope), provider_checks.ask_supplier(scope)]
    assert everything() == before
    assert [complaint for answer in answers for complaint in answer.complaints] == []
    return [(found.kind, found.order) for answer in answers for found in answer.differences]


def strangers(scope=EVERYTHING):
    return [found.external_id for found in provider_checks.ask_supplier(scope).differences if not found.order]


def everything():
    models = (Order, OrderEvent, Payment, Refund, Reservation, ReservationAttempt, SupplierCall, Key, Alert)
    return [list(model.objects.order_by("pk").values()) for model in models]


def test_a_delivered_order_is_the_same_at_both_providers(delivered):
    assert asked() == []
    out = StringIO()
    call_command("reconcile", "--ask", stdout=out)
    assert out.getvalue().endswith("The books balance.\n")


def test_an_order_in_the_middle_of_its_work_is_no_difference(payment):
    assert asked() == []


def test_money_whose_news_was_lost(sandbox, payment):
    pay_silently(sandbox, payment)
    assert asked() == [("payment_differs", str(payment.order_id))]
    refresh(payment)
    assert asked() == []


def test_money_for_a_payment_that_expired_here(sandbox, payment):
    put(payment, status="expired", next_attempt_at=None)
    put(payment.order, status="expired")
    assert asked() == []
    sandbox.control(f"payments/{payment.external_id}/status", {"status": "confirming", "silent": True})
    assert asked() == [("payment_differs", str(payment.order_id))]


def test_money_that_is_not_there_any_more(sandbox, delivered):
    name = f"payments/{delivered.item.order.payments.get().external_id}/status"
    sandbox.control(name, {"status": "failed", "silent": True})
    assert asked() == [("finished_here_only", str(delivered.item.order_id))]


def test_money_that_was_accepted_by_a_person_is_believed(sandbox, payment):
    sandbox.pay(payment.external_id, mode="under", silent=True)
    wait_for(lambda: at_provider(sandbox, payment)["payment_status"] == "partially_paid")
    refresh(payment)
    review.accept_as_paid(payment, actor="kim", reason="a good customer")
    assert asked() == []


def test_coins_that_came_later(sandbox, delivered):
    payment = delivered.item.order.payments.get()
    more = {"status": "finished", "silent": True, "actually_paid": str(payment.actually_paid * 2)}
    sandbox.control(f"payments/{payment.external_id}/status", more)
    assert asked() == [("coins_differ", str(payment.order_id))]
    refresh(payment)
    assert asked() == []


def test_coins_on_an_old_address(sandbox, delivered):
    sandbox.pay(delivered.item.order.payments.get().external_id, mode="repeat", silent=True)
    assert asked() == [("child_unknown", str(delivered.item.order_id))]


def test_a_payment_that_nowpayments_does_not_know(payment):
    put(payment, external_id="1234567")
    assert asked() == [("unknown_at_nowpayments", str(payment.order_id))]


def test_a_key_taken_back_after_its_delivery(sandbox, delivered):
    sandbox.control(f"orders/{delivered.external_id}/refund", {})
    assert asked() == [("taken_back_after_delivery", str(delivered.item.order_id))]


def test_a_purchase_the_supplier_ended_while_we_wait(sandbox, delivered):
    put(delivered, status="given")
    sandbox.control(f"orders/{delivered.external_id}/refund", {})
    assert asked() == [("purchase_ended", str(delivered.item.order_id))]


def test_a_purchase_given_up_here_only(delivered):
    put(delivered, status="cancelled", reason="canceled")
    assert asked() == [("purchase_not_ended", str(delivered.item.order_id))]


def test_a_purchase_the_supplier_does_not_know(delivered):
    put(delivered, supplier_order_id="NOSUCHORDER")
    assert asked() == [("unknown_at_supplier", str(delivered.item.order_id))]


def test_a_purchase_that_cost_something_else(delivered):
    put(delivered, cost=Decimal("1.00"))
    assert asked() == [("cost_differs", str(delivered.item.order_id))]


def test_a_key_that_never_reached_us(delivered):
    key = Key.objects.get(item=delivered.item)
    key.delivery.delete()
    key.delete()
    assert asked() == [("surplus_keys", str(delivered.item.order_id))]


def test_a_purchase_of_somebody_else(shop, delivered):
    put(delivered, external_id=str(uuid.uuid4()))
    assert asked() == [("foreign_purchase", str(delivered.item.order_id))]


def test_a_purchase_whose_order_is_gone_from_our_rows(sandbox, delivered):
    lost = str(uuid.uuid4())
    for name in (lost, "by hand", ""):
        buy_again(delivered, name)
    assert strangers() == [lost]
    assert strangers(Scope(order=delivered.item.order_id)) == []
    sandbox.control(f"orders/{lost}/cancel", {})
    wait_for(lambda: strangers() == [])


def test_a_purchase_without_order_is_acknowledged_with_a_reason(sandbox, delivered, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "kim")
    lost = str(uuid.uuid4())
    buy_again(delivered, lost)
    (found,) = provider_checks.ask_supplier(EVERYTHING).differences
    purchase = kinguin.client().find(lost).order_id
    assert f"`manage.py acknowledge_purchase {purchase} --reason …`" in found.message
    call_command("acknowledge_purchase", purchase, "--reason", "Returned at Kinguin.", stdout=StringIO())
    row = ForeignPurchase.objects.get()
    assert [row.pk, row.external_id, row.reason, row.acknowledged_by] == [
        purchase, lost, "Returned at Kinguin.", "kim",
    ]  # fmt: skip
    out = StringIO()
    call_command("reconcile", "--ask", stdout=out)
    assert out.getvalue().endswith("The books balance.\n")
    call_command("acknowledge_purchase", purchase, "--reason", "Again.", stdout=out)
    assert out.getvalue().endswith("was acknowledged before.\n")
    assert ForeignPurchase.objects.get().reason == "Returned at Kinguin."


def test_only_a_foreign_purchase_that_is_there_can_be_acknowledged(delivered):
    with pytest.raises(CommandError, match=f"belongs to {delivered}"):
        call_command("acknowledge_purchase", delivered.supplier_order_id, "--reason", "x")
    with pytest.raises(CommandError, match="The supplier does not confirm NOSUCHORDER"):
        call_command("acknowledge_purchase", "NOSUCHORDER", "--reason", "x")
    with pytest.raises(CommandError, match="Write what was done") as caught:
        call_command("acknowledge_purchase", delivered.supplier_order_id, "--reason", " ")
    assert caught.value.returncode == 64
    assert not ForeignPurchase.objects.exists()


def test_a_supplier_that_lists_nothing_says_so(sandbox, delivered):
    sandbox.fault("kinguin.order.search", "garbage")
    answers = provider_checks.ask_supplier(EVERYTHING)
    assert answers.differences == []
    assert answers.complaints[0].startswith("Kinguin did not list its orders: ")


@pytest.mark.parametrize(
    ("status", "kind"),
    [("unknown", "bought_not_adopted"), ("held", "bought_not_adopted"), ("failed", "surplus_purchase")],
)
def test_a_purchase_our_rows_do_not_have(delivered, status, kind):
    put(delivered, status=status, supplier_order_id=None, unknown_at=timezone.now())
    assert asked() == [(kind, str(delivered.item.order_id))]


def test_a_purchase_beside_codes_typed_by_hand(delivered):
    put(delivered, manual=True, supplier_order_id=None)
    assert asked() == [("surplus_purchase", str(delivered.item.order_id))]


def test_a_purchase_being_sent_right_now_is_no_difference(delivered):
    put(delivered, status="sending", supplier_order_id=None)
    assert asked() == []


def test_two_purchases_for_one_reservation(sandbox, delivered):
    sandbox.control("config", {"enforce_external_id": False})
    try:
        buy_again(delivered)
    finally:
        sandbox.control("config", {"enforce_external_id": True})
    put(delivered, status="unknown", supplier_order_id=None)
    assert asked() == [("bought_twice", str(delivered.item.order_id))]


def buy_again(reservation, name=None):
    product = reservation.item.product
    return kinguin.client().reserve(
        external_id=reservation.external_id if name is None else name,
        product_id=product.supplier_product_id,
        offer_id="",
        quantity=1,
        price=product.max_cost,
        text_only=True,
    )


def test_a_restored_backup_adopts_what_was_bought_after_it(sandbox, delivered, settings):
    """The drill: rows of before the purchase, safe mode on; the purchase is found, adopted and never repeated."""
    settings.SAFE_MODE = True
    order = delivered.item.order
    Key.objects.get(item=delivered.item).delivery.delete()
    Key.objects.filter(item=delivered.item).delete()
    delivered.permits.all().delete()
    put(order, status="paid")
    put(
        delivered,
        status="pending",
        supplier_order_id=None,
        cost=None,
        reserved_at=None,
        delivered_at=None,
        next_attempt_at=timezone.now(),
    )
    before = sandbox.ledger("order_received")
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="^1 differences"):
        call_command("reconcile", "--ask", "--adopt", stdout=out, stderr=err)
    assert "DIFFERENCE bought_unknown_to_us" in out.getvalue()
    assert err.getvalue() == "1 purchases are searched for and adopted; run this again in a minute.\n"
    deliver(delivered)
    assert delivered.supplier_order_id
    assert order.events.filter(kind="reservation", to_status="held").exists()
    assert sandbox.ledger("order_received") == before
    assert list(differences(EVERYTHING)) == []
    assert asked() == []


def test_what_moved_on_meanwhile_is_not_adopted(delivered):
    assert provider_checks.let_search(delivered.external_id, actor="kim") is False
    delivered.refresh_from_db()
    assert delivered.status == "delivered"


def test_a_row_that_moved_on_while_asking_is_no_difference(payment):
    def look(row):
        put(payment, status="confirming")
        yield "payment_differs", "It differed."

    answers = provider_checks._ask_each("NOWPayments", Payment.objects.all(), look, provider_checks._payment_state)
    assert (answers.asked, answers.differences) == (1, [])


def test_only_the_last_week_is_asked_about_unless_told_otherwise(sandbox, delivered):
    old = timezone.now() - timedelta(days=8)
    order = put(delivered.item.order, created_at=old)
    put(delivered, created_at=old, cost=Decimal("1.00"))
    order.payments.update(created_at=old)
    assert asked() == []
    assert asked(Scope(since=timedelta(days=30))) == [("cost_differs", str(order.pk))]
    assert asked(Scope(order=order.pk)) == [("cost_differs", str(order.pk))]


def test_a_provider_that_has_enough_of_it_is_left_alone(sandbox, delivered, payment):
    for _ in range(2):
        paying(make_order(), "waiting")
    sandbox.fault("nowpayments.payment.get", "429")
    out = StringIO()
    with pytest.raises(CommandError, match="No difference, but not everything could be asked") as caught:
        call_command("reconcile", "--ask", "--json", stdout=out)
    assert caught.value.returncode == 2
    document = json.loads(out.getvalue())
    assert document["ok"] is False
    assert document["not_asked"][-1] == (
        "NOWPayments says that these are too many requests, so the check stopped. 2 more were not asked about. Run"
        " this again later."
    )
    assert len(document["not_asked"]) == 2


def test_a_provider_that_fails_again_and_again_is_left_alone(sandbox, delivered):
    for _ in range(3):
        bought(paid_order())
    sandbox.fault("kinguin.order.get", "5xx_before")
    answers = provider_checks.ask_supplier(Scope())
    assert answers.asked == 3
    assert answers.differences == []
    assert answers.complaints[-1] == (
        "Kinguin failed 3 times in a row, so the check stopped. 1 more were not asked about. Run this again later."
    )


def test_a_provider_that_refuses_our_credentials_is_left_alone(sandbox, delivered, settings):
    settings.KINGUIN_API_KEY = "another key than theirs"
    bought(paid_order())
    answers = provider_checks.ask_supplier(Scope())
    assert answers.asked == 1
    assert answers.complaints[-1].startswith("Kinguin refuses our credentials, so the check stopped;")


def test_a_supplier_without_search_is_asked_about_known_purchases_only(sandbox, shop, settings):
    settings.KINGUIN_API = "orders"
    settings.KINGUIN_BASE_URL = f"{sandbox.url}/kinguin/orders"
    order = make_order(shop)
    paying(order, "finished")
    order.mark_paid(message="Paid.")
    assert provider_checks.ask_supplier(Scope()).asked == 0
    deliver(reservation_of(order))
    answers = provider_checks.ask_supplier(Scope())
    assert (answers.asked, answers.differences, answers.complaints) == (1, [], [])

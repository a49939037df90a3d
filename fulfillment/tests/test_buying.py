"""What leaves and what does not: price, gate, permit and what the supplier answers."""

from decimal import Decimal

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.core.providers import OverBudget, Urgency
from fulfillment import gate, kinguin
from fulfillment.models import Reservation, SupplierGate
from fulfillment.steps import buying
from fulfillment.tests.world import HOUR, age, finish, paid, posts, purchases, run
from orders.models import Alert, Email, Product
from orders.services import Line, place_order

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]


def test_unpaid_order_is_never_bought(product, sandbox):
    order = place_order(email="kim@shop.example", lines=[Line(product.slug, 1)]).order
    item = order.items.get()
    reservation = Reservation.objects.create(item=item, external_id=str(item.pk), dialect="ecommerce")
    run(reservation)
    assert reservation.status == "pending"
    assert posts(sandbox, reservation) == []


def test_order_whose_money_goes_back_is_not_bought(reservation, sandbox):
    reservation.item.order.mark_refund_due(reason="asked", message="The customer asked for it.")
    run(reservation)
    assert reservation.status == "cancelled"
    assert posts(sandbox, reservation) == []


@pytest.mark.parametrize("status", [400, 409, 422])
def test_duplicate_external_id_is_adopted_not_renamed(reservation, sandbox, status):
    sandbox.control("config", {"duplicate_status": status})
    bought = buying._buy(reservation, kinguin.client())
    finish(reservation)
    assert reservation.supplier_order_id == bought.order_id
    assert reservation.permits.get().outcome == "duplicate"
    assert len(purchases(sandbox, reservation)) == 1


def test_purchase_without_room_in_our_budget_waits_and_pauses_nobody(reservation, sandbox, settings, monkeypatch):
    settings.KINGUIN_CALLS_PER_SECOND = 0.001  # four calls, and then none for long
    monkeypatch.setattr(Urgency.FIRST, "patience", 0.0)
    for _ in range(4):
        kinguin.client().find("nothing")
    with pytest.raises(OverBudget):
        kinguin.client().find("nothing")
    for _ in range(6):
        age(reservation, next_attempt_at=Now())
        run(reservation)
    assert [reservation.status, posts(sandbox, reservation), Alert.objects.exists()] == ["pending", [], False]
    assert [gate_row.failures for gate_row in SupplierGate.objects.all()] == [0]
    settings.KINGUIN_CALLS_PER_SECOND = 0
    finish(reservation)
    assert len(purchases(sandbox, reservation)) == 1


def test_supplier_out_of_reach_sends_nothing_and_waits(reservation, settings):
    settings.KINGUIN_BASE_URL = "http://127.0.0.1:9/kinguin/esa/api"
    run(reservation)
    assert (reservation.status, reservation.attempts) == ("pending", 1)
    assert reservation.next_attempt_at > timezone.now()
    for _ in range(gate.FAILURES_TO_PAUSE):
        run(reservation)
    assert SupplierGate.objects.get(host="127.0.0.1:9").status == "paused"
    assert Alert.objects.filter(kind="supplier_down").count() == 1
    assert reservation.permits.count() == 0


def test_paused_gate_opens_by_a_harmless_read(reservation, sandbox):
    client = kinguin.client()
    SupplierGate.objects.create(host=client.host, status="paused", probe_at=Now() - HOUR)
    finish(reservation)
    assert SupplierGate.objects.get().status == "open"


@pytest.mark.parametrize("stopped", ["environment", "row"])
def test_safe_mode_lets_no_purchase_out(reservation, sandbox, settings, stopped):
    if stopped == "environment":
        settings.SAFE_MODE = True
    else:
        gate.stop(kinguin.client().host, reason="by hand")
    run(reservation, 2)
    assert reservation.status == "pending"
    assert posts(sandbox, reservation) == []


def test_gate_closed_between_quote_and_permit_wins(reservation, sandbox, at):
    at("purchase.quoted", lambda: gate.stop(kinguin.client().host, reason="by hand"))
    run(reservation)
    assert reservation.status == "pending"
    assert posts(sandbox, reservation) == []


def test_stop_by_hand_while_the_gate_is_probed_stays(reservation, sandbox, at):
    client = kinguin.client()
    SupplierGate.objects.create(host=client.host, status="paused", probe_at=Now() - HOUR)
    at("gate.probed", lambda: gate.stop(client.host, reason="by hand"))
    run(reservation)
    assert SupplierGate.objects.get().status == "stopped"
    assert (reservation.status, posts(sandbox, reservation)) == ("pending", [])


def test_too_dear_holds_and_buys_by_itself_once_the_price_is_back(reservation, sandbox):
    product = reservation.item.product
    Product.objects.filter(pk=product.pk).update(max_cost=Decimal("1.00"))
    run(reservation)
    order = reservation.item.order
    assert (reservation.status, reservation.reason, order.status) == ("held", "too_expensive", "held")
    assert Email.objects.filter(kind="delayed").count() == 1
    assert "cap" not in order.events.filter(kind="order").last().message
    Product.objects.filter(pk=product.pk).update(max_cost=Decimal("8.50"))
    finish(reservation)
    assert not Alert.objects.filter(status="open").exists()


def test_quote_that_fails_for_a_day_goes_to_a_person(reservation, sandbox):
    age(reservation, created_at=Now() - 25 * HOUR, attempts=10)
    sandbox.fault("kinguin.product", "5xx_before", times=1)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "supplier_unavailable")


def test_first_failure_after_a_day_of_safe_mode_is_no_day_of_failures(reservation, sandbox):
    age(reservation, created_at=Now() - 25 * HOUR)
    sandbox.fault("kinguin.product", "5xx_before", times=1)
    run(reservation)
    assert (reservation.status, reservation.attempts) == ("pending", 1)
    finish(reservation)
    assert reservation.next_attempt_at is None


def test_refused_credentials_hold_and_close_the_gate(reservation, sandbox, settings):
    settings.KINGUIN_API_KEY = "not-the-key-of-this-store"
    Reservation.objects.filter(pk=reservation.pk).update(next_attempt_at=Now())
    run(reservation)
    assert posts(sandbox, reservation) == []
    assert reservation.status in ("pending", "held")
    assert reservation.last_error != ""


def test_margin_below_the_minimum_holds_like_a_price_that_is_too_high(reservation, sandbox):
    Product.objects.update(min_margin=Decimal("3.00"))  # 9.99 - 7.49 leaves 2.50
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "too_expensive")
    Product.objects.update(min_margin=Decimal("2.50"))
    finish(reservation)
    assert reservation.permits.get().price == Decimal("7.49")


def test_low_balance_stops_only_what_it_does_not_cover(product, picture, sandbox):
    dear = Reservation.objects.get(item__order=paid((picture, 1)))
    cheap = Reservation.objects.get(item__order=paid((product, 1)))
    sandbox.control("balance", {"balance": 9})
    run(dear)
    assert (dear.status, dear.reason) == ("held", "no_funds")
    assert SupplierGate.objects.get().status == "open"
    finish(cheap)
    sandbox.control("balance", {"balance": 1000})
    finish(dear)

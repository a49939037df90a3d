"""The pipeline when the supplier answers oddly, and when somebody else is faster than the worker."""

import sys
import uuid
from datetime import timedelta
from decimal import Decimal
from unittest import mock

import pytest
import requests
import responses
from django.db.models.functions import Now
from django.utils import timezone
from urllib3.exceptions import NewConnectionError

from bitloot.core.queue import LeaseLost
from fulfillment import kinguin, pipeline
from fulfillment.models import Reservation, ReservationAttempt, SupplierGate
from fulfillment.services import keys_of
from fulfillment.steps import buying, collecting
from fulfillment.tests.kinguin_wire import recorded
from fulfillment.tests.world import HOUR, age, finish, paid, posts, purchases, run, timeline
from orders.models import Alert, Email, Order, Product
from storage.models import Key

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]


@pytest.fixture
def wire(settings):
    """Answers for single calls; every other call reaches the sandbox."""
    with responses.RequestsMock() as answers:
        answers.add_passthru(settings.KINGUIN_BASE_URL)
        yield answers


@pytest.fixture
def manual(sandbox):
    """The supplier hands keys over when the test says so."""
    sandbox.control("config", {"deliver": "manual"})


@pytest.fixture
def stock(sandbox, product):
    """Set what the supplier has of the product; there is plenty again after the test."""

    def have(**counts):
        sandbox.control(f"products/{product.supplier_product_id}", counts)

    yield have
    have(qty=50000, textQty=50000)


@pytest.fixture
def careless(sandbox):
    """A supplier that sells twice under one external id."""
    sandbox.control("config", {"enforce_external_id": False})
    yield
    sandbox.control("config", {"enforce_external_id": True})


def claim(reservation):
    [claimed] = Reservation.objects.all().claim(only=reservation.pk)
    return claimed


def money_goes_back():
    Order.objects.get().mark_refund_due(reason="asked", message="The customer asked for it.")


def told():
    return list(Alert.objects.filter(kind="reservation", status="open").values_list("message", flat=True))


def problems(order):
    return Email.objects.filter(order=order, kind="delayed").count()


def order_url(settings, reservation=None):
    suffix = f"/{reservation.supplier_order_id}/keys" if reservation else ""
    return f"{settings.KINGUIN_BASE_URL}/v2/order{suffix}"


def key_row(number, **fields):
    row = {"id": f"6a2{number:021}", "serial": f"AAAA-{number}", "type": "text/plain"}
    return row | {"productId": "64b000000000000000000001", **fields}


# --- giving up


def test_giving_up_in_mid_send_leaves_a_question_and_no_purchase(reservation, sandbox):
    reservation.item.order.mark_fulfilling()
    ReservationAttempt.objects.create(reservation=reservation, number=1)
    age(reservation, status="sending", sent_at=Now())
    pipeline.give_up(claim(reservation))
    reservation.refresh_from_db()
    assert (reservation.status, reservation.reason, reservation.unknown_at is None) == ("held", "poison", False)
    assert reservation.permits.get().outcome == "unknown"
    assert posts(sandbox, reservation) == []


def test_purchase_whose_worker_was_killed_again_and_again_is_found_without_a_person(reservation, sandbox, at):
    at("purchase.answered", sys.exit)
    with pytest.raises(SystemExit):
        pipeline.advance_claimed(claim(reservation))
    age(reservation, claim_token=None, crashes=3, next_attempt_at=Now())
    pipeline.give_up(claim(reservation))
    reservation.refresh_from_db()
    assert (reservation.status, reservation.reason) == ("held", "poison")
    assert timezone.now() < reservation.next_attempt_at < timezone.now() + HOUR
    finish(reservation)  # at the first look the sandbox may not have delivered yet
    assert (reservation.status, reservation.supplier_order_id is None) == ("delivered", False)
    assert len(posts(sandbox, reservation)) == 1


def test_giving_up_what_is_delivered_only_ends_the_claim(reservation):
    finish(reservation)
    age(reservation, next_attempt_at=Now() - HOUR)
    pipeline.give_up(claim(reservation))
    reservation.refresh_from_db()
    assert (reservation.status, reservation.claim_token, reservation.next_attempt_at) == ("delivered", None, None)
    assert told() == []


# --- somebody is faster


def test_claim_that_was_lost_before_the_first_step_does_nothing(reservation, sandbox):
    claimed = claim(reservation)
    age(reservation, claim_token=uuid.uuid4())
    with pytest.raises(LeaseLost):
        pipeline.advance_claimed(claimed)
    reservation.refresh_from_db()
    assert (reservation.status, posts(sandbox, reservation)) == ("pending", [])


def test_claim_that_is_lost_before_the_permit_sends_nothing(reservation, sandbox, at):
    at("purchase.quoted", lambda: age(reservation, claim_token=uuid.uuid4()))
    with pytest.raises(LeaseLost):
        pipeline.advance(reservation.pk)
    reservation.refresh_from_db()
    assert (reservation.status, reservation.permits.count(), posts(sandbox, reservation)) == ("pending", 0, [])


def test_money_that_goes_back_between_quote_and_permit_stops_the_purchase(reservation, sandbox, at):
    at("purchase.quoted", money_goes_back)
    run(reservation)
    assert (reservation.status, reservation.permits.count()) == ("pending", 0)
    run(reservation)
    assert (reservation.status, posts(sandbox, reservation)) == ("cancelled", [])


def test_money_that_goes_back_while_the_keys_come_leaves_the_order_where_it_is(reservation, manual, sandbox, at):
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {})
    at("keys.fetched", money_goes_back)
    run(reservation, times=2)
    assert (reservation.status, reservation.reason) == ("held", "bought_but_refunded")
    assert reservation.item.order.status == "refund_due"
    assert not Key.objects.exists()
    assert not Email.objects.filter(kind="key_ready").exists()


def test_money_is_owed_back_once_when_the_supplier_cancels_as_well(reservation, manual, sandbox, at):
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/cancel", {})
    at("call.answered", money_goes_back)
    run(reservation)
    order = reservation.item.order
    assert (reservation.status, order.status, order.reason) == ("cancelled", "refund_due", "asked")
    assert timeline(order).count(("order", "refund_due")) == 1
    assert problems(order) == 0


# --- held


@pytest.mark.parametrize("already_held", [False, True])
def test_two_purchases_under_one_name_are_adopted_by_nobody(reservation, sandbox, careless, already_held):
    sandbox.fault("kinguin.order.create", "5xx_before", times=1)
    run(reservation)
    if already_held:
        age(reservation, unknown_at=Now() - 25 * HOUR)
        assert run(reservation).reason == "unknown_purchase"
    for _ in range(2):
        buying._buy(reservation, kinguin.client())
    run(reservation)
    assert (reservation.status, reservation.supplier_order_id) == ("held", None)
    assert reservation.reason == ("unknown_purchase" if already_held else "double_purchase")
    [alert] = told()
    assert alert.startswith("[double_purchase] The supplier has several orders for it")
    assert timeline(reservation.item.order).count(("reservation", "held")) == 1
    assert problems(reservation.item.order) == 1


def test_held_purchase_of_an_order_whose_money_goes_back_is_cancelled(reservation, sandbox):
    Product.objects.update(max_cost=Decimal("1.00"))
    assert run(reservation).reason == "too_expensive"
    money_goes_back()
    run(reservation)
    assert (reservation.status, reservation.next_attempt_at) == ("cancelled", None)
    assert posts(sandbox, reservation) == []


def test_bought_and_held_stays_with_a_person_when_the_money_goes_back(reservation, sandbox):
    sandbox.control("config", {"deliver": "never"})
    run(reservation)
    age(reservation, reserved_at=Now() - 25 * HOUR, polls=collecting.FAST_POLLS)
    assert run(reservation).reason == "no_keys"
    money_goes_back()
    run(reservation)
    assert (reservation.status, reservation.next_attempt_at) == ("held", None)


def test_order_that_staff_let_go_on_is_not_started_twice(reservation):
    Product.objects.update(max_cost=Decimal("1.00"))
    order = run(reservation).item.order
    assert order.status == "held"
    order.mark_fulfilling()
    Product.objects.update(max_cost=Decimal("8.50"))
    finish(reservation)
    assert reservation.item.order.status == "fulfilled"
    assert timeline(order).count(("order", "fulfilling")) == 1


def test_stock_for_a_part_of_the_order_is_not_enough(product, sandbox, stock):
    stock(qty=50, textQty=1)
    reservation = run(Reservation.objects.get(item__order=paid((product, 2))))
    assert (reservation.status, reservation.reason) == ("held", "out_of_stock")
    assert reservation.last_error == "The supplier has 1 of “Ember Drift”, 2 are needed."
    assert posts(sandbox, reservation) == []


# --- the purchase


def test_purchase_that_never_left_is_sent_again_under_a_new_permit(reservation, sandbox, wire, settings):
    refused = requests.ConnectionError(NewConnectionError(mock.Mock(), "refused"))
    wire.post(order_url(settings), body=refused)
    run(reservation)
    assert (reservation.status, reservation.attempts, reservation.permits.get().outcome) == ("pending", 1, "not_sent")
    assert SupplierGate.objects.get().failures == 1
    wire.remove("POST", order_url(settings))
    finish(reservation)
    assert list(reservation.permits.values_list("number", "outcome").order_by("number")) == [
        (1, "not_sent"),
        (2, "placed"),
    ]
    assert len(posts(sandbox, reservation)) == len(purchases(sandbox, reservation)) == 1
    assert SupplierGate.objects.get().failures == 0


def test_credentials_refused_at_the_purchase_close_the_gate_until_they_are_right(reservation, sandbox, wire, settings):
    wire.post(order_url(settings), status=401, json=recorded("error_authorization_401"))
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "supplier_config")
    assert reservation.permits.get().outcome == "refused"
    gate = SupplierGate.objects.get()
    assert (gate.status, gate.reason) == ("paused", "credentials")
    wire.remove("POST", order_url(settings))
    SupplierGate.objects.update(probe_at=Now() - HOUR)
    finish(reservation)
    assert (SupplierGate.objects.get().status, len(purchases(sandbox, reservation))) == ("open", 1)


def test_giving_that_fails_is_repeated_and_bought_once(product, sandbox, settings):
    settings.KINGUIN_API = "reservations"
    settings.KINGUIN_BASE_URL = settings.KINGUIN_BASE_URL.replace("esa/api", "reservations")
    reservation = Reservation.objects.get(item__order=paid((product, 1)))
    sandbox.fault("kinguin.reservation.give", "5xx_before", times=1)
    run(reservation)
    assert (reservation.status, reservation.attempts) == ("reserved", 1)
    assert reservation.last_error == "kinguin answered 500"
    finish(reservation)
    assert len([row for row in sandbox.sold() if row["order_id"] == reservation.supplier_order_id]) == 1


# --- the keys


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"serial": ["A"]}, "neither a text"), ({"productId": "64b000000000000000000002"}, "other product")],
)
def test_key_that_cannot_be_used_is_left_out_and_told(product, manual, wire, settings, fields, says):
    reservation = run(Reservation.objects.get(item__order=paid((product, 2))))
    wire.get(order_url(settings, reservation), json=[key_row(1), key_row(2, **fields)])
    run(reservation)
    assert (reservation.status, reservation.item.order.status) == ("given", "partially_fulfilled")
    assert Key.objects.get().supplier_key_id == f"ecommerce:{key_row(1)['id']}"
    [alert] = told()
    assert alert.startswith(f"[unreadable_key] A key of {reservation} cannot be used: ")
    assert says in alert


def test_key_too_many_is_told_and_not_kept(reservation, manual, wire, settings):
    run(reservation)
    wire.get(order_url(settings, reservation), json=[key_row(1), key_row(2)])
    run(reservation)
    assert (reservation.status, Key.objects.get().supplier_key_id) == ("delivered", f"ecommerce:{key_row(1)['id']}")
    assert told() == [f"[surplus] The supplier sent 1 more keys than {reservation} needs."]


def test_keys_that_are_listed_one_after_the_other_deliver_it(product, manual, wire, settings):
    """Fails if only those of the newest list count: the customer has both keys and would wait for a day."""
    reservation = Reservation.objects.get(item__order=paid((product, 2)))
    run(reservation)
    for number in (1, 2):
        wire.get(order_url(settings, reservation), json=[key_row(number)])
    run(reservation, 2)
    assert (reservation.status, reservation.item.order.status, Key.objects.count()) == ("delivered", "fulfilled", 2)


def test_keys_that_are_seen_again_are_kept_once(product, manual, sandbox):
    reservation = run(Reservation.objects.get(item__order=paid((product, 2))))
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {"count": 1})
    run(reservation, 3)
    assert (reservation.status, Key.objects.count()) == ("given", 1)
    assert timeline(reservation.item.order).count(("order", "partially_fulfilled")) == 1


def test_look_that_fails_counts_as_a_try_and_not_as_a_poll(reservation, manual, sandbox):
    run(reservation)
    age(reservation, polls=0)
    sandbox.fault("kinguin.order.get", "5xx_before", times=1)
    run(reservation)
    assert (reservation.status, reservation.attempts, reservation.polls) == ("given", 1, 0)
    run(reservation)
    assert (reservation.attempts, reservation.polls) == (1, 1)


def test_supplier_that_cancels_after_some_keys_came_is_for_a_person(product, manual, sandbox):
    reservation = run(Reservation.objects.get(item__order=paid((product, 2))))
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {"count": 1})
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/cancel", {})
    run(reservation)
    order = reservation.item.order
    assert (reservation.status, reservation.reason, order.status) == ("held", "partly_cancelled", "held")
    assert len(keys_of(order)) == 1


def test_held_order_that_has_keys_stays_held_for_its_first_reason(product, picture, manual, sandbox):
    order = paid((product, 1), (picture, 1))
    sandbox.control("config", {"deliver": "auto"})
    finish(Reservation.objects.get(item__order=order, item__product=product))
    sandbox.control("config", {"deliver": "manual"})
    cancelled = run(Reservation.objects.get(item__order=order, item__product=picture))
    order.hold(reason="held_by_staff", message="Held.")
    sandbox.control(f"orders/{cancelled.supplier_order_id}/cancel", {})
    run(cancelled)
    order.refresh_from_db()
    assert (cancelled.status, order.status, order.reason) == ("cancelled", "held", "held_by_staff")
    assert problems(order) == 0
    assert told()[0].startswith("[supplier_cancelled]")


# --- keys that go back


def paid_back(sandbox, reservation):
    lines = [line for line in sandbox.ledger("refunded") if line["external_id"] == reservation.external_id]
    return [Decimal(line["amount"]) for line in lines]


def test_keys_that_cannot_be_returned_are_for_a_person(reservation, manual, sandbox):
    run(reservation)
    money_goes_back()
    sandbox.fault("kinguin.order.return", "5xx_before", times=1)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "bought_but_refunded")
    assert reservation.last_error == "Bought, but its money goes back; no return: kinguin answered 500"
    assert paid_back(sandbox, reservation) == []


def test_keys_of_which_only_a_part_is_taken_back_are_for_a_person(product, manual, sandbox):
    reservation = run(Reservation.objects.get(item__order=paid((product, 2))))
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {"count": 1})
    money_goes_back()
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "bought_but_refunded")
    assert paid_back(sandbox, reservation) == [Decimal("7.49")]


def test_reservation_opened_long_ago_waits_for_a_supplier_that_is_away_only_a_day(reservation, settings):
    settings.KINGUIN_BASE_URL = "http://127.0.0.1:9/kinguin/esa/api"
    age(reservation, created_at=Now() - timedelta(hours=25), attempts=10)
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "supplier_unavailable")

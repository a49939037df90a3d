import uuid
from itertools import product

import pytest
from django.db import IntegrityError, transaction

from bitloot.core.queue import LeaseLost
from fulfillment.models import Reservation, SupplierGate
from orders.exceptions import InvalidTransition
from orders.tests.factories import make_paid_order
from storage.tests.factories import make_key

pytestmark = pytest.mark.django_db
STATUSES = Reservation.Status.values
ALLOWED = [(now, str(to)) for now in STATUSES for to in sorted(Reservation.TRANSITIONS[now])]
FORBIDDEN = [pair for pair in product(STATUSES, STATUSES) if pair not in ALLOWED and pair[0] != pair[1]]


def reservation_in(status, **fields):
    reservation = Reservation.objects.get(item__order=make_paid_order())
    Reservation.objects.filter(pk=reservation.pk).update(status=status, **fields)
    reservation.refresh_from_db()
    return reservation


def events(reservation):
    rows = reservation.item.order.events.filter(kind="reservation")
    return list(rows.values_list("from_status", "to_status", "message", "actor"))


def test_what_may_have_been_bought_never_looks_unbought():
    for status in ("sending", "unknown", "reserved", "given", "delivered"):
        allowed = Reservation.TRANSITIONS[status]
        assert "pending" not in allowed or status == "sending", status  # a send that provably never left
    assert Reservation.TRANSITIONS["unknown"] == {"reserved", "held"}
    assert Reservation.TRANSITIONS["delivered"] == frozenset()


@pytest.mark.parametrize(("now", "to"), ALLOWED)
def test_each_allowed_change_is_recorded_by_the_holder_of_the_claim(now, to):
    token = uuid.uuid4()
    reservation = reservation_in(now, claim_token=token)
    reservation.record(to, message="m" * 400, polls=7)
    assert (reservation.status, reservation.polls) == (to, 7)
    reservation.refresh_from_db()
    assert (reservation.status, reservation.polls, reservation.claim_token) == (to, 7, token)
    assert events(reservation) == [(now, to, "m" * 300, "")]


@pytest.mark.once
@pytest.mark.parametrize(("now", "to"), [*FORBIDDEN, *zip(STATUSES, STATUSES, strict=True)])
def test_each_other_change_is_refused_to_the_holder_of_the_claim(now, to):
    reservation = reservation_in(now, claim_token=uuid.uuid4())
    with pytest.raises(InvalidTransition, match=f"{now} -> {to}"):
        reservation.record(to, message="No.")
    reservation.refresh_from_db()
    assert (reservation.status, events(reservation)) == (now, [])


def test_nothing_is_recorded_once_somebody_else_has_the_claim():
    reservation = reservation_in("pending", claim_token=uuid.uuid4())
    Reservation.objects.filter(pk=reservation.pk).update(claim_token=uuid.uuid4())
    with pytest.raises(LeaseLost):
        reservation.record("cancelled", message="Too late.")
    assert reservation.status == "pending"
    reservation.refresh_from_db()
    assert (reservation.status, events(reservation)) == ("pending", [])


def test_nothing_is_recorded_once_staff_moved_the_row():
    reservation = reservation_in("pending", claim_token=uuid.uuid4())
    Reservation.objects.get(pk=reservation.pk).move("held", message="Stop.", actor="kim")
    with pytest.raises(LeaseLost):
        reservation.record("cancelled", message="Too late.")
    reservation.refresh_from_db()
    assert (reservation.status, events(reservation)) == ("held", [("pending", "held", "Stop.", "kim")])


def test_nothing_is_recorded_without_a_claim():
    reservation = reservation_in("pending")
    with pytest.raises(LeaseLost):
        reservation.record("cancelled", message="Nobody may.")
    assert events(reservation) == []


def test_a_purchase_is_sent_only_while_the_gate_is_open():
    """Fails without `only_if`: a stop that comes between a look at the gate and the move would be passed over."""
    reservation = reservation_in("pending", claim_token=uuid.uuid4())
    gate = SupplierGate.objects.create(host="kinguin.example", status="stopped")
    assert reservation.begin_sending(message="Buying.", host=gate.host) is False
    assert (reservation.status, reservation.sent_at, events(reservation)) == ("pending", None, [])
    SupplierGate.objects.filter(pk=gate.pk).open()
    assert reservation.begin_sending(message="Buying.", host=gate.host) is True
    assert events(reservation) == [("pending", "sending", "Buying.", "")]


@pytest.mark.parametrize(("now", "to"), [pair for pair in ALLOWED if pair[0] != "sending"])
def test_each_allowed_move_ends_the_claim(now, to):
    reservation = reservation_in(now, claim_token=uuid.uuid4(), claimed_until="2999-01-01T00:00:00Z")
    assert reservation.move(to, message="Moved.", actor="kim", reason="r") is True
    assert (reservation.status, reservation.reason) == (to, "r")
    assert (reservation.claim_token, reservation.claimed_until) == (None, None)
    assert events(reservation) == [(now, to, "Moved.", "kim")]


@pytest.mark.once
@pytest.mark.parametrize(("now", "to"), [*FORBIDDEN, *(pair for pair in ALLOWED if pair[0] == "sending")])
def test_each_other_move_is_refused(now, to):
    reservation = reservation_in(now)
    with pytest.raises(InvalidTransition, match=f"{now} -> {to}"):
        reservation.move(to, message="No.")
    reservation.refresh_from_db()
    assert (reservation.status, events(reservation)) == (now, [])


@pytest.mark.parametrize("status", STATUSES)
def test_a_move_that_is_repeated_changes_nothing(status):
    token = uuid.uuid4()
    reservation = reservation_in(status, claim_token=token)
    assert reservation.move(status, message="Again.", reason="r") is False
    reservation.refresh_from_db()
    assert (reservation.status, reservation.reason, reservation.claim_token, events(reservation)) == (
        status,
        "",
        token,
        [],
    )


def test_item_is_bought_once_and_so_is_the_replacement_of_each_key():
    item = make_paid_order().items.get()
    key = make_key(item)
    first = {"item": item, "external_id": str(key.pk), "dialect": "ecommerce", "replaces": key}
    Reservation.objects.create(**first)
    for again in (
        {**first, "external_id": "another"},
        {**first, "replaces": None},
        {**first, "replaces": None, "external_id": "x"},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Reservation.objects.create(**again)
    assert Reservation.objects.filter(item=item).count() == 2

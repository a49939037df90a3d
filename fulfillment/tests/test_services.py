"""What webhooks and staff ask of fulfilment; the same story told in each of the three dialects."""

import uuid
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from bitloot.core.decisions import DecisionRefused
from bitloot.core.outcome import Outcome, OutcomeKind
from fulfillment import by_hand, kinguin, pipeline, services
from fulfillment.by_hand import Code
from fulfillment.exceptions import CodesRefused, KeysGone, NotDeliverable, NothingStored, PermitOpen
from fulfillment.kinguin import SupplierEvent
from fulfillment.models import Reservation
from fulfillment.tests.world import age, finish, paid, posts, run
from orders.exceptions import InvalidTransition
from orders.models import Alert, Order
from orders.services import Line, place_order
from storage.models import Key
from storage.services import shred
from tools.dev.supervise import wait_until

NOTHING_NEW = Outcome.processed("nothing new: it is delivered")
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]


def event(reservation, **changes):
    claims = {"kind": "order", "event_type": "order.status", "external_id": reservation.external_id}
    return SupplierEvent(**(claims | changes))


def is_due(reservation):
    return Reservation.objects.due().filter(pk=reservation.pk).exists()


@pytest.mark.parametrize("kind", ["product", "ping", "unknown"])
def test_events_about_no_order_are_ignored(reservation, kind):
    assert services.handle_supplier_event(event(reservation, kind=kind)) == Outcome.ignored(kind)


def test_event_without_a_name_of_ours_is_ignored(reservation):
    age(reservation, next_attempt_at=None)
    for claims in ({"external_id": ""}, {"external_id": "nobody"}, {"external_id": "", "order_id": "NOBODY1"}):
        assert services.handle_supplier_event(event(reservation, **claims)).kind is OutcomeKind.IGNORED
    assert not is_due(reservation)


@pytest.mark.parametrize("status", ["completed", "canceled", "refunded", "hacked", ""])
def test_event_only_brings_the_next_look_forward(reservation, status):
    age(reservation, next_attempt_at=Now() + timedelta(hours=1))
    services.handle_supplier_event(event(reservation, status=status))
    reservation.refresh_from_db()
    assert (reservation.status, is_due(reservation)) == ("pending", True)


def test_event_that_names_another_supplier_order_raises_the_double_purchase_alarm(reservation):
    finish(reservation)
    services.handle_supplier_event(event(reservation, order_id="OTHERORDER1"))
    assert Alert.objects.filter(kind="double_purchase").count() == 1


def test_refund_by_the_supplier_after_delivery_alerts_and_changes_nothing(reservation):
    finish(reservation)
    services.handle_supplier_event(event(reservation, status="refunded"))
    reservation.refresh_from_db()
    assert reservation.status == "delivered"
    assert Alert.objects.get().kind == "supplier_after_delivery"
    assert services.handle_supplier_event(event(reservation, status="completed")) == NOTHING_NEW


def test_webhook_that_names_our_external_id_adopts_an_unknown_purchase(reservation, sandbox):
    sandbox.fault("kinguin.order.create", "5xx_after", times=1)
    run(reservation)
    assert reservation.status == "unknown"
    services.handle_supplier_event(event(reservation, status="processing"))
    assert is_due(reservation)
    finish(reservation)


def test_codes_typed_by_staff_are_sealed_and_finish_the_order(reservation, sandbox):
    order = reservation.item.order
    by_hand.deliver_by_hand(
        order=order, codes=[Code(str(reservation.item_id), " AAAA-BBBB ")], reason="bought elsewhere", actor="kim"
    )
    reservation.refresh_from_db()
    order.refresh_from_db()
    assert (reservation.status, reservation.manual, order.status) == ("delivered", True, "fulfilled")
    assert reservation.next_attempt_at is None
    assert Key.objects.get().supplier_key_id.startswith("manual:")
    assert order.events.get(kind="reservation").actor == "kim"
    run(reservation, 2)
    assert posts(sandbox, reservation) == []


def test_no_codes_deliver_nothing(reservation):
    by_hand.deliver_by_hand(order=reservation.item.order, codes=[], reason="r", actor="kim")
    reservation.refresh_from_db()
    reservation.item.order.refresh_from_db()
    assert (reservation.status, reservation.item.order.status) == ("pending", "paid")


def test_purchase_that_appears_after_codes_were_typed_is_surplus(reservation):
    order = reservation.item.order
    by_hand.deliver_by_hand(order=order, codes=[Code(str(reservation.item_id), "AAAA")], reason="r", actor="kim")
    assert services.handle_supplier_event(event(reservation, order_id="LATEORDER01")) == NOTHING_NEW
    alert = Alert.objects.get()
    assert (alert.kind, alert.order, alert.about_pk) == ("surplus", order, str(reservation.pk))
    assert "LATEORDER01" in alert.message


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        ([("item", "")], "empty"),
        ([("item", "x" * (64 * 1024 + 1))], "longer"),
        ([("item", "A"), ("item", "A")], "twice"),
        ([("00000000-0000-0000-0000-000000000000", "A")], "do not belong"),
        ([("item", "A"), ("item", "B")], "needs 1 codes"),
    ],
)
def test_codes_that_do_not_fit_are_refused_whole(reservation, codes, says):
    typed = [Code(str(reservation.item_id) if item == "item" else item, serial) for item, serial in codes]
    with pytest.raises(CodesRefused, match=says):
        by_hand.deliver_by_hand(order=reservation.item.order, codes=typed, reason="r", actor="kim")
    assert not Key.objects.exists()


@pytest.mark.parametrize("fault", ["5xx_before", "5xx_after"])
def test_codes_are_refused_while_a_purchase_may_exist(reservation, sandbox, fault):
    sandbox.fault("kinguin.order.create", fault, times=1)
    run(reservation)
    typed = [Code(str(reservation.item_id), "AAAA")]
    with pytest.raises(PermitOpen):
        by_hand.deliver_by_hand(order=reservation.item.order, codes=typed, reason="r", actor="kim")
    age(reservation, unknown_at=Now() - timedelta(hours=25))
    if fault == "5xx_before":
        assert run(reservation).status == "held"
        with pytest.raises(PermitOpen):  # held, but nobody knows yet
            by_hand.deliver_by_hand(order=reservation.item.order, codes=typed, reason="r", actor="kim")
    assert not Key.objects.filter(supplier_key_id__startswith="manual:").exists()


def test_codes_for_a_delivered_or_unpaid_order_are_refused(reservation, product):
    finish(reservation)
    order = reservation.item.order
    with pytest.raises(NotDeliverable):
        by_hand.deliver_by_hand(order=order, codes=[], reason="r", actor="kim")
    unpaid = place_order(email="kim@shop.example", lines=[Line(product.slug, 1)]).order
    for act in (
        lambda: by_hand.deliver_by_hand(order=unpaid, codes=[], reason="r", actor="kim"),
        lambda: services.run_order(unpaid, actor="kim"),
    ):
        with pytest.raises(NotDeliverable):
            act()


def test_codes_may_take_the_place_of_a_cancelled_purchase(reservation, sandbox):
    reservation.move("held", message="Held.", reason="refused")
    reservation.move("cancelled", message="Cancelled.")
    typed = [Code(str(reservation.item_id), "AAAA")]
    by_hand.deliver_by_hand(order=reservation.item.order, codes=typed, reason="r", actor="kim")
    reservation.refresh_from_db()
    assert reservation.status == "delivered"


def test_run_order_looks_at_every_open_item(reservation):
    age(reservation, next_attempt_at=None)
    services.run_order(reservation.item.order, actor="kim")
    assert is_due(reservation)
    assert reservation.item.order.events.last().actor == "kim"


def test_held_reservation_goes_on_when_a_person_says_so(reservation, sandbox):
    reservation.move("held", message="Held.", reason="refused")
    order = reservation.item.order
    order.mark_fulfilling()
    order.hold(reason="refused", message="Held.")
    services.resume(Reservation.objects.get(pk=reservation.pk), actor="kim")
    finish(reservation)
    assert Order.objects.get(pk=order.pk).status == "fulfilled"


def test_what_is_being_sent_by_now_is_not_let_go_on(reservation):
    reservation.move("held", message="Held.", reason="refused")
    seen_by_staff = Reservation.objects.get(pk=reservation.pk)
    age(reservation, status="sending", claim_token=uuid.uuid4())
    with pytest.raises(DecisionRefused, match="It is not held"):
        services.resume(seen_by_staff, actor="kim")
    reservation.refresh_from_db()
    assert (reservation.status, reservation.claim_token is None) == ("sending", False)
    with pytest.raises(InvalidTransition):
        reservation.move("pending", message="Nothing was sent, somebody thinks.")


def test_held_reservation_with_an_open_question_is_only_asked_about(reservation, sandbox):
    sandbox.fault("kinguin.order.create", "5xx_before", times=1)
    run(reservation)
    age(reservation, unknown_at=Now() - timedelta(hours=25))
    run(reservation)
    with pytest.raises(DecisionRefused, match="Something may have been bought"):
        services.resume(reservation, actor="kim")
    services.search(reservation, actor="kim")
    run(reservation, 2)
    assert reservation.status == "held"
    assert len(posts(sandbox, reservation)) == 1


def test_keys_of_an_order_are_there_not_yet_or_gone(reservation):
    order = reservation.item.order
    with pytest.raises(NothingStored):
        services.keys_of(order)
    finish(reservation)
    [key] = services.keys_of(Order.objects.get(pk=order.pk))
    shred(key, reason="asked")
    with pytest.raises(KeysGone):
        services.keys_of(Order.objects.get(pk=order.pk))
    refunded = Order(status="refunded")
    with pytest.raises(KeysGone):
        services.keys_of(refunded)


@pytest.fixture(params=["ecommerce", "reservations", "orders"])
def dialect(request, settings, sandbox):
    """Each dialect of the supplier in turn, as KINGUIN_API and KINGUIN_BASE_URL would choose it."""
    root = settings.KINGUIN_BASE_URL.partition("/kinguin/")[0]
    paths = {"ecommerce": "esa/api", "reservations": "reservations", "orders": "orders"}
    settings.KINGUIN_API = request.param
    settings.KINGUIN_BASE_URL = f"{root}/kinguin/{paths[request.param]}"
    return kinguin.client()


def sold_for(sandbox, reservation):
    return [row for row in sandbox.sold() if row["order_id"] == reservation.supplier_order_id]


def test_every_dialect_buys_once_and_delivers(dialect, product, sandbox):
    reservation = Reservation.objects.get(item__order=paid((product, 2)))
    finish(reservation)
    assert reservation.dialect == dialect.dialect
    assert Key.objects.filter(item=reservation.item).count() == 2
    assert len(sold_for(sandbox, reservation)) == 2
    assert Order.objects.get().status == "fulfilled"


def test_every_dialect_treats_a_lost_answer_as_unknown(dialect, product, sandbox):
    reservation = Reservation.objects.get(item__order=paid((product, 1)))
    operation = "kinguin.reservation.create" if dialect.dialect == "reservations" else "kinguin.order.create"
    before = len(sandbox.ledger("order_received"))
    sandbox.fault(operation, "5xx_after", times=1)
    run(reservation)
    assert reservation.status == "unknown"
    run(reservation, 3)
    if dialect.can_find:
        finish(reservation)
    else:
        assert (reservation.status, reservation.reason) == ("held", "unknown_purchase")
        assert reservation.item.order.status == "held"
    assert len(sandbox.ledger("order_received")) == before + 1


def test_every_dialect_notices_that_the_supplier_cancelled(dialect, product, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    reservation = Reservation.objects.get(item__order=paid((product, 1)))
    run(reservation)
    sandbox.control(f"orders/{reservation.supplier_order_id}/cancel", {})
    wait_until(lambda: run(reservation).status == "cancelled", seconds=60, what="the end of the reservation")
    assert (reservation.status, reservation.item.order.status) == ("cancelled", "refund_due")


def test_reservation_of_another_dialect_is_left_to_a_person(reservation, settings):
    age(reservation, dialect="orders")
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "other_dialect")


def test_held_reservation_of_another_dialect_is_not_bought_in_this_one(reservation, sandbox):
    reservation.move("held", message="Held.", reason="out_of_stock", dialect="orders")
    run(reservation)
    assert (reservation.status, posts(sandbox, reservation)) == ("held", [])
    age(reservation, dialect="ecommerce")
    finish(reservation)


def test_unknown_purchase_that_nobody_can_search_for_is_never_called_not_bought(reservation, settings):
    order = reservation.item.order
    reservation.move("held", message="Held.", reason="unknown_purchase", unknown_at=Now(), dialect="orders")
    settings.KINGUIN_API = "orders"
    order.mark_refund_due(reason="asked", message="The customer asked for it.")
    run(reservation)
    assert (reservation.status, reservation.reason) == ("held", "unknown_purchase")


def test_send_that_a_change_of_dialect_interrupts_is_never_repeated(reservation, sandbox):
    dead = {"claim_token": uuid.uuid4(), "claimed_until": Now(), "next_attempt_at": Now()}
    age(reservation, status="sending", dialect="orders", **dead)
    [claimed] = Reservation.objects.all().claim(only=reservation.pk)
    pipeline.advance_claimed(claimed)
    reservation.refresh_from_db()
    assert (reservation.status, reservation.reason) == ("held", "other_dialect")
    age(reservation, dialect="ecommerce")
    services.search(reservation, actor="kim")
    run(reservation, 2)
    assert (reservation.status, posts(sandbox, reservation)) == ("held", [])

"""Refunds on their way: which coins were sent where, and when an order is refunded."""

from datetime import timedelta

import pytest
from django.utils import timezone

from bitloot.core.decisions import DecisionRefused
from orders.models import Alert
from orders.tests.factories import make_order, timeline
from payments import refunds
from payments.models import Payment, Refund, RefundAddress
from payments.tests.decisions import HALF, TXID, WHY, give, money_in, now, refund_of, refused, send, story
from payments.tests.factories import ADDRESS, make_payment

pytestmark = pytest.mark.django_db
SENT_TWICE = "Another transaction id was entered already. Were the coins sent twice?"


# --- sent and done


@pytest.fixture
def addressed():
    refund = refund_of(money_in())
    return give(refund)


@pytest.mark.parametrize("transaction_id", ["", "12345", "with space", "x" * 201, "ümläut"])
def test_sent_needs_a_transaction_id(addressed, transaction_id):
    with pytest.raises(DecisionRefused, match="transaction id"):
        send(addressed, transaction_id)
    assert now(addressed) == "requested"


def test_sent_needs_an_address():
    refund = refund_of(money_in())
    with refused("The customer has not given an address yet."):
        send(refund, TXID)


def test_sent_begins_with_the_address_that_the_page_shows(addressed):
    assert refunds.MARK_SENT.initial(addressed) == {"destination": addressed.destination_id}


def test_an_address_that_rests_is_not_paid(addressed):
    until = timezone.now() + timedelta(minutes=1)
    RefundAddress.objects.update(rests_until=until)
    with refused(
        f"The address was changed, so it rests until {until:%d %B, %H:%M} UTC: the customer was told and can object"
        " until then."
    ):
        send(addressed)
    RefundAddress.objects.update(rests_until=timezone.now())
    send(addressed)
    assert now(addressed) == "sent"


def test_two_who_sent_the_same_refund_are_told(addressed):
    send(addressed, TXID)
    send(addressed, f" {TXID} ")
    with refused(SENT_TWICE):
        send(addressed, TXID[:-1] + "3", actor="bob")
    with refused(SENT_TWICE):
        refunds.mark_sent(addressed, actor="bob", transaction_id=TXID, destination=addressed.destination_id + 1)
    addressed.refresh_from_db()
    assert (addressed.status, addressed.transaction_id, addressed.sent_at is None) == ("sent", TXID, False)
    assert timeline(addressed.order).count(("refund", "requested", "sent")) == 1
    assert story(addressed.order)[-1] == ("refund", "The refund was sent.", "ada")


def test_done_before_sent_is_refused(addressed):
    with refused("The refund is “requested”; it cannot become “done” now."):
        refunds.mark_done(addressed, actor="ada")
    assert now(addressed) == "requested"


def test_the_order_is_refunded_with_its_last_refund():
    order = make_order(status="held")
    payments = [make_payment(order, **HALF), money_in(order)]
    refund_of(payments[0])
    for refund in order.refunds.all():
        assert now(order) == "refund_due"
        give(refund)
        send(refund, f"{TXID}{refund.pk}")
        refunds.mark_done(refund, actor="ada")
        with refused("The refund is “done”; it cannot become “done” now."):
            refunds.mark_done(refund, actor="ada")
    assert (now(order), [now(payment) for payment in payments]) == ("refunded", ["refunded", "refunded"])
    assert set(order.refunds.values_list("status", flat=True)) == {"done"}
    assert not order.refunds.filter(done_at=None).exists()
    assert story(order)[-3:] == [
        ("refund", "The refund has arrived.", "ada"),
        ("payment", "The money of this payment went back.", "ada"),
        ("order", "Your money was sent back.", "ada"),
    ]
    assert not Alert.objects.filter(status="open").exists()


def test_a_refund_that_is_done_closes_the_alert_to_send_it(addressed):
    send(addressed)
    refunds.mark_done(addressed, actor="bob")
    assert Alert.objects.get(kind="refund_to_send").closed_by == "bob"


def test_a_refund_without_a_payment_or_of_an_odd_one_is_done_all_the_same(addressed):
    Payment.objects.filter(pk=addressed.payment_id).update(status="waiting")
    by_hand = Refund.objects.create(order=addressed.order, amount=1, currency="btc", reason="by hand")
    give(by_hand)
    for refund in (addressed, by_hand):
        send(refund, f"{TXID}{refund.pk}")
        refunds.mark_done(refund, actor="ada")
    assert now(addressed.order) == "refunded"


def test_coins_that_the_provider_sent_back_are_not_sent_again(world):
    world.choose("btc")
    world.deliver(world.says(0, "finished", paid=1))
    world.refund(0)
    world.give_addresses()
    world.deliver(world.says(0, "refunded"))
    assert world.refunds() == ("sent 0.00043087 btc",)
    assert not Alert.objects.filter(kind="refund_to_send", status="open").exists()
    with pytest.raises(DecisionRefused, match="sent twice"):
        send(Refund.objects.get(), TXID)
    world.finish_refunds()
    assert (world.refunds(), world.order_now()) == (("done 0.00043087 btc",), "refunded")


# --- which transaction, to which address


def test_a_second_transaction_is_refused_once_one_was_entered():
    refund = refund_of(money_in())
    give(refund), send(refund)
    with refused(SENT_TWICE):
        refunds.mark_sent_elsewhere(refund, actor="ada", transaction_id=TXID[:-1] + "7", address=ADDRESS, reason=WHY)


def test_a_transaction_pays_one_refund(addressed):
    other = give(refund_of(money_in()))
    send(addressed)
    with pytest.raises(DecisionRefused, match="entered for another refund"):
        send(other, TXID.upper())
    assert now(other) == "requested"


def test_what_was_sent_to_an_address_that_was_replaced_is_not_marked_as_sent(addressed):
    seen = addressed.destination_id
    give(addressed, ADDRESS[:-1] + "p")
    RefundAddress.objects.update(rests_until=None)
    with pytest.raises(DecisionRefused, match="another address meanwhile"):
        refunds.mark_sent(addressed, actor="ada", transaction_id=TXID, destination=seen)
    assert now(addressed) == "requested"
    with pytest.raises(DecisionRefused, match="Give a reason"):
        refunds.mark_sent_elsewhere(addressed, actor="ada", transaction_id=TXID, address=ADDRESS, reason="ok")
    why = WHY * 20  # longer than the line in the timeline takes
    refunds.mark_sent_elsewhere(addressed, actor="ada", transaction_id=TXID, address=ADDRESS, reason=why)
    addressed.refresh_from_db()
    assert (addressed.status, addressed.destination_id, addressed.address) == ("sent", seen, ADDRESS)
    assert story(addressed.order)[-2:] == [
        ("staff", f"Sent to an earlier address, {addressed.destination}: {why}"[:300], "ada"),
        ("refund", "The refund was sent.", "ada"),
    ]
    assert addressed.order.emails.get(kind="refund_sent").facts["address"] == f"…{ADDRESS[-6:]}"


def test_what_was_sent_to_an_earlier_address_always_takes_two(addressed):
    assert refunds.MARK_SENT_ELSEWHERE.needs_second(addressed, {}) is True


def test_an_address_that_nobody_gave_cannot_have_been_paid(addressed):
    with refused("The customer has given one address at most."):
        refunds.mark_sent_elsewhere(addressed, actor="ada", transaction_id=TXID, address=ADDRESS, reason=WHY)
    give(addressed, ADDRESS[:-1] + "p")
    with pytest.raises(DecisionRefused, match="never gave this address"):
        refunds.mark_sent_elsewhere(addressed, actor="ada", transaction_id=TXID, address="bc1other", reason=WHY)

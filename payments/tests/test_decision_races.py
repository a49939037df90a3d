"""Payments that finish, and staff and customers who decide, at the same moment: each lock needs one of these tests."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from bitloot.core.decisions import DecisionRefused
from bitloot.tests.parallel import somebody_waits_for_a_lock
from orders.models import Order
from orders.tests.factories import make_order, timeline
from payments import refunds, sync
from payments.exceptions import AddressRefused
from payments.models import Payment, Refund, RefundAddress
from payments.refund_addresses import give_address
from payments.tests.decisions import TXID, accept, mails, money_in, now, refund_of, send
from payments.tests.factories import ADDRESS, make_payment

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def at_once(*calls):
    """Run the calls side by side; return what each returned, or the name of its refusal."""
    start = threading.Barrier(len(calls))

    def run(call):
        start.wait()
        try:
            return call()
        except (AddressRefused, DecisionRefused) as err:
            return type(err).__name__
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_of_two_finished_payments_at_once_one_pays(world):
    for _ in range(2):
        world.choose("btc"), world.choose("eth")
    for number in range(2):
        world.says(number, "finished", paid=1, silent=True)
    payments = [world.payment(0), world.payment(1)]
    outcomes = at_once(*(lambda p=payment: sync.refresh(p) for payment in payments * 3))
    assert outcomes.count("paid") == 1
    assert "review: second_payment" in outcomes
    assert sorted(world.payments_now()) == ["finished", "review: second_payment"]
    assert (world.order_now(), world.mails()) == ("paid", ("payment_received",))
    assert timeline(world.order).count(("order", "pending", "paid")) == 1


def test_of_many_ipns_of_one_payment_at_once_one_pays(world):
    world.choose("btc")
    world.says(0, "finished", paid=1, silent=True)
    outcomes = at_once(*[lambda: sync.refresh(world.payment(0))] * 6)
    assert sorted(outcomes) == ["already finished"] * 5 + ["paid"]
    assert world.mails() == ("payment_received",)


def test_a_payment_is_accepted_once():
    payment = money_in()
    outcomes = at_once(*[lambda: accept(Payment.objects.get(pk=payment.pk))] * 6)
    assert sorted(map(str, outcomes)) == ["DecisionRefused"] * 5 + ["None"]
    assert mails(payment.order) == ["payment_received"]


def test_a_refund_wins_over_an_acceptance_at_the_same_time():
    for _ in range(3):
        payment = money_in()
        copies = [Payment.objects.get(pk=payment.pk) for _ in range(4)]
        at_once(*(lambda p=p: accept(p) for p in copies[:2]), *(lambda p=p: refund_of(p) for p in copies[2:]))
        order = Order.objects.get(pk=payment.order_id)
        assert order.status == "refund_due"
        assert order.refunds.count() == 1


def test_a_payment_is_given_back_once():
    payment = money_in()
    outcomes = at_once(*[lambda: refund_of(Payment.objects.get(pk=payment.pk)).status] * 6)
    assert sorted(outcomes) == ["DecisionRefused"] * 5 + ["requested"]
    assert Refund.objects.count() == 1
    assert mails(payment.order) == ["refund_asked"]


def test_an_address_and_its_sending_at_once_do_not_stop_each_other():
    refund = refund_of(money_in())
    order = refund.order
    shown = give_address(order=order, refund_id=refund.pk, address=ADDRESS).destination_id

    def give(last):
        return give_address(order=order, refund_id=refund.pk, address=ADDRESS[:-1] + last).status

    def mark_sent():
        row = Refund.objects.get(pk=refund.pk)
        return refunds.mark_sent(row, actor="ada", transaction_id=TXID, destination=shown)

    outcomes = at_once(lambda: give("p"), mark_sent, lambda: give("r"), mark_sent, lambda: give("s"), mark_sent)
    assert set(map(str, outcomes)) <= {"requested", "None", "AddressRefused", "DecisionRefused"}
    # Whoever came first: the books name the address that staff saw, or nothing was sent.
    refund.refresh_from_db()
    assert (refund.status, refund.destination_id == shown) in (("sent", True), ("requested", False))


def sent(refund, shown):
    refunds.mark_sent(refund, actor="ada", transaction_id=TXID, destination=shown)


def sent_elsewhere(refund, _shown):
    refunds.mark_sent_elsewhere(refund, actor="ada", transaction_id=TXID, address=ADDRESS, reason="sent before")


def done(refund, _shown):
    refunds.mark_done(refund, actor="ada")


@pytest.mark.parametrize(
    ("decide", "before", "after"),
    [(sent, "requested", "sent"), (sent_elsewhere, "requested", "sent"), (done, "sent", "done")],
)
def test_a_decision_about_a_refund_waits_for_its_order_before_it_locks_the_refund(decide, before, after):
    """Each fails without the lock of the order, which everybody takes before any other."""
    refund = refund_of(money_in())
    for last in "qp":
        shown = give_address(order=refund.order, refund_id=refund.pk, address=ADDRESS[:-1] + last).destination_id
    RefundAddress.objects.update(rests_until=None)
    Refund.objects.filter(pk=refund.pk).update(status=before)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            refund.order.lock()
            decided = pool.submit(at_once, lambda: decide(Refund.objects.get(pk=refund.pk), shown))
            somebody_waits_for_a_lock()
            assert Refund.objects.select_for_update(nowait=True).get(pk=refund.pk).status == before
        assert decided.result() == [None]
    assert now(refund) == after


def test_refunds_at_once_never_exceed_what_arrived():
    payment = make_payment(make_order(status="fulfilled"), "finished", pay_amount=2, actually_paid=3)

    def surplus():
        return refunds.request_surplus(Payment.objects.get(pk=payment.pk), actor="ada", reason="too much").kind

    def rest():
        return refund_of(Payment.objects.get(pk=payment.pk)).kind

    at_once(surplus, rest, surplus, rest, surplus, rest)
    assert sum(refund.amount for refund in payment.refunds.all()) == 3


def test_a_transaction_entered_for_two_refunds_at_once_pays_one():
    pair = [refund_of(money_in()) for _ in range(2)]
    for refund in pair:
        give_address(order=refund.order, refund_id=refund.pk, address=ADDRESS)
    outcomes = at_once(*(lambda r=refund: send(r) for refund in pair))
    assert sorted(map(str, outcomes)) == ["DecisionRefused", "None"]
    assert sorted(now(refund) for refund in pair) == ["requested", "sent"]


def test_addresses_at_once_all_rest_but_the_first():
    refund = refund_of(money_in())
    calls = [
        lambda n=n: give_address(order=refund.order, refund_id=refund.pk, address=f"bc1address{n}").status
        for n in range(4)
    ]
    at_once(*calls)
    assert [row.rests_until is None for row in refund.addresses.all()] == [True, False, False, False]

"""Payments that finish, and staff and customers who decide, at the same moment: each lock needs one of these tests."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from bitloot.core.decisions import DecisionRefused
from orders.models import Order
from orders.tests.factories import timeline
from payments import refunds, sync
from payments.exceptions import AddressRefused
from payments.models import Payment, Refund
from payments.tests.decisions import TXID, accept, mails, money_in, now, refund_of
from payments.tests.factories import ADDRESS

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
    assert mails(payment.order) == ["problem"]


def test_an_address_and_its_sending_at_once_do_not_stop_each_other():
    refund = refund_of(money_in())
    order = refund.order
    refunds.set_refund_address(order=order, refund_id=refund.pk, address=ADDRESS)

    def give():
        return refunds.set_refund_address(order=order, refund_id=refund.pk, address=ADDRESS[:-1] + "p").status

    def send():
        return refunds.mark_sent(Refund.objects.get(pk=refund.pk), actor="ada", transaction_id=TXID)

    outcomes = at_once(give, send, give, send, give, send)
    assert set(map(str, outcomes)) <= {"requested", "None", "AddressRefused"}
    assert now(refund) == "sent"

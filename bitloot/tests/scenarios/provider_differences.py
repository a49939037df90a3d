"""Scenarios of the runbook: differences with the providers."""

import sqlite3
import uuid
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models.functions import Now

from bitloot.accounting import provider_checks
from bitloot.accounting.checks import differences, unacknowledged
from bitloot.accounting.ledger import Scope
from bitloot.accounting.tests import ledgers
from bitloot.accounting.tests.test_provider_checks import buy_again, pay_silently
from bitloot.tests.runbook import row
from bitloot.tests.scenarios.differences import acknowledges
from bitloot.tests.scenarios.money import look
from bitloot.tests.test_doctor import tls  # noqa: F401
from fulfillment import kinguin
from fulfillment.tests.world import age, finish, run
from orders.tests.factories import make_order
from payments import coins
from payments.creation import start_payment
from payments.ipn import IpnHint
from payments.models import Coin, Payment
from payments.sync import handle_ipn
from storage.models import Key, KeyDeliveryLog


def asked():
    answers = provider_checks.ask_nowpayments(Scope()), provider_checks.ask_supplier(Scope())
    return list(unacknowledged(difference for answer in answers for difference in answer.differences))


def asks(staff):
    """Ask both providers, as `reconcile --ask` does."""
    kinds = {f"provider:{difference.kind}" for difference in asked()}
    staff.seen |= kinds
    return kinds


@row("provider:payment_differs")
def read_a_payment_that_differs(staff):
    sandbox = staff.supplier()
    sandbox.control("config", {"step_ms": 0})
    coins.refresh()
    payment = start_payment(order=make_order(), coin=Coin.objects.filter(is_offered=True).first().code)
    pay_silently(sandbox, payment)
    assert asks(staff)
    staff.decides(payment, "Read again at the provider")
    look(payment)
    assert "provider:payment_differs" not in asks(staff)
    return payment.order, "paid"


def delivered_at_the_sandbox(staff):
    """A delivered reservation; what other tests bought at the sandbox was long ago."""
    staff.supplier()
    with closing(sqlite3.connect(settings.VAR_DIR / "sandbox.sqlite3", timeout=10)) as theirs, theirs:
        theirs.execute("UPDATE purchase SET created = created - 5184000")
    reservation = finish(staff.reservation())
    # Its payment is none of NOWPayments'.
    reservation.item.order.payments.update(created_at=Now() - timedelta(days=60))
    return reservation


@row("provider:purchase_without_order")
def acknowledge_a_purchase_without_order(staff):
    reservation = delivered_at_the_sandbox(staff)
    lost = str(uuid.uuid4())
    buy_again(reservation, lost)
    assert asks(staff)
    purchase = kinguin.client().find(lost).order_id
    call_command("acknowledge_purchase", purchase, "--reason", "Returned at Kinguin.")
    assert asks(staff) == set()
    return reservation.item.order, "fulfilled"


@row("provider:bought_not_adopted", "provider:bought_unknown_to_us")
def adopt_what_is_there(staff):
    order = None
    for status, remedy in (("unknown", "press"), ("pending", "adopt")):
        reservation = delivered_at_the_sandbox(staff)
        order = reservation.item.order
        KeyDeliveryLog.objects.filter(key__item=reservation.item).delete()
        Key.objects.filter(item=reservation.item).delete()
        reservation.permits.all().delete()
        ledgers.put(order, status="fulfilling")
        unknown_at = Now() if status == "unknown" else None
        age(reservation, status=status, supplier_order_id=None, unknown_at=unknown_at, next_attempt_at=Now())
        assert asks(staff)
        if remedy == "press":
            staff.decides(reservation, "Search at the supplier")
        else:
            with pytest.raises(CommandError):
                call_command("reconcile", "--ask", "--adopt")
        finish(reservation)
        assert asks(staff) == set()
    return order, "fulfilled"


def paid_at_the_sandbox(staff):
    sandbox = staff.supplier()
    sandbox.control("config", {"step_ms": 0})
    coins.refresh()
    payment = start_payment(order=make_order(), coin=Coin.objects.filter(is_offered=True).first().code)
    pay_silently(sandbox, payment)
    look(payment)
    return sandbox, payment


def the_purchase(reservation, **fields):
    """The supplier's order is another than our rows say."""
    age(reservation, **fields)


def settled_elsewhere(staff, *, change):
    """A delivered purchase of which the supplier says something else; staff settle it with them."""
    reservation = delivered_at_the_sandbox(staff)
    change(reservation)
    assert asks(staff)
    acknowledges(asked())
    assert asks(staff) == set()


SETTLED_ELSEWHERE = {
    "unknown_at_supplier": partial(the_purchase, supplier_order_id="NOSUCHORDER"),
    "foreign_purchase": lambda reservation: the_purchase(reservation, external_id=str(uuid.uuid4())),
    "cost_differs": partial(the_purchase, cost=Decimal("1.00")),
    "surplus_purchase": partial(the_purchase, supplier_order_id=None, manual=True),
}
for its_kind, its_change in SETTLED_ELSEWHERE.items():
    row(f"provider:{its_kind}")(partial(settled_elsewhere, change=its_change))


@row("provider:purchase_not_ended")
def deliver_what_was_given_up(staff):
    settled_elsewhere(staff, change=partial(the_purchase, status="cancelled", reason="canceled"))
    # Our own rows contradict each other by now, too.
    acknowledges(differences(Scope()))


@row("provider:surplus_keys")
def acknowledge_a_key_that_was_returned(staff):
    def lose_the_key(reservation):
        KeyDeliveryLog.objects.filter(key__item=reservation.item).delete()
        Key.objects.filter(item=reservation.item).delete()

    settled_elsewhere(staff, change=lose_the_key)
    # Our own rows miss it, too.
    acknowledges(differences(Scope()))


@row("provider:taken_back_after_delivery")
def acknowledge_a_key_that_still_works(staff):
    sandbox = staff.supplier()
    settled_elsewhere(staff, change=lambda reservation: sandbox.control(f"orders/{reservation.external_id}/refund", {}))


@row("provider:purchase_ended")
def run_a_purchase_that_they_ended(staff):
    sandbox = staff.supplier()
    sandbox.control("config", {"deliver": "manual"})
    reservation = run(staff.reservation())
    reservation.item.order.payments.update(created_at=Now() - timedelta(days=60))
    sandbox.control(f"orders/{reservation.external_id}/cancel", {})
    assert asks(staff)
    staff.decides(reservation, "Run now")
    run(reservation)
    staff.closes("reservation")
    staff.pays_back(reservation.item.order)
    return reservation.item.order, "refunded"


@row("provider:unknown_at_nowpayments")
def acknowledge_a_payment_of_another_key(staff):
    _, payment = paid_at_the_sandbox(staff)
    Payment.objects.filter(pk=payment.pk).update(external_id="1234567")
    assert asks(staff)
    acknowledges(asked())
    assert asks(staff) == set()


@row("provider:coins_differ")
def read_again_how_many_coins_came(staff):
    sandbox, payment = paid_at_the_sandbox(staff)
    more = {"status": "finished", "silent": True, "actually_paid": str(payment.actually_paid * 2)}
    sandbox.control(f"payments/{payment.external_id}/status", more)
    assert asks(staff)
    staff.decides(payment, "Read again at the provider")
    look(payment)
    staff.decides(payment, "Refund the surplus")
    assert asks(staff) == set()
    return payment.order, "paid"


@row("provider:child_unknown")
def have_an_ipn_sent_again(staff):
    sandbox, payment = paid_at_the_sandbox(staff)
    sandbox.pay(payment.external_id, mode="repeat", silent=True)
    assert asks(staff)
    child = next(one["payment_id"] for one in sandbox.control("state?limit=500")["payments"] if
                 str(one["parent_payment_id"]) == payment.external_id)  # fmt: skip
    handle_ipn(IpnHint(str(child), "finished", str(payment.order_id), payment.external_id))
    staff.decides(Payment.objects.get(external_id=child), "Refund all")
    assert asks(staff) == set()
    return payment.order, "paid"


@row("provider:finished_here_only")
def refund_money_that_may_not_be_there(staff):
    sandbox, payment = paid_at_the_sandbox(staff)
    sandbox.control(f"payments/{payment.external_id}/status", {"status": "failed", "silent": True})
    assert asks(staff)
    staff.decides(payment.order, "Hold")
    acknowledges(asked())
    staff.decides(payment.order, "Let it continue")
    assert asks(staff) == set()
    return payment.order, "fulfilling"

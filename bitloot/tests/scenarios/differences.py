"""Scenarios of the runbook: differences between our rows."""

from decimal import Decimal
from functools import partial

from django.core.management import call_command

from bitloot.accounting.checks import differences
from bitloot.accounting.ledger import Scope
from bitloot.accounting.tests import ledgers
from bitloot.accounting.tests import test_checks as breaks
from bitloot.tests.runbook import row
from bitloot.tests.test_doctor import tls  # noqa: F401
from fulfillment.tests.world import age, finish
from orders.alerts import raise_alert
from orders.tests.factories import make_order
from storage.models import Key


@row("difference:money_without_order")
def refund_of_money_without_order(staff):
    order = breaks.money_without_order()
    staff.sees()
    staff.decides(order.payments.get(), "Refund all")
    staff.pays_back(order)
    return order, "refunded"


@row("difference:paid_without_money")
def refund_what_covers_less(staff):
    order = breaks.paid_without_money()
    staff.sees()
    staff.decides(order, "Hold")
    staff.decides(order.payments.get(), "Refund all")
    staff.pays_back(order)
    return order, "refunded"


@row("difference:order_stuck")
def run_a_stuck_delivery(staff):
    staff.supplier()
    reservation = staff.reservation()
    age(reservation, next_attempt_at=None)
    staff.sees()
    staff.decides(reservation.item.order, "Run the delivery now")
    finish(reservation)
    return reservation.item.order, "fulfilled"


@row("difference:held_unnoticed")
def deliver_what_is_held_unnoticed(staff):
    order = breaks.held_unnoticed()
    staff.sees()
    staff.delivers_by_hand(order)
    return order, "fulfilled"


@row("difference:purchase_astray")
def deliver_an_astray_purchase(staff):
    order = breaks.purchase_of_a_failed_reservation()
    staff.sees()
    staff.delivers_by_hand(order)
    return order, "fulfilled"


@row("difference:refund_forgotten")
def refund_what_was_forgotten(staff):
    order = ledgers.paid_order()
    order.mark_refund_due(reason="out_of_stock", message="Owed back.")
    order.refunds.all().delete()
    staff.sees()
    staff.decides(order.payments.get(), "Refund all")
    staff.pays_back(order)
    return order, "refunded"


@row("difference:refund_not_sent")
def send_what_nothing_reminds_of(staff):
    order = breaks.refund_not_sent()
    staff.sees()
    refund = order.refunds.get()
    staff.decides(refund, "Mark as sent", transaction_id="f4184fc596403b9d")
    staff.decides(refund, "Mark as done")
    return order, "refunded"


@row("difference:review_unnoticed")
def refund_what_is_in_review_unnoticed(staff):
    order = breaks.review_unnoticed()
    staff.sees()
    staff.decides(order.payments.get(status="review"), "Refund all")
    return order, "fulfilled"


@row("difference:part_forgotten")
def refund_a_forgotten_part(staff):
    order = breaks.part_forgotten()
    staff.sees()
    staff.decides(order.payments.get(), "Refund all")
    staff.pays_back(order)
    return order, "refunded"


@row("difference:payment_unwatched")
def read_an_unwatched_payment_again(staff):
    order = breaks.payment_unwatched()
    staff.sees()
    staff.decides(order.payments.get(), "Read again at the provider")
    return order, "pending"


@row("difference:accepted_below_price", "alert:accepted_below_price")
def acknowledge_an_acceptance_below_the_price(staff):
    order = make_order()
    payment = ledgers.paying(order, "review", actually_paid=Decimal("0.24"))
    staff.decides(payment, "Accept as paid")
    staff.sees()
    staff.closes("accepted_below_price")
    return order, "paid"


@row("difference:surplus_kept")
def give_the_surplus_back(staff):
    order = breaks.surplus_kept()
    staff.sees()
    staff.decides(order.payments.get(), "Refund the surplus")
    return order, "paid"


@row("difference:refunded_without_refund")
def finish_a_refund_that_was_only_sent(staff):
    order = breaks.refunded_but_only_sent()
    staff.sees()
    staff.decides(order.refunds.get(), "Mark as done")
    return order, "refunded"


@row("difference:cost_above_cap", "alert:cost_above_cap")
def accept_a_cost_above_the_cap(staff):
    order = breaks.cost_above_cap()
    raise_alert("cost_above_cap", ledgers.reservation_of(order), "It cost more.", order=order)
    staff.sees()
    staff.closes("cost_above_cap")
    return order, "fulfilled"


@row("difference:key_for_unpaid_order")
def shred_the_keys_of_an_unpaid_order(staff):
    order = breaks.key_for_unpaid_order()
    put_ended(order)
    staff.sees()
    for key in Key.objects.filter(item__order=order):
        staff.decides(key, "Shred")
    return order, "cancelled"


def put_ended(order):
    """Its customer never paid, so nothing is being delivered."""
    ledgers.put(order, status="cancelled")


STAYS = {
    "fulfilled_undelivered": breaks.fulfilled_undelivered,
    "wrong_number_of_keys": breaks.key_too_many,
    "delivered_without_purchase": breaks.delivered_without_purchase,
    "bought_twice": breaks.bought_twice,
    "permit_open": breaks.permit_open,
    "refunded_too_much": breaks.refunded_too_much,
}


def acknowledge_what_stays(staff, *, break_it):
    order = break_it()
    staff.sees()
    acknowledges(differences(Scope()))
    return order, order.status


for its_kind, its_break in STAYS.items():
    row(f"difference:{its_kind}")(partial(acknowledge_what_stays, break_it=its_break))


def acknowledges(found_now):
    (difference,) = found_now
    call_command("acknowledge_difference", difference.kind, difference.external_id, "--reason", "Settled with them.")

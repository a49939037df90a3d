"""The books over real rows: a healthy store is clean, and each break is found once."""

import json
import uuid
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from bitloot.accounting.checks import CHECKS, Difference, differences
from bitloot.accounting.ledger import Scope, books
from bitloot.accounting.tests.ledgers import (
    add_keys,
    bought,
    delivered_order,
    paid_order,
    paying,
    put,
    refunded_order,
    reservation_of,
    stopped,
)
from fulfillment.models import Reservation, ReservationAttempt
from orders.alerts import close_alert, raise_alert
from orders.models import Order
from orders.tests.factories import make_order
from payments import refunds
from payments.models import RefundAddress
from payments.refund_addresses import give_address
from storage.models import Key

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
EVERYTHING = Scope()


@pytest.fixture
def healthy():
    """One order in every state that a busy store shows."""
    delivered_order()
    delivered_order(quantity=3)
    by_hand = delivered_order()
    put(reservation_of(by_hand), supplier_order_id=None, cost=None, manual=True)
    viewed = delivered_order()
    Key.objects.filter(item__order=viewed).update(
        status="shredded", wrapped_data_key=None, ciphertext=None, shredded_at=timezone.now()
    )
    paid_order()
    sending = paid_order()
    put(sending, status="fulfilling")
    put(reservation_of(sending), status="sending", claim_token=uuid.uuid4())
    ReservationAttempt.objects.create(reservation=reservation_of(sending), number=1)
    bought(paid_order(), "given")
    half = paid_order(quantity=2)
    bought(half, "given")
    add_keys(half, 1)
    put(half, status="partially_fulfilled")
    raise_alert("reservation", "held", "Held.", order=stopped(paid_order(), "held"))
    waits_for_stock = stopped(paid_order(), "held", "out_of_stock")
    put(reservation_of(waits_for_stock), next_attempt_at=timezone.now() + HOUR)
    make_order()
    paying(make_order(), "waiting")
    paying(make_order(status="expired"), "expired", next_attempt_at=None)
    part_paid = make_order(status="underpaid")
    paying(part_paid, "partially_paid", actually_paid=Decimal("0.1"), credit=Decimal("9.99"))
    in_two_parts = make_order()
    paying(in_two_parts, "partially_paid", actually_paid=Decimal("0.1"), credit=Decimal("9.99"))
    paying(in_two_parts, "finished", price_amount=Decimal("15.00"))
    in_two_parts.mark_paid(message="Paid.")
    accepted = make_order()
    paying(accepted, "finished", price_amount=Decimal("20.00"), credit=Decimal("20.00"), reason="accepted")
    accepted.mark_paid(message="Accepted.")
    review = make_order(status="held")
    raise_alert("payment_review", "review", "Look.", order=review)
    paying(review, "review", actually_paid=Decimal("0.1"), reason="other_coin", next_attempt_at=None)
    owed = paid_order()
    put(reservation_of(owed), status="cancelled", next_attempt_at=None)
    owed.mark_refund_due(reason="out_of_stock", message="Owed back.")
    refunded_order()
    supplier_cancelled = paid_order()
    bought(supplier_cancelled, "cancelled", reason="canceled", next_attempt_at=None)
    supplier_cancelled.mark_refund_due(reason="supplier_cancelled", message="Owed back.")
    keys_returned = paid_order()
    bought(keys_returned, "cancelled", next_attempt_at=None)
    keys_returned.mark_refund_due(reason="refund_requested", message="Owed back.")


def found(scope=EVERYTHING):
    return [(difference.kind, difference.order) for difference in differences(scope)]


def test_a_healthy_store_in_the_middle_of_its_work_has_no_difference(healthy):
    assert found() == []
    out = StringIO()
    call_command("reconcile", stdout=out)
    assert out.getvalue().endswith("The books balance.\n")


def test_an_empty_store_balances():
    out = StringIO()
    call_command("reconcile", stdout=out)
    assert out.getvalue() == "The books balance.\n"


# --- each break is found, once ---


def paid_without_money():
    order = paid_order()
    order.payments.update(price_amount=Decimal("24.00"))
    return order


def paid_by_another_currency():
    order = delivered_order()
    order.payments.update(price_currency="usd")
    return order


def paid_with_money_that_went_back():
    order = paid_order()
    order.payments.update(status="refunded")
    return order


def money_without_order():
    order = make_order(status="expired")
    paying(order, "finished")
    return order


def stuck():
    order = paid_order()
    put(reservation_of(order), next_attempt_at=None)
    return order


def stuck_with_a_bounced_mail():
    order = stuck()
    raise_alert("mail_failed", str(order.pk), "It bounced.", order=order)
    return order


def held_unnoticed():
    order = stopped(paid_order(), "held")
    raise_alert("reservation", str(order.pk), "Held.", order=order)
    order.alerts.update(status="closed")
    return order


def fulfilled_undelivered():
    order = delivered_order()
    put(reservation_of(order), status="given")
    return order


def key_missing():
    order = delivered_order(quantity=3)
    key = Key.objects.filter(item__order=order).first()
    key.delivery.delete()
    key.delete()
    return order


def key_too_many():
    order = delivered_order()
    add_keys(order, 1)
    return order


def delivered_without_purchase():
    order = delivered_order()
    put(reservation_of(order), supplier_order_id=None)
    return order


def key_for_unpaid_order():
    order = make_order()
    add_keys(order, 2)
    return order


def key_for_order_held_before_it_was_paid():
    order = make_order(status="held")
    raise_alert("payment_review", str(order.pk), "Look.", order=order)
    add_keys(order, 1)
    return order


def purchase_of_a_failed_reservation():
    order = paid_order()
    bought(order, "failed", next_attempt_at=timezone.now())
    return order


def purchase_of_a_cancelled_reservation():
    order = paid_order()
    bought(order, "cancelled", next_attempt_at=timezone.now())
    return order


def bought_twice():
    order = delivered_order()
    ReservationAttempt.objects.create(reservation=reservation_of(order), number=2, outcome="placed")
    return order


def permit_open():
    order = delivered_order()
    ReservationAttempt.objects.create(reservation=reservation_of(order), number=2)
    return order


def refund_forgotten():
    order = paid_order()
    order.payments.update(actually_paid=0)
    order.mark_refund_due(reason="out_of_stock", message="Owed back.")
    return order


def refunded_without_refund():
    order = refunded_order()
    order.refunds.update(destination=None)
    RefundAddress.objects.filter(refund__order=order).delete()
    order.refunds.all().delete()
    return order


def refunded_but_only_sent():
    order = refunded_order()
    order.refunds.update(status="sent")
    return order


def refund_not_sent():
    order = paid_order()
    order.mark_refund_due(reason="out_of_stock", message="Owed back.")
    give_address(order=order, refund_id=order.refunds.get().pk, address="ltc-address-1")
    order.alerts.update(status="closed")
    return order


def refunded_too_much():
    order = refunded_order()
    again = order.refunds.get()
    again.pk, again.transaction_id = uuid.uuid4(), "another"
    again.save(force_insert=True)
    return order


def review_unnoticed():
    order = delivered_order()
    paying(order, "review", actually_paid=Decimal("0.25"), reason="second_payment", next_attempt_at=None)
    return order


def part_forgotten():
    order = make_order(status="underpaid", expires_at=timezone.now() - timedelta(days=8))
    paying(order, "partially_paid", credit=Decimal("9.99"), actually_paid=Decimal("0.1"), next_attempt_at=None)
    return order


def payment_unwatched():
    order = make_order()
    paying(order, "confirming", next_attempt_at=None)
    return order


def unread():
    order = make_order()
    paying(order, "waiting", unread_since=timezone.now() - timedelta(minutes=16))
    return order


def accepted_below_price():
    order = make_order()
    paying(order, "finished", reason="accepted", credit=Decimal("4.99"))
    order.mark_paid(message="Accepted.")
    return order


def surplus_kept():
    order = paid_order()
    order.payments.update(actually_paid=Decimal("0.27"))
    return order


def cost_above_cap():
    order = delivered_order()
    reservation = put(reservation_of(order), cost=Decimal("20.02"))
    reservation.permits.update(price=Decimal("20.00"))
    return order


def replacement_above_cap():
    """Bought for one key of an item of two."""
    order = delivered_order(quantity=2)
    old = Key.objects.filter(item__order=order).first()
    again = Reservation.objects.create(
        item=old.item, external_id=str(old.pk), replaces=old, dialect="ecommerce", status="delivered",
        supplier_order_id="REPLACEMENT", cost=Decimal("20.02"), next_attempt_at=None,
    )  # fmt: skip
    again.permits.create(number=1, price=Decimal("20.00"), outcome="placed")
    return order


BREAKS = [
    ("payment_unread", unread),
    ("accepted_below_price", accepted_below_price),
    ("surplus_kept", surplus_kept),
    ("cost_above_cap", cost_above_cap),
    ("cost_above_cap", replacement_above_cap),
    ("paid_without_money", paid_without_money),
    ("paid_without_money", paid_by_another_currency),
    ("paid_without_money", paid_with_money_that_went_back),
    ("money_without_order", money_without_order),
    ("order_stuck", stuck),
    ("order_stuck", stuck_with_a_bounced_mail),
    ("held_unnoticed", held_unnoticed),
    ("fulfilled_undelivered", fulfilled_undelivered),
    ("wrong_number_of_keys", key_missing),
    ("wrong_number_of_keys", key_too_many),
    ("delivered_without_purchase", delivered_without_purchase),
    ("key_for_unpaid_order", key_for_unpaid_order),
    ("key_for_unpaid_order", key_for_order_held_before_it_was_paid),
    ("purchase_astray", purchase_of_a_failed_reservation),
    ("purchase_astray", purchase_of_a_cancelled_reservation),
    ("bought_twice", bought_twice),
    ("permit_open", permit_open),
    ("refund_forgotten", refund_forgotten),
    ("refunded_without_refund", refunded_without_refund),
    ("refunded_without_refund", refunded_but_only_sent),
    ("refund_not_sent", refund_not_sent),
    ("refunded_too_much", refunded_too_much),
    ("review_unnoticed", review_unnoticed),
    ("part_forgotten", part_forgotten),
    ("payment_unwatched", payment_unwatched),
]


@pytest.mark.parametrize(("kind", "break_it"), BREAKS, ids=[break_it.__name__ for _, break_it in BREAKS])
def test_a_break_is_found_exactly_once(kind, break_it):
    order = break_it()
    assert found() == [(kind, str(order.pk))]


def test_breaks_are_found_among_healthy_orders(healthy):
    broken = [(kind, str(break_it().pk)) for kind, break_it in BREAKS]
    assert sorted(found()) == sorted(broken)


def test_what_lies_within_the_bounds_is_no_difference():
    paying(make_order(), "waiting", unread_since=timezone.now() - timedelta(minutes=14))
    put(surplus_kept().payments.get(), actually_paid=Decimal("0.2625"))
    order = delivered_order(quantity=2)
    put(reservation_of(order), cost=Decimal("40.00")).permits.update(price=Decimal("20.00"))
    assert found() == []


def test_every_check_has_a_break():
    assert {kind for kind, _ in BREAKS} | {"two_for_one_purchase"} == {check.kind for check in CHECKS}


@pytest.mark.postgres
def test_two_reservations_for_one_purchase_are_found():
    first, second = delivered_order(), delivered_order()
    purchase = reservation_of(first).supplier_order_id
    with connection.cursor() as cursor:
        table = Reservation._meta.db_table
        constraints = connection.introspection.get_constraints(cursor, table)
        (name,) = [
            name for name, facts in constraints.items() if facts["columns"] == ["supplier_order_id"] and facts["unique"]
        ]
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
    put(reservation_of(second), supplier_order_id=purchase)
    ((kind, order),) = found()
    assert kind == "two_for_one_purchase"
    assert order in (str(first.pk), str(second.pk))


def test_a_difference_says_what_happened_and_what_to_do():
    order = paid_without_money()
    (difference,) = differences(Scope())
    assert difference == Difference(
        "paid_without_money",
        str(order.pk),
        f"Order {order.pk} is “paid”, but its payments cover only 24.00 of 24.99 EUR. Hold it, compare its payments"
        " with NOWPayments' dashboard, then accept one as paid with a reason, or refund it.",
    )


def test_a_delivered_order_whose_money_went_back_is_a_loss_but_no_difference():
    order = delivered_order()
    order.payments.update(status="refunded")
    assert found() == []
    book = books(Scope())["EUR"]
    assert book.came_in == {"went_back": Decimal("24.99")}
    assert book.margin == Decimal("-15.50")


def test_the_time_and_the_order_narrow_it_down():
    old, fresh = stuck(), stuck()
    put(old, created_at=timezone.now() - timedelta(days=9))
    assert found(Scope(since=timedelta(days=7))) == [("order_stuck", str(fresh.pk))]
    assert found(Scope(order=old.pk)) == [("order_stuck", str(old.pk))]
    assert books(Scope(order=old.pk))["EUR"].orders == {"paid": 1}


def test_as_many_queries_for_one_order_as_for_many(django_assert_num_queries):
    delivered_order()
    queries = len(CHECKS) + 7
    with django_assert_num_queries(queries):
        list(differences(Scope()))
        books(Scope())
    for _ in range(5):
        delivered_order()
        stuck()
    with django_assert_num_queries(queries):
        list(differences(Scope()))
        books(Scope())


# --- the sums ---


def test_the_books_of_a_healthy_store(healthy):
    (book,) = books(Scope()).values()
    assert book.currency == "EUR"
    assert sum(book.orders.values()) == Order.objects.count()
    assert book.came_in == {
        "delivered": Decimal("149.94"),
        "in_work": Decimal("169.94"),
        "held": Decimal("49.98"),
        "waiting": Decimal("9.99"),
        "owed_back": Decimal("74.97"),
        "went_back": Decimal("24.99"),
    }
    purchases = {where: (entry.number, entry.cost) for where, entry in book.purchases.items()}
    assert purchases == {
        "delivered": (3, Decimal("46.50")),
        "open": (2, Decimal("31.00")),
        "given_back": (2, Decimal("31.00")),
    }
    assert book.total_in == Decimal("479.81")
    assert book.supplier_took == Decimal("77.50")
    assert book.margin == book.total_in - Decimal("99.96") - Decimal("77.50")
    assert (book.keys_sold, book.keys_delivered, book.keys_by_hand) == (6, 7, 1)
    assert book.refund_due == Decimal("74.97")
    ltc = book.coins["ltc"]
    assert ltc.refunds_requested == Decimal("0.75")
    assert ltc.refunds_done == Decimal("0.25")
    assert ltc.in_review == Decimal("0.1")


def test_coins_beyond_what_was_asked_and_purchases_nobody_needs_are_surplus():
    order = delivered_order()
    order.payments.update(actually_paid=Decimal("0.3"))
    unneeded = paid_order()
    bought(unneeded, "held", next_attempt_at=None)
    unneeded.mark_refund_due(reason="refund_requested", message="Owed back.")
    book = books(Scope())["EUR"]
    assert book.coins["ltc"].surplus == Decimal("0.05")
    assert book.purchases["surplus"].cost == Decimal("15.50")


def test_each_currency_has_its_own_book():
    delivered_order()
    foreign = delivered_order()
    put(foreign, currency="USD")
    foreign.payments.update(price_currency="usd", pay_currency="btc")
    assert found() == []
    eur, usd = books(Scope()).values()
    assert (eur.total_in, usd.total_in) == (Decimal("24.99"), Decimal("24.99"))
    assert (set(eur.coins), set(usd.coins)) == ({"ltc"}, {"btc"})
    assert usd.margin is None


# --- the command ---


def test_the_command_prints_books_and_differences_and_fails():
    order = stuck()
    out = StringIO()
    with pytest.raises(CommandError, match=r"^1 differences\. Each says what to do\.$") as caught:
        call_command("reconcile", stdout=out)
    assert caught.value.returncode == 1
    assert out.getvalue().splitlines() == [
        "EUR: 1 orders: 1 paid",
        "  Came in        24.99 EUR (in work 24.99)",
        "    0.25 LTC in 1 payments for 24.99 EUR",
        "  Supplier took  0 EUR; 0 purchases",
        "  Keys           0 here, 0 delivered as sold",
        "  Left           24.99 EUR",
        f"DIFFERENCE order_stuck: Order {order.pk} is “paid”, but no worker will look at it again and nobody was told."
        " Run its delivery now from the admin; if it does not move, decide about its purchases one by one.",
    ]


def test_the_json_is_one_document_with_the_books_of_each_order_concerned(healthy):
    order = stuck()
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("reconcile", "--json", "--since", "1", stdout=out)
    document = json.loads(out.getvalue())
    assert document["ok"] is False
    assert document["not_asked"] == []
    assert [(found["kind"], found["order"]) for found in document["differences"]] == [("order_stuck", str(order.pk))]
    assert document["books"]["EUR"]["came_in"]["delivered"] == "149.94"
    assert document["books"]["EUR"]["coins"]["ltc"]["arrived"] == "4.55"
    single = document["orders"][str(order.pk)]["EUR"]
    assert (single["total_in"], single["supplier_took"], single["orders"]) == ("24.99", "0", {"paid": 1})


def test_the_json_of_a_healthy_store_says_ok(healthy):
    out = StringIO()
    call_command("reconcile", "--json", stdout=out)
    document = json.loads(out.getvalue())
    assert (document["ok"], document["differences"], document["orders"]) == (True, [], {})


@pytest.mark.parametrize("days", ["-1", "0", "nan", "inf", "1e9", "soon"])
def test_a_time_that_is_none_is_a_usage_error(days):
    with pytest.raises(CommandError, match="--since") as caught:
        call_command("reconcile", f"--since={days}")
    assert caught.value.returncode == 64


def test_an_order_that_is_not_there_is_a_usage_error():
    missing = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(CommandError, match=f"There is no order {missing}") as caught:
        call_command("reconcile", "--order", missing)
    assert caught.value.returncode == 64


def test_adopting_needs_asking():
    with pytest.raises(CommandError, match="--adopt needs --ask"):
        call_command("reconcile", "--adopt")


@pytest.mark.parametrize(
    ("kind", "alert", "made"),
    [
        ("accepted_below_price", "accepted_below_price", accepted_below_price),
        ("surplus_kept", "overpaid", surplus_kept),
    ],
)
def test_staff_acknowledge_a_difference_by_closing_its_alert(kind, alert, made):
    payment = made().payments.get()
    raise_alert(alert, payment, "Look at it.", order=payment.order)
    assert [found.kind for found in differences(EVERYTHING)] == [kind]
    close_alert(alert, payment, by="kim")
    assert list(differences(EVERYTHING)) == []


def test_the_books_of_an_order_that_was_delivered_in_part():
    order = paid_order(quantity=2, price="10.00")
    add_keys(order, 1)
    order.mark_refund_due(reason="out_of_stock", message="Owed back.")
    refund = order.refunds.get()
    assert (refund.kind, refund.amount) == ("share", Decimal("0.125"))
    assert books(EVERYTHING)["EUR"].came_in == {"delivered": Decimal("10.00"), "owed_back": Decimal("10.00")}
    give_address(order=order, refund_id=refund.pk, address="ltc-address-1")
    refund.refresh_from_db()
    refunds.mark_sent(refund, actor="kim", transaction_id="a1b2c3d4", destination=refund.destination_id)
    refunds.mark_done(refund, actor="kim")
    assert books(EVERYTHING)["EUR"].came_in == {"delivered": Decimal("10.00"), "went_back": Decimal("10.00")}


def test_accepted_money_counts_with_what_arrived():
    accepted_below_price()
    assert books(EVERYTHING)["EUR"].total_in == Decimal("4.99")

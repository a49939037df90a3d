"""What each word of the provider leads to, one by one; whole stories over HTTP are in test_stories.py."""

from decimal import Decimal

import pytest
from django.db.models.functions import Now

from orders.choices import OrderReason
from orders.models import Email, Order
from orders.tests.factories import make_order, timeline
from payments.balance import amount_due
from payments.models import Payment, Refund
from payments.nowpayments import ProviderStatus
from payments.settlement import apply
from payments.tests.factories import (
    ASKED,
    alerts,
    kinds,
    make_facts,
    make_payment,
)

pytestmark = pytest.mark.django_db


FROM = [
    *("creating", "waiting", "confirming", "confirmed", "sending", "finished"),
    *("partially_paid", "expired", "failed", "cancelled", "refunded", "review"),
]
# What the provider says, and where a payment goes that stands at each of FROM; a dot: it stays.
TABLE = {
    "waiting": "waiting . . . . . . . . . . .",
    "confirming": "confirming confirming . . . . . confirming . . . .",
    "confirmed": "confirmed confirmed confirmed . . . . confirmed . . . .",
    "sending": "sending sending sending sending . . . sending . . . .",
    "finished": "finished finished finished finished finished . finished finished review review review .",
    "partially_paid": " ".join(["partially_paid"] * 5) + " . . partially_paid review review . .",
    "expired": "expired expired expired expired expired . . . . . . .",
    "failed": "failed failed failed failed failed . . failed . . . .",
    "cancelled": "cancelled cancelled cancelled cancelled cancelled . cancelled cancelled . . . .",
    "refunded": " ".join(["refunded"] * 10) + " . refunded",
    "unknown": ". . . . . . . . . . . .",
}
ROWS = [(word, start, to) for word, row in TABLE.items() for start, to in zip(FROM, row.split(), strict=True)]


def test_the_table_knows_every_word_and_every_status():
    assert set(TABLE) == {status.value for status in ProviderStatus}
    assert set(FROM) == set(Payment.Status.values)


@pytest.mark.once
@pytest.mark.parametrize(("word", "start", "to"), ROWS)
def test_what_the_provider_says_moves_a_payment_forwards_only(word, start, to):
    payment = make_payment(status=start)
    before = timeline(payment.order)
    outcome = apply(payment, make_facts(payment, word))
    payment.refresh_from_db()
    assert outcome
    assert payment.status == (start if to == "." else to)
    moves = [move for move in timeline(payment.order)[len(before) :] if move[0] == "payment" and move[1]]
    assert moves == ([] if to == "." else [("payment", start, to)])
    assert [payment.provider_status, payment.read_at is not None] == [word, True]
    is_paid = Order.objects.get().paid_at is not None
    assert is_paid is (to == "finished")


@pytest.mark.once
@pytest.mark.parametrize(("word", "start", "to"), ROWS)
def test_saying_it_twice_changes_nothing_more(word, start, to):
    payment = make_payment(status=start)
    facts = make_facts(payment, word)
    apply(payment, facts)
    seen = [list(Payment.objects.values("status", "credit")), timeline(payment.order), Email.objects.count()]
    apply(payment, facts)
    assert [list(Payment.objects.values("status", "credit")), timeline(payment.order), Email.objects.count()] == seen


ORDER_WHEN_PAID = {
    "pending": ("paid", "finished", ""),
    "underpaid": ("paid", "finished", ""),
    "expired": ("paid", "finished", ""),
    "cancelled": ("cancelled", "review", "order_cancelled"),
    "failed": ("failed", "review", "order_failed"),
    "held": ("held", "review", "order_held"),
    "refunded": ("refunded", "review", "order_refunded"),
}


@pytest.mark.parametrize("status", ORDER_WHEN_PAID)
def test_money_arrives_for_an_order_in_any_state(status):
    order_after, payment_after, reason = ORDER_WHEN_PAID[status]
    payment = make_payment(make_order(status=status))
    apply(payment, make_facts(payment))
    payment.refresh_from_db()
    assert [payment.order.status, payment.status, payment.reason] == [order_after, payment_after, reason]
    assert alerts() == ([] if payment_after == "finished" else ["payment_review"])


@pytest.mark.parametrize("status", ["paid", "fulfilling", "fulfilled", "partially_fulfilled", "held", "refund_due"])
def test_a_second_payment_never_pays_again(status):
    payment = make_payment(make_order(status=status, paid_at=Now()))
    apply(payment, make_facts(payment))
    payment.refresh_from_db()
    assert [payment.order.status, payment.status, payment.reason] == [status, "review", "second_payment"]


def test_a_paid_order_has_its_rows_and_its_mail():
    payment = make_payment(status="sending")
    assert apply(payment, make_facts(payment, actually_paid=ASKED * 2)) == "paid"
    payment.refresh_from_db()
    assert timeline(payment.order) == [
        ("order", "", "pending"),
        ("payment", "sending", "finished"),
        ("order", "pending", "paid"),
        ("payment", "", ""),
    ]
    assert payment.order.events.last().message == "0.0012345 BTC more than asked arrived."
    assert kinds(payment.order) == ["payment_received", "overpaid", "alert"]
    assert alerts() == ["overpaid"]
    assert [payment.actually_paid, payment.finished_at is not None] == [ASKED * 2, True]
    assert payment.evidence == {
        "status": "finished",
        "order_id": str(payment.order_id),
        "price": "24.99 eur",
        "asked": "0.0012345 btc",
        "paid": "0.002469",
        "parent": "",
    }


def test_finished_that_is_objected_to_holds_the_order_with_its_reason():
    payment = make_payment()
    outcome = apply(payment, make_facts(payment, price_amount=Decimal("24.98")))
    payment.refresh_from_db()
    assert outcome == "review: other_price"
    assert [payment.order.status, payment.order.reason, payment.reason] == ["held", "other_price", "other_price"]
    assert [alerts(), sorted(kinds(payment.order))] == [["payment_review"], ["alert", "payment_checked"]]


@pytest.mark.parametrize("word", ["expired", "failed", "cancelled"])
def test_an_end_with_money_in_it_is_for_a_person(word):
    payment = make_payment()
    assert apply(payment, make_facts(payment, word, actually_paid=ASKED / 2)) == f"review: {word}_with_money"
    assert alerts() == ["payment_review"]


def test_expired_after_a_part_is_no_news():
    payment = make_payment(status="partially_paid")
    assert apply(payment, make_facts(payment, "expired", actually_paid=ASKED / 2)) == "expired changes nothing"


@pytest.mark.parametrize("word", ["expired", "failed", "cancelled", "partially_paid"])
def test_an_end_after_finished_changes_nothing_but_is_told(word):
    payment = make_payment(make_order(status="fulfilled", paid_at=Now()), status="finished")
    apply(payment, make_facts(payment, word))
    payment.refresh_from_db()
    assert [payment.status, payment.order.status, alerts()] == ["finished", "fulfilled", ["payment_review"]]


@pytest.mark.parametrize(
    ("status", "after"),
    [("paid", "held"), ("fulfilling", "held"), ("partially_fulfilled", "held"), ("fulfilled", "fulfilled")],
)
def test_a_refund_of_the_provider_stops_what_is_not_delivered(status, after):
    payment = make_payment(make_order(status=status, paid_at=Now()), status="finished")
    assert apply(payment, make_facts(payment, "refunded")) == "refunded"
    payment.refresh_from_db()
    assert [payment.order.status, payment.status, alerts()] == [after, "refunded", ["payment_review"]]


@pytest.mark.parametrize("status", ["confirming", "confirmed", "sending", "partially_paid", "review"])
@pytest.mark.parametrize("order_status", ["pending", "expired", "held", "cancelled"])
def test_customer_who_was_told_of_coins_is_told_that_the_provider_sent_them_back(status, order_status):
    payment = make_payment(make_order(status=order_status), status=status)
    apply(payment, make_facts(payment, "refunded"))
    assert payment.order.emails.filter(kind="coins_returned").count() == 1


@pytest.mark.parametrize("reason", ["out_of_stock", "held_by_staff"])
def test_a_refund_of_the_provider_outweighs_what_the_order_was_held_for(reason):
    payment = make_payment(make_order(status="held", reason=reason, paid_at=Now()), status="finished")
    apply(payment, make_facts(payment, "refunded"))
    payment.refresh_from_db()
    assert [payment.order.status, payment.order.reason] == ["held", "payment_refunded"]
    assert payment.order.events.last().message == "The payment was refunded by the provider."


def test_money_that_staff_sent_back_is_not_looked_at_again():
    payment = make_payment(status="refunded", actually_paid=ASKED)
    refund = {"order": payment.order, "payment": payment, "amount": ASKED, "currency": "btc", "reason": "r"}
    Refund.objects.create(status="done", **refund)
    assert apply(payment, make_facts(payment, "partially_paid")) == "staff sent this money back"


def test_a_part_counts_with_what_arrived_and_the_customer_is_asked_for_the_rest():
    payment = make_payment()
    assert apply(payment, make_facts(payment, "partially_paid")) == "partially_paid"
    payment.refresh_from_db()
    assert [payment.credit, payment.reason, payment.order.status] == [Decimal("12.49"), "too_little", "underpaid"]
    assert amount_due(payment.order) == Decimal("12.50")
    sentence = "0.00061725 BTC arrived; 0.00061725 BTC are missing."
    assert payment.order.events.last().message == sentence
    facts = {"missing": "12.50", "coins": "0.00061725 BTC"}
    assert payment.order.emails.get(kind="underpaid").facts == facts


@pytest.mark.parametrize("status", ["paid", "fulfilled", "held", "refund_due", "cancelled"])
def test_a_part_for_an_order_that_waits_for_no_money_asks_for_no_rest(status):
    payment = make_payment(make_order(status=status))
    assert apply(payment, make_facts(payment, "partially_paid")) == "partially_paid"
    payment.refresh_from_db()
    assert [payment.status, payment.order.status] == ["partially_paid", status]
    assert not payment.order.emails.filter(kind="underpaid").exists()
    assert alerts() == ["payment_review"]


def test_a_part_that_grows_is_counted_anew():
    payment = make_payment()
    apply(payment, make_facts(payment, "partially_paid"))
    before = len(timeline(payment.order))
    apply(payment, make_facts(payment, "partially_paid", actually_paid=ASKED * Decimal("0.75")))
    payment.refresh_from_db()
    assert [payment.credit, len(timeline(payment.order))] == [Decimal("18.74"), before + 1]


def test_a_part_of_a_payment_that_is_not_ours_is_for_a_person():
    payment = make_payment()
    outcome = apply(payment, make_facts(payment, "partially_paid", pay_currency="eth"))
    assert outcome == "review: partially_paid_other_coin"


def test_the_rest_pays_the_order_and_a_rest_of_nothing_holds_it():
    first = make_payment()
    apply(first, make_facts(first, "partially_paid"))
    rest = make_payment(first.order, price_amount=Decimal("12.50"))
    assert apply(rest, make_facts(rest)) == "paid"
    almost = make_payment(make_order())
    apply(almost, make_facts(almost, "partially_paid", actually_paid=ASKED * Decimal("0.9999")))
    almost.refresh_from_db()
    assert [almost.order.status, almost.order.reason] == ["held", OrderReason.PAID_IN_PARTS]


def test_a_rest_that_no_longer_completes_the_price_is_for_a_person():
    order = make_order()
    rest = make_payment(order, price_amount=Decimal("12.50"))
    assert apply(rest, make_facts(rest)) == "review: order_not_covered"


def test_coins_that_are_seen_are_mailed_once_and_not_when_the_payment_is_finished_at_once():
    payment = make_payment()
    for step in ("confirming", "confirmed", "sending", "confirming"):
        apply(payment, make_facts(payment, step))
        payment.refresh_from_db()
    assert kinds(payment.order) == ["payment_seen"]
    at_once = make_payment()
    apply(at_once, make_facts(at_once))
    assert kinds(at_once.order) == ["payment_received"]


def test_the_transaction_is_kept_though_a_later_answer_leaves_it_out():
    payment = make_payment()
    apply(payment, make_facts(payment, "confirming", payin_hash="0xabc"))
    apply(payment, make_facts(payment))
    payment.refresh_from_db()
    assert payment.payin_hash == "0xabc"


@pytest.mark.parametrize("later", ["finished", "expired", "refunded"])
def test_coins_that_were_named_are_owed_though_a_later_answer_names_none(later):
    payment = make_payment()
    apply(payment, make_facts(payment))
    apply(payment, make_facts(payment, later, actually_paid=Decimal(0)))
    payment.refresh_from_db()
    assert payment.actually_paid == ASKED


def test_a_part_that_is_ended_is_for_a_person_though_its_coins_are_named_no_more():
    payment = make_payment()
    apply(payment, make_facts(payment, "partially_paid"))
    outcome = apply(payment, make_facts(payment, "cancelled", actually_paid=Decimal(0)))
    payment.refresh_from_db()
    assert [outcome, payment.actually_paid] == ["review: cancelled_with_money", ASKED / 2]


def test_less_than_was_said_of_a_finished_payment_is_told():
    payment = make_payment()
    apply(payment, make_facts(payment))
    for _ in range(2):
        apply(payment, make_facts(payment, actually_paid=ASKED / 2))
    payment.refresh_from_db()
    assert [payment.status, payment.actually_paid, alerts()] == ["finished", ASKED / 2, ["payment_review"]]

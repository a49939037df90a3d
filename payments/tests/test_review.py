from decimal import Decimal

import pytest

from bitloot.core.decisions import DecisionRefused
from orders.alerts import raise_alert
from orders.decisions import objection_to_cancelling
from orders.models import Alert, Order
from orders.tests.factories import make_order, timeline
from payments import review, settlement
from payments.models import Payment
from payments.tests.decisions import HALF, WHY, accept, mails, money_in, now, story
from payments.tests.factories import make_payment

pytestmark = pytest.mark.django_db

# --- accept


@pytest.mark.parametrize("order_status", ["pending", "underpaid", "expired", "held"])
@pytest.mark.parametrize("status", ["review", "partially_paid"])
def test_accepting_pays_the_order_and_says_who_and_why(status, order_status):
    payment = money_in(make_order(status=order_status), status)
    accept(payment)
    order = payment.order
    assert (now(payment), payment.reason, now(order)) == ("finished", "accepted", "paid")
    assert None not in (payment.finished_at, order.paid_at)
    assert mails(order) == ["payment_received"]
    assert timeline(order)[1:] == [("staff", "", ""), ("payment", status, "finished"), ("order", order_status, "paid")]
    assert story(order) == [
        ("staff", f"Accepted as paid: {WHY}", "ada"),
        ("payment", "Our staff accepted the payment.", "ada"),
        ("order", "Our staff accepted the payment.", "ada"),
    ]


def test_accepting_closes_the_alert():
    payment = money_in()
    settlement.alert(payment.order, payment, "too_little")
    accept(payment)
    of_the_payment = Alert.objects.filter(kind="payment_review")
    assert list(of_the_payment.values_list("status", "closed_by")) == [("closed", "ada")]


def test_staff_are_mailed_about_what_was_accepted_below_its_price():
    payment = money_in(pay_amount=Decimal("0.0024"))
    accept(payment)
    payment.refresh_from_db()
    alert = Alert.objects.get(kind="accepted_below_price")
    assert (payment.credit, alert.emails.count()) == (Decimal("12.49"), 1)
    assert alert.message == f"ada accepted {payment} below its price: 12.49 of 24.99 EUR arrived. Reason: {WHY}"


def test_what_came_in_full_is_accepted_without_a_mail():
    accept(money_in(pay_amount=Decimal("0.0012")))
    assert not Alert.objects.filter(kind="accepted_below_price").exists()


@pytest.mark.parametrize(
    "status",
    [
        "creating",
        "waiting",
        "confirming",
        "confirmed",
        "sending",
        "finished",
        "expired",
        "failed",
        "cancelled",
        "refunded",
    ],
)
def test_only_what_waits_for_a_person_is_accepted(status):
    payment = money_in(status=status)
    with pytest.raises(DecisionRefused, match=status):
        accept(payment)
    assert (now(payment), now(payment.order)) == (status, "pending")


@pytest.mark.parametrize(
    "order_status",
    ["paid", "fulfilling", "fulfilled", "partially_fulfilled", "cancelled", "failed", "refund_due", "refunded"],
)
def test_an_order_that_takes_no_money_is_not_paid_by_hand(order_status):
    payment = money_in(make_order(status=order_status))
    with pytest.raises(DecisionRefused, match="refund this payment"):
        accept(payment)
    assert (now(payment), now(payment.order)) == ("review", order_status)


def test_an_order_held_after_it_was_paid_is_not_paid_twice():
    order = make_order()
    order.mark_paid(message="Paid.")
    order.hold(reason="no_key", message="Held.")
    with pytest.raises(DecisionRefused, match="takes no more money"):
        accept(money_in(order))


def test_nothing_is_accepted_without_coins():
    payment = money_in(actually_paid=Decimal(0))
    with pytest.raises(DecisionRefused, match="no coins"):
        accept(payment)


@pytest.mark.parametrize("reason", ["", "   ", "ok", "1234"])
def test_accepting_needs_a_reason(reason):
    payment = money_in()
    with pytest.raises(DecisionRefused, match="Give a reason"):
        accept(payment, reason)
    assert now(payment) == "review"


def test_five_characters_are_a_reason_to_accept():
    payment = money_in()
    accept(payment, "fraud")
    assert now(payment.order) == "paid"


def test_a_long_reason_to_accept_is_cut_to_what_its_column_takes():
    payment = money_in()
    accept(payment, "x" * 400)
    note = payment.order.events.get(kind="staff")
    assert note.message == f"Accepted as paid: {'x' * 400}"[:300]


# --- ask for the rest


def test_the_rest_is_what_all_parts_leave():
    order = make_order(status="underpaid")
    part = make_payment(order, **HALF)
    make_payment(order, **{**HALF, "credit": Decimal("2.50")})
    settlement.alert(order, part, "partially_paid")
    review.ask_for_rest(part, actor="ada")
    assert mails(order) == ["underpaid"]
    assert order.emails.get(kind="underpaid").facts == {"missing": "10.49"}
    assert story(order) == [("staff", "The customer was asked for the rest.", "ada")]
    assert Alert.objects.get().closed_by == "ada"
    assert now(order) == "underpaid"


@pytest.mark.parametrize(("status", "order_status"), [("review", "underpaid"), ("partially_paid", "held")])
def test_only_an_underpaid_order_is_asked(status, order_status):
    payment = money_in(make_order(status=order_status), status)
    with pytest.raises(DecisionRefused, match="Only an underpaid order"):
        review.ask_for_rest(payment, actor="ada")
    assert mails(payment.order) == []


# --- our numbers beside the provider's


def test_an_amount_that_was_never_asked_for_is_compared_with_nothing():
    payment = Payment(
        order=Order(), price_amount=Decimal("24.99"), price_currency="eur", pay_currency="btc", evidence={"paid": "0.1"}
    )
    lines = {line.what: line for line in review.compare(payment)}
    assert [lines["asked"].ours, lines["arrived"].theirs, lines["arrived"].differs] == [
        "–",
        "0.1",
        "nothing to compare it with",
    ]


def mismatch(**fields):
    payment = make_payment(status="review", reason="create_mismatch", **fields)
    payment.order.events.create(kind="payment", from_status="creating", to_status="review", message="Mismatch.")
    return payment


def test_a_payment_that_was_made_otherwise_is_ended_and_its_order_can_be_cancelled():
    payment = mismatch()
    raise_alert("payment_review", payment, "Look.")
    review.end(payment, actor="kim", reason="The ticker was renamed.")
    payment.refresh_from_db()
    assert [payment.status, payment.next_attempt_at] == ["cancelled", None]
    assert Alert.objects.get().status == "closed"
    assert objection_to_cancelling(payment.order) is None


@pytest.mark.parametrize("fields", [{"actually_paid": 1}, {"status": "waiting"}])
def test_only_a_payment_in_review_without_coins_is_ended(fields):
    payment = mismatch()
    Payment.objects.filter(pk=payment.pk).update(**fields)
    payment.refresh_from_db()
    with pytest.raises(DecisionRefused):
        review.end(payment, actor="kim", reason="The ticker was renamed.")


def test_ending_a_payment_without_coins_lets_the_order_be_paid_that_was_held_for_it():
    payment = make_payment(make_order(), "review", reason="nothing_paid", actually_paid=0)
    payment.order.hold(reason="nothing_paid", message="Looked at.")
    review.end(payment, actor="ada", reason=WHY)
    assert (now(payment), now(payment.order)) == ("cancelled", "pending")

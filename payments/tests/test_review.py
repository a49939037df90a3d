from decimal import Decimal

import pytest
from django.db.models.functions import Now

from bitloot.core.decisions import DecisionRefused
from orders.alerts import raise_alert
from orders.decisions import objection_to_cancelling
from orders.models import Alert, Order
from orders.tests.factories import make_order, timeline
from payments import review, settlement
from payments.models import Payment, Refund
from payments.tests.decisions import HALF, WHY, accept, mails, money_in, now, refused, story
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
    assert (payment.credit, alert.order, alert.emails.count()) == (Decimal("12.49"), payment.order, 1)
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
    with refused(f"A payment in “{status}” cannot be accepted."):
        accept(payment)
    assert (now(payment), now(payment.order)) == (status, "pending")


@pytest.mark.parametrize(
    "order_status",
    ["paid", "fulfilling", "fulfilled", "partially_fulfilled", "cancelled", "failed", "refund_due", "refunded"],
)
def test_an_order_that_takes_no_money_is_not_paid_by_hand(order_status):
    payment = money_in(make_order(status=order_status))
    with refused(f"The order is “{order_status}” and takes no more money; refund this payment."):
        accept(payment)
    assert (now(payment), now(payment.order)) == ("review", order_status)


def test_an_order_held_after_it_was_paid_is_not_paid_twice():
    order = make_order()
    order.mark_paid(message="Paid.")
    order.hold(reason="no_key", message="Held.")
    with refused("The order is “held” and takes no more money; refund this payment."):
        accept(money_in(order))


def test_nothing_is_accepted_without_coins():
    payment = money_in(actually_paid=Decimal(0))
    with refused("The provider reports no coins for this payment. Read it again first."):
        accept(payment)


def test_what_the_provider_calls_by_a_new_word_is_accepted_in_any_status():
    payment = money_in(status="waiting", provider_status="settled")
    raise_alert("payment_unknown_status", payment, "Look.")
    accept(payment)
    assert (now(payment), now(payment.order)) == ("finished", "paid")
    assert Alert.objects.get(kind="payment_unknown_status").closed_by == "ada"


@pytest.mark.parametrize("decide", [accept, lambda payment: review.ask_for_rest(payment, actor="ada")])
def test_money_that_goes_back_is_neither_accepted_nor_added_to(decide):
    payment = money_in(make_order(status="underpaid"), "partially_paid")
    Refund.objects.create(order=payment.order, payment=payment, amount=1, currency="btc", reason=WHY)
    with refused("This payment already has a refund; look at that one."):
        decide(payment)
    assert (now(payment), now(payment.order), mails(payment.order)) == ("partially_paid", "underpaid", [])


@pytest.mark.parametrize(
    ("total", "price", "arrived", "takes_two"),
    [
        (10, 10, "1.00", False),
        (10, 10, "0.80", False),  # 2.00 is missing: a fifth
        (10, 10, "0.79", True),
        (1000, 10, "0.79", False),  # a small part of a large order
        (1000, 1000, "0.90", False),  # 100.00 is missing
        (1000, 1000, "0.89", True),
    ],
)
def test_waiving_a_large_part_takes_two(settings, total, price, arrived, takes_two):
    settings.APPROVAL_LIMIT, settings.APPROVAL_SHARE = Decimal(100), Decimal("0.2")
    coins = {"pay_amount": Decimal(1), "actually_paid": Decimal(arrived)}
    payment = Payment(order=Order(total=Decimal(total)), price_amount=Decimal(price), **coins)
    assert review.acceptance_takes_two(payment, {}) is takes_two


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
    with refused("Only an underpaid order can be asked for the rest."):
        review.ask_for_rest(payment, actor="ada")
    assert mails(payment.order) == []


# --- end


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
    assert (Alert.objects.get().status, Alert.objects.get().closed_by) == ("closed", "kim")
    assert objection_to_cancelling(payment.order) is None
    assert story(payment.order)[1:] == [
        ("staff", "The ticker was renamed.", "kim"),
        ("payment", "Our staff ended this payment; nothing was paid into it.", "kim"),
    ]


@pytest.mark.parametrize(
    ("fields", "objection"),
    [
        ({"actually_paid": 1}, "Coins arrived for it. Accept or refund them instead."),
        ({"status": "waiting"}, "Only a payment in review can be ended."),
    ],
)
def test_only_a_payment_in_review_without_coins_is_ended(fields, objection):
    payment = mismatch()
    Payment.objects.filter(pk=payment.pk).update(**fields)
    payment.refresh_from_db()
    with refused(objection):
        review.end(payment, actor="kim", reason="The ticker was renamed.")
    assert story(payment.order) == [("payment", "Mismatch.", "")]


@pytest.mark.parametrize("before", ["pending", "underpaid"])
def test_ending_a_payment_without_coins_lets_the_order_be_paid_that_was_held_for_it(before):
    payment = money_in(make_order(status=before), reason="nothing_paid", actually_paid=0)
    payment.order.hold(reason="nothing_paid", message="Looked at.")
    review.end(payment, actor="ada", reason=WHY)
    assert (now(payment), now(payment.order)) == ("cancelled", before)
    assert ("order", "Our staff let this order be paid again.", "ada") in story(payment.order)


@pytest.mark.parametrize(
    "order",
    [
        {"status": "held", "reason": "held_by_staff"},
        {"status": "held", "reason": "nothing_paid", "paid_at": Now()},
        {"status": "failed", "reason": "nothing_paid"},
        {"status": "pending"},
    ],
)
def test_ending_a_payment_leaves_an_order_alone_that_was_not_held_for_it(order):
    payment = money_in(make_order(**order), reason="nothing_paid", actually_paid=0)
    review.end(payment, actor="ada", reason=WHY)
    assert (now(payment), now(payment.order)) == ("cancelled", order["status"])


def test_an_order_stays_held_while_another_payment_of_it_is_in_review():
    order = make_order(status="held", reason="nothing_paid")
    first, second = (money_in(order, reason="nothing_paid", actually_paid=0) for _ in range(2))
    review.end(first, actor="ada", reason=WHY)
    assert now(order) == "held"
    review.end(second, actor="ada", reason=WHY)
    assert now(order) == "pending"


# --- what staff read


@pytest.mark.parametrize(
    ("constant", "name", "label", "permission", "consequence", "done"),
    [
        (
            "ACCEPT", "accept", "Accept as paid", "payments.accept_payment",
            "The order counts as paid and its keys are bought, against the rule. This cannot be undone.",
            "accepted. The order counts as paid, and its keys are bought now.",
        ),
        (
            "ASK_FOR_REST", "ask", "Ask for the rest", "payments.ask_for_rest",
            "The customer gets a mail that names the missing amount; their page lets them pay it in any coin.",
            "the customer is asked for the rest by mail.",
        ),
        (
            "END", "end", "End this payment", "payments.end_payment",
            "The payment ends; nothing was paid into it. The customer chooses another coin on the order's page.",
            "ended. The customer can pay with another coin; coins that still arrive for it go to manual review.",
        ),
    ],
)  # fmt: skip
def test_staff_read_what_a_decision_does_and_what_happens_next(constant, name, label, permission, consequence, done):
    decision = getattr(review, constant)
    assert (decision.name, decision.label, decision.permission) == (name, label, permission)
    assert (decision.consequence, decision.done) == (consequence, done)

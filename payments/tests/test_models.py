from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction

from orders.exceptions import InvalidTransition
from orders.tests.factories import make_order, timeline
from payments.models import Coin, Payment, Refund
from payments.tests.factories import make_coin, make_payment

pytestmark = pytest.mark.django_db
STATUSES = Payment.Status.values
ASIDE = {"partially_paid", "expired", "failed", "cancelled", "refunded", "review"}
# Written out once more, so that a change of the table in the model is a decision and not a slip.
ALLOWED = {
    "creating": {"waiting", "confirming", "confirmed", "sending", "finished"} | ASIDE,
    "waiting": {"confirming", "confirmed", "sending", "finished"} | ASIDE,
    "confirming": {"confirmed", "sending", "finished"} | ASIDE,
    "confirmed": {"sending", "finished"} | ASIDE,
    "sending": {"finished"} | ASIDE,
    "finished": {"refunded"},
    "partially_paid": {"finished", "refunded", "review", "cancelled"},
    "expired": {"confirming", "confirmed", "sending", "finished"} | ASIDE - {"expired"},
    "failed": {"review", "refunded"},
    "cancelled": {"review", "refunded"},
    "refunded": {"review"},
    "review": {"finished", "refunded", "cancelled"},
}


def make_refund(**fields):
    payment = make_payment(actually_paid=Decimal("0.5"))
    return Refund.objects.create(
        **{
            "order": payment.order,
            "payment": payment,
            "amount": Decimal("0.5"),
            "currency": "btc",
            "reason": "r",
            **fields,
        }
    )


def test_every_status_is_in_the_table():
    assert set(ALLOWED) == set(STATUSES) == set(Payment.TRANSITIONS)


@pytest.mark.once
@pytest.mark.parametrize(("start", "to"), [(start, to) for start in STATUSES for to in STATUSES])
def test_a_move_is_allowed_repeated_or_refused(start, to):
    payment = make_payment(status=start)
    before = timeline(payment.order)
    if start == to:
        assert payment.move(to, message="m") is False
        expected = before
    elif to in ALLOWED[start]:
        assert payment.move(to, message="m" * 400, actor="ada") is True
        expected = [*before, ("payment", start, to)]
        event = payment.order.events.last()
        assert [event.message, event.actor] == ["m" * 300, "ada"]
    else:
        with pytest.raises(InvalidTransition, match=f"{start} -> {to}"):
            payment.move(to, message="m")
        expected = before
    assert timeline(payment.order) == expected
    assert Payment.objects.get().status == payment.status == (to if expected != before else start)


@pytest.mark.parametrize(
    ("start", "to", "allowed"),
    [
        ("requested", "sent", True), ("sent", "done", True), ("requested", "done", False),
        ("sent", "requested", False), ("done", "sent", False), ("done", "requested", False),
    ],
)  # fmt: skip
def test_a_refund_goes_forwards_only(start, to, allowed):
    refund = make_refund(status=start)
    if allowed:
        assert refund.move(to, message="m", actor="ada") is True
        assert refund.move(to, message="m", actor="ada") is False
        assert timeline(refund.order)[-1] == ("refund", start, to)
    else:
        with pytest.raises(InvalidTransition, match=f"{start} -> {to}"):
            refund.move(to, message="m", actor="ada")
    assert Refund.objects.get().status == (to if allowed else start)


BAD_SQL = [
    ("payment_status_known", "UPDATE payments_payment SET status = 'payed'"),
    ("payment_price_positive", "UPDATE payments_payment SET price_amount = 0, credit = 0"),
    ("payment_paid_not_negative", "UPDATE payments_payment SET actually_paid = -1"),
    ("payment_credit_within_price", "UPDATE payments_payment SET credit = price_amount + 1"),
    ("payment_credit_within_price", "UPDATE payments_payment SET credit = -1"),
    ("refund_amount_positive", "UPDATE payments_refund SET amount = 0"),
    ("refund_status_known", "UPDATE payments_refund SET status = 'x'"),
]


@pytest.mark.parametrize(("name", "sql"), BAD_SQL, ids=[sql for _, sql in BAD_SQL])
def test_the_database_refuses_what_must_never_be(name, sql):
    make_refund()
    with pytest.raises(IntegrityError, match=name), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)


def test_one_payment_of_the_provider_is_one_row():
    payment = make_payment()
    with pytest.raises(IntegrityError), transaction.atomic():
        make_payment(external_id=payment.external_id)
    make_payment(external_id=None)
    make_payment(external_id=None)


def test_a_transaction_belongs_to_one_refund():
    refund = make_refund(transaction_id="0xAB12cd")
    for _ in range(2):  # what the provider sent back has no transaction that we know
        make_refund(transaction_id="sent by the provider")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_refund(transaction_id="0xab12CD")
    assert Refund.objects.filter(transaction_id=refund.transaction_id).count() == 1


def test_names_for_people():
    order = make_order()
    payment = make_payment(order, external_id="5077125051")
    unnamed = make_payment(order, external_id=None)
    refund = make_refund()
    assert [str(payment), str(unnamed)] == ["payment 5077125051", f"payment {unnamed.id}"]
    assert [str(refund), str(make_coin()), str(Coin(code="eth", name="Ether"))] == [
        f"refund {refund.id}",
        "Btc (btc)",
        "Ether (eth)",
    ]

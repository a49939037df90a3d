"""IPNs and the sweep, one by one; whole stories over HTTP are in test_stories.py."""

import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
import requests
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.core.outcome import Outcome, OutcomeKind
from bitloot.core.providers import CredentialsRefused, ProviderError, ProviderUnavailable, UnreadableAnswer
from orders.models import Alert, Order
from orders.tests.factories import make_order, timeline
from payments import settlement, sync
from payments.choices import ReviewReason
from payments.creation import UNANSWERED_FOR
from payments.exceptions import UnknownPayment
from payments.ipn import IpnHint
from payments.models import Payment
from payments.settlement import LOOK_AFTER_FINISH
from payments.sync import MOST_CHILDREN, WATCHED_FOR, give_up, handle_ipn, next_look, read_again, refresh, watch
from payments.tasks import drain_payments
from payments.tests.factories import (
    ADDRESS,
    alerts,
    kinds,
    make_facts,
    make_payment,
    on_read,
    read_answer,
    url,
)

pytestmark = pytest.mark.django_db


def hint(payment_id, order_id="", parent=""):
    return IpnHint(str(payment_id), "finished", str(order_id), parent)


def test_an_ipn_for_a_payment_of_ours_asks_the_provider(wire):
    payment = make_payment()
    on_read(wire, payment)
    assert handle_ipn(hint(payment.external_id, payment.order_id)) == Outcome.processed("paid")
    assert Order.objects.get().status == "paid"


def test_an_ipn_alone_pays_nothing(wire):
    payment = make_payment()
    on_read(wire, payment, "confirming")
    assert handle_ipn(hint(payment.external_id, payment.order_id)) == Outcome.processed("confirming")
    assert Order.objects.get().status == "pending"


def test_an_ipn_that_names_another_order_is_told_and_the_provider_decides(wire):
    payment, other = make_payment(), make_order()
    on_read(wire, payment)
    assert handle_ipn(hint(payment.external_id, other.id)) == Outcome.processed("paid")
    assert alerts() == ["ipn_other_order"]
    assert [payment.order.lock().status, other.lock().status] == ["paid", "pending"]


@pytest.mark.parametrize("order_id", ["", "GK-1", str(uuid.UUID(int=7)), "x" * 5000])
def test_an_ipn_of_a_stranger_is_ignored_without_a_question(wire, order_id):
    assert handle_ipn(hint(1, order_id)) == Outcome.ignored("neither payment nor order is ours")
    assert [len(wire.calls), Payment.objects.count()] == [0, 0]


def unbound(order, **fields):
    """A payment that the provider made for the order and that no row of ours names."""
    payment = make_payment(order, **fields)
    answer = read_answer(payment)
    payment.delete()
    return answer


def test_an_alert_raised_before_the_providers_id_arrived_closes_itself(wire):
    """Fails if an alert is about the payment's name: that changes when the provider's id arrives."""
    creating = make_payment(status="creating", external_id=None, reason="no_answer", pay_amount=None, pay_address="")
    settlement.alert(creating.order, creating, ReviewReason.BOUND_TWICE)
    alert = Alert.objects.get()
    assert (alert.kind, alert.about_model, alert.about_pk) == ("payment_review", "payments.payment", str(creating.pk))
    answer = unbound(creating.order)
    wire.get(url(f"/payment/{answer['payment_id']}"), json=answer)
    handle_ipn(hint(answer["payment_id"], creating.order_id))
    alert.refresh_from_db()
    assert (alert.status, alert.closed_by) == ("closed", "automatic: the provider named the payment")


def test_an_ipn_adopts_the_creation_that_stayed_without_an_answer(wire):
    creating = make_payment(status="creating", external_id=None, reason="no_answer", pay_amount=None, pay_address="")
    answer = unbound(creating.order)
    wire.get(url(f"/payment/{answer['payment_id']}"), json={**answer, "payin_extra_id": "memo-7"})
    assert handle_ipn(hint(answer["payment_id"], creating.order_id)) == Outcome.processed("paid")
    creating.refresh_from_db()
    assert [creating.external_id, creating.status, creating.pay_address, creating.payin_extra_id] == [
        str(answer["payment_id"]),
        "finished",
        ADDRESS,
        "memo-7",
    ]


def test_an_ipn_before_our_own_call_returned_waits(wire):
    creating = make_payment(status="creating", external_id=None, pay_amount=None)
    answer = unbound(creating.order)
    wire.get(url(f"/payment/{answer['payment_id']}"), json=answer)
    with pytest.raises(UnknownPayment):
        handle_ipn(hint(answer["payment_id"], creating.order_id))
    Payment.objects.update(created_at=Now() - timedelta(seconds=31))
    assert handle_ipn(hint(answer["payment_id"], creating.order_id)) == Outcome.processed("paid")


def test_a_payment_that_we_did_not_make_is_for_a_person(wire):
    order = make_order()
    answer = unbound(order)
    wire.get(url(f"/payment/{answer['payment_id']}"), json={**answer, "price_amount": "99999999999"})
    assert handle_ipn(hint(answer["payment_id"], order.id)) == Outcome.processed("review: not_created_by_us")
    payment = Payment.objects.get()
    assert [payment.parent_external_id, payment.price_amount, payment.order.status] == ["unbound", order.total, "held"]


@pytest.mark.parametrize("names_order", [True, False])
def test_a_second_deposit_is_for_a_person(wire, names_order):
    parent = make_payment(make_order(status="fulfilled", paid_at=Now()), status="finished")
    answer = unbound(parent.order)
    wire.get(
        url(f"/payment/{answer['payment_id']}"),
        json={
            **answer,
            "parent_payment_id": int(parent.external_id),
            "order_id": answer["order_id"] if names_order else None,
        },
    )
    order_id = parent.order_id if names_order else ""
    came = handle_ipn(hint(answer["payment_id"], order_id, parent.external_id))
    assert came == Outcome.processed("review: child_payment")
    child = Payment.objects.get(external_id=answer["payment_id"])
    assert [child.parent_external_id, child.order, child.order.status] == [
        parent.external_id,
        parent.order,
        "fulfilled",
    ]


def test_a_payment_that_the_provider_knows_for_another_order_is_not_adopted(wire):
    order = make_order()
    answer = unbound(order)
    wire.get(url(f"/payment/{answer['payment_id']}"), json={**answer, "order_id": "GK-1"})
    assert handle_ipn(hint(answer["payment_id"], order.id)).kind is OutcomeKind.IGNORED
    assert [alerts(), Payment.objects.count()] == [["ipn_other_order"], 0]


def test_two_ipns_of_one_unbound_payment_make_one_row(wire):
    order = make_order()
    answer = unbound(order)
    wire.get(url(f"/payment/{answer['payment_id']}"), json=answer)
    facts = make_facts(make_payment(order, external_id=str(answer["payment_id"])))
    assert sync._adopt(order, facts).external_id == str(answer["payment_id"])
    assert Payment.objects.count() == 1


UNREADABLE = [
    {"status": 404, "json": {"statusCode": 404, "code": "PAYMENT_NOT_FOUND", "message": "Payment not found"}},
    {"status": 401, "json": {"code": "AUTH_REQUIRED"}},
    {"status": 429, "body": b"<html>"},
    {"status": 500},
    {"body": b"<html>"},
    {"body": requests.ReadTimeout()},
]


@pytest.mark.parametrize("answer", UNREADABLE, ids=str)
@pytest.mark.parametrize("known", [True, False])
def test_what_cannot_be_read_now_is_read_later(wire, answer, known):
    payment = make_payment()
    order, external_id = payment.order, payment.external_id
    if not known:
        payment.delete()
    wire.get(url(f"/payment/{external_id}"), **answer)
    with pytest.raises(ProviderError):
        handle_ipn(hint(external_id, order.id))
    assert Order.objects.get().status == "pending"
    # Only a refused key is told at once; it is nothing that waiting mends.
    assert alerts() == (["provider_credentials"] if answer.get("status") == 401 else [])


WRONG_ANSWERS = [
    {"payment_id": 1},
    {"actually_paid": "NaN"},
    {"actually_paid": -1},
    {"actually_paid": 10**20},
    {"pay_amount": None},
    {"parent_payment_id": "x"},
    {"order_id": 7},
]


@pytest.mark.parametrize("changes", WRONG_ANSWERS, ids=str)
def test_an_answer_that_makes_no_sense_changes_nothing(wire, changes):
    payment = make_payment()
    on_read(wire, payment, **changes)
    with pytest.raises(ProviderUnavailable):
        refresh(payment)
    payment.refresh_from_db()
    assert [payment.status, payment.evidence, payment.order.status] == ["waiting", {}, "pending"]


def test_an_odd_member_that_decides_nothing_is_kept_as_a_note(wire):
    payment = make_payment()
    on_read(wire, payment, payin_extra_id=[], purchase_id="0b8f-4b7e")
    refresh(payment)
    payment.refresh_from_db()
    assert payment.status == "finished"
    assert payment.evidence["notes"] == [
        "purchase_id is not what was expected",
        "payin_extra_id is not what was expected",
    ]


def test_late_coins_are_weighed_by_a_fresh_estimate_and_kept_for_staff_where_nobody_knows(wire):
    """The outcome's coin has no rate, nor has the coin that was paid in: staff decide."""
    payment = make_payment(expires_at=timezone.now() - timedelta(days=7))
    on_read(wire, payment, outcome_amount="1", outcome_currency="xyz")
    wire.get(url("/estimate"), status=400, json={"code": "BAD_REQUEST", "message": "Can not get estimate"})
    refresh(payment)
    payment.refresh_from_db()
    assert [payment.status, payment.reason] == ["review", "late_rate"]


@pytest.mark.parametrize(("outcome", "status"), [("24.62", "finished"), ("24.61", "review")])
def test_an_outcome_in_the_price_s_currency_needs_no_estimate(wire, outcome, status):
    payment = make_payment(expires_at=timezone.now() - timedelta(days=7))
    on_read(wire, payment, outcome_amount=outcome, outcome_currency="eur")
    refresh(payment)
    payment.refresh_from_db()
    assert [payment.status, len(wire.calls)] == [status, 1]


def estimates(wire, needed):
    """Let the whole price cost so many coins today."""
    wire.get(url("/estimate"), json={"currency_from": "eur", "currency_to": "btc", "estimated_amount": needed})


def reread(wire, payment, status, paid):
    said = read_answer(payment, status, actually_paid=paid, outcome_amount=None)
    wire.upsert("GET", url(f"/payment/{payment.external_id}"), json=said)
    refresh(payment)
    payment.refresh_from_db()
    return [payment.status, payment.reason, payment.credit]


def test_a_part_that_came_late_counts_at_today_s_rate_and_no_reading_raises_it(wire):
    """Fails if a part that comes after the quote's end is credited at the quote's rate: here 12.49."""
    payment = make_payment(pay_amount="0.0004", expires_at=timezone.now() - timedelta(days=7))
    estimates(wire, "0.0005")
    assert reread(wire, payment, "partially_paid", "0.0002") == ["partially_paid", "too_little", Decimal("9.99")]
    assert reread(wire, payment, "partially_paid", "0.0002") == ["partially_paid", "too_little", Decimal("9.99")]


def test_a_part_whose_coin_rose_counts_as_agreed(wire):
    payment = make_payment(pay_amount="0.0004", expires_at=timezone.now() - timedelta(days=7))
    estimates(wire, "0.0003")
    assert reread(wire, payment, "partially_paid", "0.0002") == ["partially_paid", "too_little", Decimal("12.49")]


def test_a_late_part_of_which_nobody_says_what_it_is_worth_is_for_staff(wire):
    payment = make_payment(pay_amount="0.0004", expires_at=timezone.now() - timedelta(days=7))
    wire.get(url("/estimate"), status=400, json={"code": "BAD_REQUEST", "message": "Can not get estimate"})
    assert reread(wire, payment, "partially_paid", "0.0002")[:2] == ["review", "late_rate"]


@pytest.mark.parametrize(
    ("needed", "end"),
    [("0.0004", ["finished", ""]), ("0.0005", ["review", "late_rate"])],
)
def test_what_came_in_time_keeps_its_worth_and_what_came_later_is_weighed(wire, needed, end):
    """Fails if one coin sent in time keeps the quote's rate for all that follow, however late they come."""
    payment = make_payment(pay_amount="0.0004", expires_at=timezone.now() + timedelta(minutes=20))
    assert reread(wire, payment, "partially_paid", "0.0002")[2] == Decimal("12.49")
    Payment.objects.update(
        expires_at=timezone.now() - timedelta(days=7), coins_seen_at=timezone.now() - timedelta(days=8)
    )
    payment.refresh_from_db()
    estimates(wire, needed)
    assert reread(wire, payment, "finished", "0.0004")[:2] == end


def test_more_of_a_part_that_comes_late_counts_at_today_s_rate(wire):
    payment = make_payment(pay_amount="0.0004", expires_at=timezone.now() + timedelta(minutes=20))
    assert reread(wire, payment, "partially_paid", "0.0001")[2] == Decimal("6.24")
    Payment.objects.update(
        expires_at=timezone.now() - timedelta(days=7), coins_seen_at=timezone.now() - timedelta(days=8)
    )
    payment.refresh_from_db()
    estimates(wire, "0.0005")
    assert reread(wire, payment, "partially_paid", "0.0003")[2] == Decimal("16.23")
    assert reread(wire, payment, "partially_paid", "0.0003")[2] == Decimal("16.23")


@pytest.mark.parametrize("status", ["finished", "partially_paid"])
def test_late_coins_wait_while_the_price_of_their_coin_is_said_to_be_nothing(wire, status):
    payment = make_payment(expires_at=timezone.now() - timedelta(days=7))
    on_read(wire, payment, status)
    estimates(wire, 0)
    with pytest.raises(UnreadableAnswer):
        refresh(payment)


def test_late_coins_are_not_weighed_by_the_estimate_of_another_pair(wire):
    payment = make_payment(expires_at=timezone.now() - timedelta(days=7))
    on_read(wire, payment)
    wire.get(url("/estimate"), json={"currency_from": "eur", "currency_to": "doge", "estimated_amount": "1e-9"})
    with pytest.raises(UnreadableAnswer):
        refresh(payment)


def test_a_late_part_never_counts_for_more_than_was_agreed_however_absurd_the_rate(wire):
    payment = make_payment(pay_amount="0.0004", expires_at=timezone.now() - timedelta(days=7))
    estimates(wire, "1e-40")
    assert reread(wire, payment, "partially_paid", "0.0002")[2] == Decimal("12.49")


@pytest.mark.parametrize("paid", [None, 0])
def test_a_part_of_which_nobody_says_how_much_it_is_asks_the_customer_for_nothing(wire, paid):
    payment = make_payment()
    on_read(wire, payment, "partially_paid", actually_paid=paid)
    with pytest.raises(UnreadableAnswer):
        refresh(payment)
    assert [Order.objects.get().status, kinds(payment.order)] == ["pending", []]


def test_an_amount_with_more_digits_than_are_stored_is_news_once(wire):
    payment = make_payment()
    on_read(wire, payment, actually_paid="0.00" + "9" * 38)
    for _ in range(3):
        payment.refresh_from_db()
        refresh(payment)
    assert kinds(payment.order) == ["payment_received", "overpaid", "alert"]


@pytest.mark.parametrize(("status", "error"), [(503, ProviderUnavailable), (401, CredentialsRefused)])
def test_late_coins_wait_for_an_estimate_that_does_not_come(wire, status, error):
    payment = make_payment(expires_at=timezone.now() - timedelta(days=7))
    on_read(wire, payment)
    wire.get(url("/estimate"), status=status)
    with pytest.raises(error):
        refresh(payment)
    payment.refresh_from_db()
    assert payment.status == "waiting"


def test_a_payment_without_a_name_is_not_asked_for():
    assert refresh(make_payment(external_id=None)) == "the provider has not named this payment yet"


def work(payment):
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=Now(), claim_token=None)
    drain_payments()
    payment.refresh_from_db()
    return payment


def due_in(payment, seconds):
    near = Payment.objects.filter(pk=payment.pk, next_attempt_at__lte=Now() + timedelta(seconds=seconds + 1))
    return near.filter(next_attempt_at__gte=Now() + timedelta(seconds=seconds - 20)).exists()


def test_a_payment_whose_ipns_never_arrive_is_paid_all_the_same(wire):
    payment = make_payment()
    on_read(wire, payment, "confirming")
    assert [work(payment).status, due_in(payment, 30)] == ["confirming", True]
    wire.reset()
    on_read(wire, payment)
    assert [work(payment).status, due_in(payment, LOOK_AFTER_FINISH), payment.order.status] == [
        "finished",
        True,
        "paid",
    ]


def test_a_payment_that_an_ipn_finished_is_asked_for_once_more_an_hour_later(wire):
    payment = make_payment()
    assert due_in(payment, 0)
    on_read(wire, payment)
    assert refresh(payment) == "paid"
    payment.refresh_from_db()
    assert [payment.status, due_in(payment, LOOK_AFTER_FINISH)] == ["finished", True]
    Payment.objects.update(finished_at=Now() - timedelta(seconds=LOOK_AFTER_FINISH))
    assert work(payment).next_attempt_at is None


def test_who_is_asking_when_an_ipn_finishes_a_payment_ends_that_in_peace(wire):
    payment = make_payment()
    Payment.objects.update(next_attempt_at=Now())
    (claimed,) = Payment.objects.all().claim()
    on_read(wire, payment)
    assert refresh(Payment.objects.get(pk=payment.pk)) == "paid"
    payment.refresh_from_db()
    assert payment.next_attempt_at == claimed.next_attempt_at  # when it is looked at if that worker dies now
    watch(claimed)
    payment.refresh_from_db()
    assert [due_in(payment, LOOK_AFTER_FINISH), payment.claim_token] == [True, None]


def test_a_provider_that_is_away_is_asked_less_often_and_forgiven_at_once(wire):
    payment = make_payment()
    wire.get(url(f"/payment/{payment.external_id}"), status=429, body=b"<html>")
    for attempts in (1, 2, 3):
        assert [work(payment).attempts, payment.status] == [attempts, "waiting"]
    wire.reset()
    on_read(wire, payment, "waiting")
    assert [work(payment).attempts, due_in(payment, 30)] == [0, True]


AGES = [
    ("waiting", timedelta(minutes=1), 30),
    ("confirming", timedelta(minutes=31), 120),
    ("confirmed", timedelta(hours=3), 900),
    ("sending", timedelta(days=2), 3600),
    ("waiting", WATCHED_FOR + timedelta(minutes=1), 6 * 3600),
    ("expired", timedelta(days=6), 3600),
    ("partially_paid", timedelta(days=6), 3600),
    ("expired", WATCHED_FOR + timedelta(minutes=1), None),
    ("partially_paid", WATCHED_FOR + timedelta(minutes=1), None),
    *((status, timedelta(minutes=1), None) for status in ("finished", "failed", "cancelled", "refunded", "review")),
]


@pytest.mark.parametrize(("status", "age", "seconds"), AGES, ids=str)
def test_how_often_a_payment_is_looked_at(status, age, seconds):
    payment = make_payment(status=status)
    Payment.objects.update(created_at=Now() - age)
    payment.refresh_from_db()
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert next_look(payment) == expected


def test_a_creation_without_an_answer_ends_after_an_hour():
    payment = make_payment(status="creating", external_id=None, reason="no_answer")
    assert [work(payment).status, payment.next_attempt_at is not None] == ["creating", True]
    Payment.objects.update(created_at=Now() - UNANSWERED_FOR)
    assert [work(payment).status, payment.next_attempt_at] == ["expired", None]
    assert timeline(payment.order)[-1] == ("payment", "creating", "expired")


def test_a_creation_that_an_ipn_names_while_it_is_being_closed_lives_on():
    payment = make_payment(status="creating", external_id=None)
    Payment.objects.update(created_at=Now() - UNANSWERED_FOR, next_attempt_at=Now())
    (claimed,) = Payment.objects.claim()
    Payment.objects.update(external_id="5", status="waiting")
    sync.watch(claimed)
    payment.refresh_from_db()
    assert [payment.status, payment.claim_token, due_in(payment, 0)] == ["waiting", None, True]


def test_a_payment_that_kills_its_worker_rests_for_an_hour():
    payment = make_payment()
    Payment.objects.update(next_attempt_at=Now())
    (claimed,) = Payment.objects.claim()
    give_up(claimed)
    assert [due_in(payment, 3600), alerts()] == [True, ["payment_poison"]]


def test_a_person_need_not_wait():
    payment = make_payment()
    Payment.objects.update(next_attempt_at=None)
    read_again(payment)
    assert due_in(payment, 0)


def test_a_second_deposit_that_only_its_parent_lists_is_for_a_person(wire):
    parent = make_payment()
    answer = unbound(parent.order)
    on_read(wire, parent, payment_extra_ids=[answer["payment_id"]])
    wire.get(url(f"/payment/{answer['payment_id']}"), json=answer)
    assert refresh(parent) == "paid"
    child = Payment.objects.exclude(pk=parent.pk).get()
    assert [child.external_id, child.status, child.reason] == [str(answer["payment_id"]), "review", "child_payment"]
    assert [child.parent_external_id, alerts()] == [parent.external_id, ["payment_review"]]
    calls = len(wire.calls)
    refresh(parent)
    assert [len(wire.calls), Payment.objects.count()] == [calls + 1, 2]


def test_an_endless_list_of_deposits_is_told_and_not_read_to_its_end(wire):
    payment = make_payment()
    on_read(wire, payment, payment_extra_ids=[*[int(payment.external_id)] * MOST_CHILDREN, 7])
    assert [refresh(payment), len(wire.calls), alerts()] == ["paid", 1, ["payment_review"]]


def test_a_second_deposit_that_cannot_be_read_is_told(wire):
    parent = make_payment()
    on_read(wire, parent, payment_extra_ids=[7])
    wire.get(url("/payment/7"), status=500)
    assert refresh(parent) == "paid"
    assert [alerts(), Payment.objects.count()] == [["payment_review"], 1]


def test_when_to_look_again_is_by_the_databases_clock(monkeypatch):
    payment = make_payment(next_attempt_at=Now())
    [claimed] = Payment.objects.claim(only=payment.pk)
    right = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: right() + timedelta(days=30))
    assert next_look(claimed) == timedelta(seconds=30)

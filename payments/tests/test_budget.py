"""Our limit of calls to the provider: money and open pages come first, new payments last, and nothing gets lost."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from bitloot.core.providers import OverBudget, Urgency
from orders.models import Order
from orders.tests.factories import make_order
from payments.creation import start_payment
from payments.exceptions import ProviderBusy, TooManyQuotes
from payments.ipn import IpnHint
from payments.models import Payment
from payments.nowpayments import NowPaymentsClient
from payments.sync import POLLS_LEFT_OUT, handle_ipn, watch
from payments.tests.factories import alerts, make_coin, make_payment, on_create, on_read, read_answer, url
from payments.tests.test_views import bearer, pay

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("patient_customers")]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    for urgency in Urgency:
        monkeypatch.setattr(urgency, "patience", 0.0)


@pytest.fixture
def four_calls(settings):
    """A bucket of four calls that never fills up again."""
    settings.NOWPAYMENTS_CALLS_PER_SECOND = 0.001


def claimed(payment):
    """The payment as the worker takes it."""
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=Now() - timedelta(seconds=1))
    return Payment.objects.claim(only=payment.pk)[0]


def made(wire):
    """How many payments the provider was asked to make."""
    return sum(call.request.method == "POST" for call in wire.calls)


def use_up(wire, number, urgency=Urgency.FIRST):
    wire.get(url("/payment/1"), status=404, json={"code": "NOT_FOUND", "message": "not found"})
    for _ in range(number):
        with pytest.raises(Exception, match="NOT_FOUND"):
            NowPaymentsClient.from_settings().read_payment("1", urgency=urgency)


@pytest.mark.django_db(transaction=True)  # new payments are asked for in threads with connections of their own
@pytest.mark.usefixtures("four_calls")
def test_reads_find_room_where_new_payments_find_none(client, wire, order):
    on_create(wire)
    assert pay(client, order, "btc").status_code == 201
    assert pay(client, order, "eth").status_code == 201
    other = make_order()
    answer = pay(client, other, "btc")
    assert [answer.status_code, answer.json()["code"]] == [503, "provider_busy"]
    assert 990 <= int(answer["Retry-After"]) <= 1000
    assert answer["Retry-After"] in answer.json()["detail"]
    assert [other.payments.get().status, other.payments.get().reason] == ["failed", "refused"]
    read = order.payments.first()
    Payment.objects.filter(pk=read.pk).update(attempts=POLLS_LEFT_OUT)
    on_read(wire, read, "waiting")
    watch(claimed(read))
    read.refresh_from_db()
    assert read.read_at is not None


@pytest.mark.usefixtures("four_calls")
def test_payment_that_nobody_looks_at_waits_for_room_and_nobody_is_told(wire):
    payment = make_payment()
    use_up(wire, 3)
    watch(claimed(payment))
    payment.refresh_from_db()
    assert [payment.read_at, payment.unread_since, payment.attempts, payment.claim_token] == [None, None, 1, None]
    assert alerts() == []
    assert not Payment.objects.filter(next_attempt_at__lt=Now() + timedelta(seconds=25)).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("four_calls")
def test_new_payment_finds_room_where_payments_that_nobody_looks_at_find_none(client, wire, order):
    """Fails if open payments are re-read before new ones are made: a shop of many would refuse its customers."""
    on_create(wire)
    use_up(wire, 1)
    unread = make_payment()
    watch(claimed(unread))
    assert pay(client, order, "btc").status_code == 201
    unread.refresh_from_db()
    assert [unread.read_at, unread.attempts] == [None, 1]


@pytest.mark.usefixtures("four_calls")
def test_payment_that_was_left_out_too_often_is_read_before_new_ones_are_made(wire):
    """Fails if new payments, which anybody may ask for, keep a payment unread for ever whose IPN was lost."""
    payment = make_payment(attempts=POLLS_LEFT_OUT)
    on_read(wire, payment, "waiting")
    use_up(wire, 2)
    watch(claimed(payment))
    payment.refresh_from_db()
    assert [payment.read_at is not None, payment.attempts] == [True, 0]


@pytest.mark.usefixtures("four_calls")
@pytest.mark.parametrize("fields", [{"status": "confirming"}, {"status": "partially_paid", "actually_paid": 1}])
def test_payment_with_coins_takes_the_last_room(wire, fields):
    payment = make_payment(**fields)
    on_read(wire, payment, "confirming")
    use_up(wire, 3)
    watch(claimed(payment))
    payment.refresh_from_db()
    assert payment.read_at is not None


@pytest.mark.usefixtures("four_calls")
def test_payment_whose_page_is_open_takes_the_last_room(client, wire, django_assert_num_queries):
    payment = make_payment()
    assert client.get(f"/api/orders/{payment.order_id}", headers=bearer(payment.order)).status_code == 200
    on_read(wire, payment, "waiting")
    use_up(wire, 3)
    watch(claimed(payment))
    payment.refresh_from_db()
    assert payment.read_at is not None


def test_open_page_is_noted_once_a_minute_and_not_once_the_order_is_paid(client):
    payment = make_payment()

    def look():
        client.get(f"/api/orders/{payment.order_id}", headers=bearer(payment.order))
        return Payment.objects.get().shown_at

    first = look()
    assert first is not None
    assert look() == first
    Payment.objects.update(shown_at=None)
    Order.objects.update(status="fulfilled")
    assert look() is None


@pytest.mark.usefixtures("four_calls")
@pytest.mark.parametrize("word", ["waiting", "expired"])
def test_ipn_that_tells_of_no_coins_is_left_to_the_sweep(wire, word):
    payment = make_payment()
    use_up(wire, 3)
    outcome = handle_ipn(IpnHint(str(payment.external_id), word, str(payment.order_id), ""))
    assert "when it is due" in outcome.text
    assert Payment.objects.get().next_attempt_at is not None


@pytest.mark.usefixtures("four_calls")
def test_ipn_that_tells_of_coins_takes_the_last_room_and_then_comes_again(wire):
    payment = make_payment()
    wire.get(url(f"/payment/{payment.external_id}"), json=read_answer(payment, "confirming"))
    use_up(wire, 3)
    hint = IpnHint(str(payment.external_id), "confirming", str(payment.order_id), "")
    handle_ipn(hint)
    assert Payment.objects.get().status == "confirming"
    with pytest.raises(OverBudget):
        handle_ipn(hint)


def test_call_waits_for_its_turn(wire, settings, monkeypatch):
    """Fails if a call that finds the bucket empty is sent all the same, or is given up at once."""
    settings.NOWPAYMENTS_CALLS_PER_SECOND = 50  # the bucket holds 100
    monkeypatch.setattr(Urgency.FIRST, "patience", 60.0)
    use_up(wire, 103)
    assert len(wire.calls) == 103


def test_without_a_limit_nothing_is_counted(wire, settings, django_assert_num_queries):
    settings.NOWPAYMENTS_CALLS_PER_SECOND = 0
    with django_assert_num_queries(0):
        use_up(wire, 10)


def test_order_has_three_open_payments_at_most(client, wire, order):
    make_coin("ltc")
    make_coin("doge")
    on_create(wire, expiration_estimate_date="2999-01-01T00:00:00.000Z")
    assert [pay(client, order, coin).status_code for coin in ("btc", "eth", "ltc")] == [201] * 3
    answer = pay(client, order, "doge")
    assert [answer.status_code, answer.json()["code"]] == [429, "too_many_quotes"]
    assert int(answer["Retry-After"]) > 3600
    assert pay(client, order, "eth").status_code == 201  # the open one
    assert [order.payments.count(), made(wire)] == [3, 3]
    Payment.objects.filter(pay_currency="btc").update(expires_at=Now() - timedelta(seconds=1))
    assert pay(client, order, "doge").status_code == 201


def test_sentence_says_when_another_coin_can_be_chosen(client, wire, order, settings):
    settings.PAYMENT_QUOTES_PER_ORDER = 1
    make_payment(order, expires_at=Now() + timedelta(minutes=7, seconds=30))
    answer = pay(client, order, "eth")
    assert answer.json()["detail"] == (
        "This order has enough open payments. Choose one of their coins, or another one in 8 minutes."
    )
    assert 440 <= int(answer["Retry-After"]) <= 450


def test_ended_and_failed_payments_leave_room(wire, order, settings):
    settings.PAYMENT_QUOTES_PER_ORDER = 1
    on_create(wire)
    for status in ("expired", "failed", "cancelled"):
        make_payment(order, status)
    make_payment(order, "creating", external_id=None, reason="no_answer")
    assert start_payment(order=order, coin="btc").status == "waiting"
    with pytest.raises(TooManyQuotes):
        start_payment(order=order, coin="eth")


def test_client_has_a_limit_for_all_its_orders(client, wire, settings):
    settings.THROTTLE_SCALE, settings.PAYMENT_QUOTES_PER_HOUR = 1, 2
    make_coin("btc")
    on_create(wire)
    answers = [pay(client, make_order(email=f"kim{number}@example.org")) for number in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert answers[2]["Retry-After"] == "3600"
    assert "your network" in answers[2].json()["detail"]
    assert made(wire) == 2


def test_when_very_many_calls_are_under_way_the_next_is_refused_before_its_row(client, wire, order, monkeypatch):
    monkeypatch.setattr("payments.creation._calls._most", 0)
    answer = pay(client, order)
    assert [answer.status_code, answer.json()["code"], answer["Retry-After"]] == [503, "provider_busy", "10"]
    assert not Payment.objects.exists()
    with pytest.raises(ProviderBusy):
        start_payment(order=order, coin="btc")

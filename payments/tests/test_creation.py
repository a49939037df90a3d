"""A payment is started: claimed, asked for, bound, whatever the provider does meanwhile."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import requests
import responses
from django.db import connection

from orders.models import Order
from orders.tests.factories import timeline
from payments import creation
from payments.creation import start_payment
from payments.exceptions import NoAnswer, NotPayable, TooSmall, UnknownCoin
from payments.models import Coin, Payment
from payments.settlement import apply
from payments.tests.factories import (
    ADDRESS,
    ASKED,
    alerts,
    created_answer,
    make_coin,
    make_facts,
    make_payment,
    on_create,
    url,
)
from tools.dev.supervise import wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("patient_customers")]


def test_a_payment_starts_with_a_row_and_ends_with_an_address(wire, order):
    on_create(wire, payin_extra_id="memo-7")
    payment = start_payment(order=order, coin="BTC")
    assert [payment.status, payment.pay_address, payment.pay_amount, payment.payin_extra_id, payment.reason] == [
        "waiting",
        ADDRESS,
        ASKED,
        "memo-7",
        "",
    ]
    assert [payment.price_amount, payment.price_currency, payment.pay_currency] == [Decimal("24.99"), "eur", "btc"]
    assert timeline(order)[-1] == ("payment", "creating", "waiting")
    assert len(wire.calls) == 1


@pytest.mark.django_db(transaction=True)
def test_the_row_is_there_before_the_provider_is_asked(wire, order):
    seen = []

    def answer(request):
        try:
            seen.extend(Payment.objects.values_list("status", "external_id", "price_amount"))
        finally:
            connection.close()
        return 201, {}, json.dumps(created_answer(request.body))

    wire.add_callback(responses.POST, url("/payment"), answer)
    start_payment(order=order, coin="btc")
    assert seen == [("creating", None, Decimal("24.99"))]


def test_an_open_quote_in_the_same_coin_is_shown_again(wire, order):
    on_create(wire)
    first = start_payment(order=order, coin="btc")
    assert start_payment(order=order, coin="Btc") == first
    assert [len(wire.calls), Payment.objects.count()] == [1, 1]


@pytest.mark.parametrize(
    ("fields", "is_new"),
    [
        ({"expires_at": "2020-01-01T00:00:00Z"}, True),
        ({"expires_at": None}, True),
        ({"price_amount": Decimal("12.00")}, True),
        ({"status": "expired"}, True),
        ({"status": "failed"}, True),
        ({"status": "confirming", "expires_at": "2020-01-01T00:00:00Z"}, False),
        ({"status": "sending"}, False),
        ({"status": "creating", "external_id": None}, False),
        ({"status": "creating", "external_id": None, "reason": "no_answer"}, True),
        ({"status": "creating", "external_id": None, "created_at": "2020-01-01T00:00:00Z"}, True),
    ],
)
def test_what_counts_as_an_open_quote(wire, order, fields, is_new):
    on_create(wire)
    first = make_payment(order, **{"expires_at": "2999-01-01T00:00:00Z", **fields})
    assert (start_payment(order=order, coin="btc") != first) is is_new


def test_another_coin_is_another_payment_and_the_first_is_watched_on(wire, order):
    on_create(wire)
    first, second = start_payment(order=order, coin="btc"), start_payment(order=order, coin="eth")
    first.refresh_from_db()
    assert [first.pay_currency, second.pay_currency, first.status] == ["btc", "eth", "waiting"]
    assert first.next_attempt_at is not None


def test_an_underpaid_order_is_asked_for_the_rest_only(wire, order):
    first = make_payment(order)
    apply(first, make_facts(first, "partially_paid"))
    on_create(wire)
    assert start_payment(order=order, coin="eth").price_amount == Decimal("12.50")


@pytest.mark.parametrize("status", sorted(set(Order.Status.values) - {"pending", "underpaid"}))
def test_an_order_that_takes_no_money_starts_no_payment(order, status):
    Order.objects.update(status=status)
    with pytest.raises(NotPayable):
        start_payment(order=order, coin="btc")
    assert not Payment.objects.exists()


@pytest.mark.parametrize(("coin", "error"), [("doge", UnknownCoin), ("dear", TooSmall)])
def test_a_coin_that_cannot_be_paid_with_starts_no_payment(order, coin, error):
    make_coin("dear", minimum=Decimal("25.00"))
    with pytest.raises(error):
        start_payment(order=order, coin=coin)
    assert not Payment.objects.exists()


def rejection(code, message="no"):
    return {"status": 400, "json": {"statusCode": 400, "code": code, "message": message}}


REFUSED = [
    (rejection("AMOUNT_MINIMAL_ERROR"), TooSmall, "coin_refused"),
    (rejection("CURRENCY_UNAVAILABLE"), UnknownCoin, "coin_refused"),
    (rejection("INVALID_REQUEST_PARAMS"), NoAnswer, "refused"),
    ({"status": 401, "json": {"code": "AUTH_REQUIRED"}}, NoAnswer, "refused"),
    ({"body": requests.exceptions.InvalidURL("never left")}, NoAnswer, "refused"),
]


@pytest.mark.parametrize(("answer", "error", "reason"), REFUSED)
def test_a_refusal_ends_the_payment_at_once(wire, order, answer, error, reason):
    wire.post(url("/payment"), **answer)
    with pytest.raises(error):
        start_payment(order=order, coin="btc")
    payment = Payment.objects.get()
    assert [payment.status, payment.reason, payment.next_attempt_at] == ["failed", reason, None]


UNANSWERED = [
    {"body": requests.ReadTimeout()},
    {"body": requests.ConnectionError("reset")},
    {"status": 500, "body": b"<html>"},
    {"status": 429, "body": b"<html>"},
    {"status": 201, "body": b"{"},
    {"status": 201, "json": {}},
    {"status": 307, "headers": {"Location": "https://evil.example"}},
]


@pytest.mark.parametrize("answer", UNANSWERED, ids=str)
def test_without_an_answer_nobody_knows_and_the_customer_may_try_again(wire, order, answer):
    wire.post(url("/payment"), **answer)
    with pytest.raises(NoAnswer):
        start_payment(order=order, coin="btc")
    payment = Payment.objects.get()
    assert [payment.status, payment.reason, payment.external_id, payment.pay_address] == [
        "creating",
        "no_answer",
        None,
        "",
    ]
    wire.reset()
    on_create(wire)
    assert start_payment(order=order, coin="btc").status == "waiting"
    assert Payment.objects.count() == 2


@pytest.mark.parametrize("end", [None, 0, "2020-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", 10**18, "soon"])
def test_a_quote_without_a_usable_end_can_be_paid_for_the_usual_time(wire, order, end):
    """Fails if the customer is shown a quote that is over at once, or none, and each click makes another."""
    on_create(wire, expiration_estimate_date=end)
    payment = start_payment(order=order, coin="btc")
    assert payment.quote_runs
    assert start_payment(order=order, coin="btc") == payment


@pytest.mark.parametrize("changes", [{"pay_address": " "}, {"pay_address": "bc1q q"}, {"pay_amount": "1e-30"}], ids=str)
def test_a_payment_that_nobody_could_pay_is_shown_to_nobody(wire, order, changes):
    on_create(wire, **changes)
    with pytest.raises(NoAnswer):
        start_payment(order=order, coin="btc")
    assert [Payment.objects.get().status, Payment.objects.get().reason] == ["creating", "no_answer"]


def test_an_address_without_the_memo_that_its_coin_needs_is_shown_to_nobody(wire, order):
    Coin.objects.update(takes_memo=True, needs_memo=True)
    on_create(wire)
    with pytest.raises(NoAnswer):
        start_payment(order=order, coin="btc")
    assert [Payment.objects.get().reason, Payment.objects.get().pay_address] == ["no_answer", ""]
    wire.reset()
    on_create(wire, payin_extra_id=407712345)
    assert start_payment(order=order, coin="btc").payin_extra_id == "407712345"


MISMATCHES = [
    {"price_amount": 24.98}, {"price_amount": "2499"}, {"price_currency": "usd"}, {"pay_currency": "eth"},
    {"order_id": "GK-1"}, {"order_id": str(uuid.UUID(int=7))},
]  # fmt: skip


@pytest.mark.parametrize("changes", MISMATCHES, ids=str)
def test_an_answer_about_another_payment_is_shown_to_nobody(wire, order, changes):
    on_create(wire, **changes)
    with pytest.raises(NoAnswer):
        start_payment(order=order, coin="btc")
    payment = Payment.objects.get()
    assert [payment.status, payment.reason, payment.pay_address] == ["review", "create_mismatch", ""]
    assert [payment.external_id is not None, alerts()] == [True, ["payment_review"]]


def test_a_payment_that_another_order_has_is_bound_to_nobody(wire, order):
    taken = make_payment()
    on_create(wire, payment_id=taken.external_id)
    with pytest.raises(NoAnswer):
        start_payment(order=order, coin="btc")
    payment = order.payments.get()
    assert [payment.status, payment.external_id, payment.reason, alerts()] == [
        "creating",
        None,
        "no_answer",
        ["payment_review"],
    ]


def test_an_ipn_that_was_faster_has_bound_the_payment_already(wire, order, at):
    """The IPN knows the address; the memo and the end of the quote come with the answer."""

    def bind_first():
        Payment.objects.update(external_id="77", status="confirming", pay_amount=ASKED, pay_address=ADDRESS)

    on_create(wire, payment_id="77", payin_extra_id="memo-7")
    at("payment.created", bind_first)
    payment = start_payment(order=order, coin="btc")
    assert [payment.status, payment.payin_extra_id, payment.expires_at.year] == ["confirming", "memo-7", 2999]


@pytest.fixture
def slow(wire, monkeypatch):
    """A provider that answers only when it is told to; customers wait a moment."""
    go = threading.Event()
    monkeypatch.setattr(creation, "CUSTOMER_WAITS", 0.05)

    def answer_with(**changes):
        def answer(request):
            go.wait(60)
            if "error" in changes:
                raise changes["error"]
            return 201, {}, json.dumps(created_answer(request.body, **changes))

        wire.add_callback(responses.POST, url("/payment"), answer)
        return go

    yield answer_with
    go.set()


LATE = [
    ({}, "waiting", ""),
    ({"price_amount": 1}, "review", "create_mismatch"),
    ({"error": requests.ReadTimeout()}, "creating", "no_answer"),
    ({"error": requests.exceptions.InvalidURL()}, "failed", "refused"),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("changes", "status", "reason"), LATE, ids=str)
def test_a_slow_answer_is_recorded_when_it_comes(slow, order, changes, status, reason):
    go = slow(**changes)
    payment = start_payment(order=order, coin="btc")
    assert [payment.status, payment.pay_address] == ["creating", ""]
    assert start_payment(order=order, coin="btc") == payment
    go.set()
    recorded = Payment.objects.filter(status=status, reason=reason)
    wait_until(recorded.exists, seconds=60, what="the record of the late answer")
    assert Payment.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_bug_in_a_slow_call_is_written_down(slow, order, caplog):
    go = slow(error=ZeroDivisionError())
    start_payment(order=order, coin="btc")
    go.set()
    wait_until(lambda: "ZeroDivisionError" in caplog.text, seconds=60, what="the line in the log")
    assert Payment.objects.get().status == "creating"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_eight_clicks_at_once_one_asks_the_provider(wire, order):
    """Fails without the order's lock in start_payment: each click then makes a payment of its own."""
    on_create(wire)
    start = threading.Barrier(8)

    def click(_):
        start.wait()
        try:
            return start_payment(order=Order.objects.get(), coin="btc").pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(click, range(8)))) == 1
    assert [len(wire.calls), Payment.objects.count()] == [1, 1]

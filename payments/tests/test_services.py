"""The steps one by one; whole stories over HTTP are in test_stories.py."""

import json
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
import requests
import responses
from django.db import connection
from django.db.models.functions import Now

from bitloot.lib.http import ProviderError, ProviderUnavailable
from orders.models import Alert, Email, Order
from orders.tests.factories import make_order, make_product, timeline
from payments import services
from payments.exceptions import NoAnswer, NotPayable, TooSmall, UnknownCoin, UnknownPayment
from payments.models import Payment, Refund
from payments.nowpayments import ProviderStatus
from payments.services import (
    UNANSWERED_FOR,
    WATCHED_FOR,
    amount_due,
    apply,
    give_up,
    handle_ipn,
    next_look,
    read_again,
    refresh,
    start_payment,
)
from payments.signature import IpnHint
from payments.tasks import drain_payments
from payments.tests.factories import (
    ADDRESS,
    ASKED,
    created_answer,
    make_coin,
    make_facts,
    make_payment,
    on_create,
    on_read,
    read_answer,
    url,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def wire():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture(autouse=True)
def _patient_customers(monkeypatch):
    """A busy machine is no slow provider."""
    monkeypatch.setattr(services, "CUSTOMER_WAITS", 60)


@pytest.fixture
def order():
    make_coin("btc")
    make_coin("eth")
    return make_order(make_product(price=Decimal("24.99")))


def hint(payment_id, order_id="", parent=""):
    return IpnHint(str(payment_id), "finished", str(order_id), parent)


def alerts():
    return sorted(Alert.objects.values_list("kind", flat=True))


def kinds(order):
    return [mail.kind for mail in order.emails.order_by("pk")][1:]


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
    "unknown": "review review review review review . review review review review review .",
}
ROWS = [(word, start, to) for word, row in TABLE.items() for start, to in zip(FROM, row.split(), strict=True)]


def test_the_table_knows_every_word_and_every_status():
    assert set(TABLE) == {status.value for status in ProviderStatus}
    assert set(FROM) == set(Payment.Status.values)


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
    assert kinds(payment.order) == ["payment_received"]
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
    assert [alerts(), kinds(payment.order)] == [["payment_review"], ["problem", "alert"]]


@pytest.mark.parametrize("word", ["expired", "failed", "cancelled"])
def test_an_end_with_money_in_it_is_for_a_person(word):
    payment = make_payment()
    assert apply(payment, make_facts(payment, word, actually_paid=ASKED / 2)) == f"review: {word}_with_money"
    assert alerts() == ["payment_review"]


def test_expired_after_a_part_is_no_news():
    payment = make_payment(status="partially_paid")
    assert apply(payment, make_facts(payment, "expired", actually_paid=ASKED / 2)) == "expired changes nothing"


@pytest.mark.parametrize("word", ["expired", "failed", "cancelled", "partially_paid", "unknown"])
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


def test_money_that_staff_sent_back_is_not_looked_at_again():
    payment = make_payment(status="finished", actually_paid=ASKED)
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
    assert payment.order.emails.get(kind="problem").reason.startswith(sentence)


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
    assert [almost.order.status, almost.order.reason] == ["held", services.PAID_IN_PARTS]


def test_a_rest_that_no_longer_completes_the_price_is_for_a_person():
    order = make_order()
    rest = make_payment(order, price_amount=Decimal("12.50"))
    assert apply(rest, make_facts(rest)) == "review: order_not_covered"


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


def test_the_row_is_there_before_the_provider_is_asked(wire, order):
    seen = []

    def answer(request):
        seen.extend(Payment.objects.values_list("status", "external_id", "price_amount"))
        return 201, {}, json.dumps(created_answer(request.body))

    wire.add_callback(responses.POST, url("/payment"), answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "_callers", Here())
        start_payment(order=order, coin="btc")
    assert seen == [("creating", None, Decimal("24.99"))]


class Here:
    """An executor that works in the caller's own thread, where the test's transaction is."""

    def submit(self, call, *args):
        done = Future()
        try:
            done.set_result(call(*args))
        except ProviderError as err:
            done.set_exception(err)
        return done


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
    (rejection("AMOUNT_MINIMAL_ERROR"), TooSmall),
    (rejection("CURRENCY_UNAVAILABLE"), UnknownCoin),
    (rejection("INVALID_REQUEST_PARAMS"), NoAnswer),
    ({"status": 401, "json": {"code": "AUTH_REQUIRED"}}, NoAnswer),
    ({"body": requests.exceptions.InvalidURL("never left")}, NoAnswer),
]


@pytest.mark.parametrize(("answer", "error"), REFUSED)
def test_a_refusal_ends_the_payment_at_once(wire, order, answer, error):
    wire.post(url("/payment"), **answer)
    with pytest.raises(error):
        start_payment(order=order, coin="btc")
    payment = Payment.objects.get()
    assert [payment.status, payment.reason, payment.next_attempt_at] == ["failed", "refused", None]


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


def test_an_ipn_that_was_faster_has_bound_the_payment_already(wire, order):
    """The IPN knows the address; the memo and the end of the quote come with the answer."""

    def bind_first(request):
        answer = created_answer(request.body, payin_extra_id="memo-7")
        Payment.objects.update(
            external_id=answer["payment_id"], status="confirming", pay_amount=ASKED, pay_address=ADDRESS
        )
        return 201, {}, json.dumps(answer)

    wire.add_callback(responses.POST, url("/payment"), bind_first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "_callers", Here())
        payment = start_payment(order=order, coin="btc")
    assert [payment.status, payment.payin_extra_id, payment.expires_at.year] == ["confirming", "memo-7", 2999]


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def slow(wire, monkeypatch):
    """A provider that answers only when it is told to; customers wait a moment."""
    go = threading.Event()
    monkeypatch.setattr(services, "CUSTOMER_WAITS", 0.05)

    def answer_with(**changes):
        def answer(request):
            go.wait(20)
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
    assert wait_for(lambda: Payment.objects.filter(status=status, reason=reason).exists())
    assert Payment.objects.count() == 1


def test_a_bug_in_a_slow_call_is_written_down(caplog):
    done = Future()
    done.set_exception(ZeroDivisionError())
    payment = make_payment(status="creating", external_id=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "connection", type("Kept", (), {"close": staticmethod(lambda: None)}))
        services._record_later(payment, done)
    assert "failed" in caplog.text
    assert Payment.objects.get().status == "creating"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_eight_clicks_at_once_one_asks_the_provider(wire, order):
    """Fails without the order's lock in _claim_payment: each click then makes a payment of its own."""
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


def test_an_ipn_for_a_payment_of_ours_asks_the_provider(wire):
    payment = make_payment()
    on_read(wire, payment)
    assert handle_ipn(hint(payment.external_id, payment.order_id)) == "paid"
    assert Order.objects.get().status == "paid"


def test_an_ipn_alone_pays_nothing(wire):
    payment = make_payment()
    on_read(wire, payment, "confirming")
    assert handle_ipn(hint(payment.external_id, payment.order_id)) == "confirming"
    assert Order.objects.get().status == "pending"


def test_an_ipn_that_names_another_order_is_told_and_the_provider_decides(wire):
    payment, other = make_payment(), make_order()
    on_read(wire, payment)
    assert handle_ipn(hint(payment.external_id, other.id)) == "paid"
    assert alerts() == ["ipn_other_order"]
    assert [payment.order.lock().status, other.lock().status] == ["paid", "pending"]


@pytest.mark.parametrize("order_id", ["", "GK-1", str(uuid.UUID(int=7)), "x" * 5000])
def test_an_ipn_of_a_stranger_is_ignored_without_a_question(wire, order_id):
    assert handle_ipn(hint(1, order_id)) == "ignored: neither payment nor order is ours"
    assert [len(wire.calls), Payment.objects.count()] == [0, 0]


def unbound(order, **fields):
    """A payment that the provider made for the order and that no row of ours names."""
    payment = make_payment(order, **fields)
    answer = read_answer(payment)
    payment.delete()
    return answer


def test_an_ipn_adopts_the_creation_that_stayed_without_an_answer(wire):
    creating = make_payment(status="creating", external_id=None, reason="no_answer", pay_amount=None, pay_address="")
    answer = unbound(creating.order)
    wire.get(url(f"/payment/{answer['payment_id']}"), json={**answer, "payin_extra_id": "memo-7"})
    assert handle_ipn(hint(answer["payment_id"], creating.order_id)) == "paid"
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
    assert handle_ipn(hint(answer["payment_id"], creating.order_id)) == "paid"


def test_a_payment_that_we_did_not_make_is_for_a_person(wire):
    order = make_order()
    answer = unbound(order)
    wire.get(url(f"/payment/{answer['payment_id']}"), json={**answer, "price_amount": "99999999999"})
    assert handle_ipn(hint(answer["payment_id"], order.id)) == "review: not_created_by_us"
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
    assert handle_ipn(hint(answer["payment_id"], order_id, parent.external_id)) == "review: child_payment"
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
    assert handle_ipn(hint(answer["payment_id"], order.id)).startswith("ignored")
    assert [alerts(), Payment.objects.count()] == [["ipn_other_order"], 0]


def test_two_ipns_of_one_unbound_payment_make_one_row(wire):
    order = make_order()
    answer = unbound(order)
    wire.get(url(f"/payment/{answer['payment_id']}"), json=answer)
    facts = make_facts(make_payment(order, external_id=str(answer["payment_id"])))
    assert services._adopt(order, facts).external_id == str(answer["payment_id"])
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
    with pytest.raises(ProviderUnavailable):
        handle_ipn(hint(external_id, order.id))
    assert Order.objects.get().status == "pending"


WRONG_ANSWERS = [
    {"payment_id": 1},
    {"actually_paid": "NaN"},
    {"actually_paid": -1},
    {"actually_paid": 10**20},
    {"pay_amount": None},
    {"outcome_currency": "x" * 40},
    {"pay_address": "x" * 201},
]


@pytest.mark.parametrize("changes", WRONG_ANSWERS, ids=str)
def test_an_answer_that_makes_no_sense_changes_nothing(wire, changes):
    payment = make_payment()
    on_read(wire, payment, **changes)
    with pytest.raises(ProviderUnavailable):
        refresh(payment)
    payment.refresh_from_db()
    assert [payment.status, payment.evidence, payment.order.status] == ["waiting", {}, "pending"]


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
    assert [work(payment).status, payment.next_attempt_at, payment.order.status] == ["finished", None, "paid"]


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
    services.watch(claimed)
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


def test_a_second_deposit_that_cannot_be_read_is_told(wire):
    parent = make_payment()
    on_read(wire, parent, payment_extra_ids=[7])
    wire.get(url("/payment/7"), status=500)
    assert refresh(parent) == "paid"
    assert [alerts(), Payment.objects.count()] == [["payment_review"], 1]

"""NOWPayments does not answer about a payment, for each of the four causes: what staff hear, and when it ends."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from orders.models import Alert
from payments import coins
from payments.creation import start_payment
from payments.exceptions import NoAnswer, TooSmall, UnknownCoin
from payments.models import Coin, Payment
from payments.sync import watch
from payments.tests.factories import make_coin, make_payment, on_create, on_read, url

pytestmark = pytest.mark.django_db

REFUSED_KEY = {"status": 403, "json": {"statusCode": 403, "code": "INVALID_API_KEY", "message": "Invalid api key"}}
NOT_FOUND = {"status": 404, "json": {"statusCode": 404, "code": "NOT_FOUND", "message": "Payment not found"}}
# The answer, and the alert about it after a quarter of an hour.
ANSWERS = {
    "unreachable": ({"status": 503}, "payments_down"),
    "refused": (NOT_FOUND, "payment_refused"),
    "nonsense": ({"body": b"<html>"}, "payment_unreadable"),
    "nonsense_without_words": ({"status": 404, "body": b"<html>"}, "payment_unreadable"),
}


def alerts():
    return sorted(Alert.objects.filter(status="open").values_list("kind", flat=True))


def look(payment):
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=Now())
    [claimed] = Payment.objects.all().claim(only=payment.pk)
    watch(claimed)
    payment.refresh_from_db()


def unread_for(payment, **time):
    Payment.objects.filter(pk=payment.pk).update(unread_since=F("unread_since") - timedelta(**time))


@pytest.mark.parametrize("name", ANSWERS)
def test_staff_hear_of_an_unread_payment_after_a_quarter_of_an_hour(wire, name):
    answer, kind = ANSWERS[name]
    payment = make_payment()
    failing = wire.get(url(f"/payment/{payment.external_id}"), **answer)
    look(payment)
    unread_for(payment, minutes=14)
    look(payment)
    assert (alerts(), payment.status) == ([], "waiting")
    # The next look comes in time for the alert, however long the backoff is by now.
    assert Payment.objects.filter(next_attempt_at__lte=Now() + timedelta(seconds=61)).exists()
    unread_for(payment, minutes=1)
    look(payment)
    look(payment)
    assert alerts() == [kind]
    alert = Alert.objects.get()
    if kind != "payments_down":
        assert (alert.about_pk, alert.order) == (str(payment.pk), payment.order)
    wire.remove(failing)
    on_read(wire, payment)
    look(payment)
    alert.refresh_from_db()
    assert (alert.status, payment.unread_since, payment.status) == ("closed", None, "finished")


def test_a_refused_key_is_told_at_once_and_everything_resumes_with_the_right_one(wire):
    first, second = make_payment(), make_payment()
    failing = [wire.get(url(f"/payment/{payment.external_id}"), **REFUSED_KEY) for payment in (first, second)]
    look(first)
    look(second)
    [alert] = Alert.objects.all()
    assert (alert.kind, alert.about_pk, alert.times) == ("provider_credentials", "NOWPayments", 2)
    assert "refuses our credentials" in alert.message
    assert {order.status for order in (first.order, second.order)} == {"pending"}
    for response in failing:
        wire.remove(response)
    for payment in (first, second):
        on_read(wire, payment)
        look(payment)
        assert (payment.status, payment.order.status) == ("finished", "paid")
    alert.refresh_from_db()
    assert alert.status == "closed"


def test_an_error_for_one_payment_alone_is_no_outage(wire):
    payment, other = make_payment(), make_payment()
    wire.get(url(f"/payment/{payment.external_id}"), status=500)
    look(payment)
    unread_for(payment, minutes=16)
    on_read(wire, other, "waiting")
    look(other)
    look(payment)
    assert alerts() == ["payment_unreadable"]


def test_a_payment_that_could_be_read_all_along_costs_no_statement_more(wire, django_assert_max_num_queries):
    payment = make_payment()
    on_read(wire, payment, "waiting")
    look(payment)
    with django_assert_max_num_queries(14):
        look(payment)


def test_a_refused_key_while_a_payment_is_made_is_told(wire, order):
    wire.post(url("/payment"), **REFUSED_KEY)
    with pytest.raises(NoAnswer):
        start_payment(order=order, coin="btc")
    assert alerts() == ["provider_credentials"]


NOT_MADE = [
    {"status": 400, "json": {"code": "INVALID_REQUEST_PARAMS", "message": "ipn_callback_url must be a valid uri"}},
    {"status": 500},
    {"status": 429, "body": b"<html>", "headers": {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}},
    {"status": 200, "json": {"status": False}},
    {"status": 204},
]


@pytest.mark.parametrize("answer", NOT_MADE, ids=str)
def test_staff_hear_of_payments_that_cannot_be_made_though_all_else_works(wire, order, answer):
    failing = wire.post(url("/payment"), **answer)
    for told in ([], [], ["payments_not_made"], ["payments_not_made"]):
        with pytest.raises(NoAnswer):
            start_payment(order=order, coin="btc")
        assert alerts() == told
        Payment.objects.update(created_at=F("created_at") - timedelta(minutes=10))  # else it is asked for already
    assert Alert.objects.get().times == 2
    wire.remove(failing)
    on_create(wire)
    start_payment(order=order, coin="btc")
    assert alerts() == []


def test_a_coin_that_is_refused_is_no_trouble_of_the_shop(wire, order):
    wire.post(url("/payment"), status=400, json={"code": "AMOUNT_MINIMAL_ERROR", "message": "too small"})
    for _ in range(4):
        with pytest.raises(TooSmall):
            start_payment(order=order, coin="btc")
    assert alerts() == []


def test_refused_coins_are_not_among_the_three_that_failed(wire, order):
    make_coin("xrp")
    coin_refused = {"status": 400, "json": {"code": "CURRENCY_UNAVAILABLE", "message": "no"}}
    for number, coin in enumerate(["xrp", "xrp", "btc", "xrp", "btc", "xrp", "btc"]):
        answered = wire.post(url("/payment"), **(coin_refused if coin == "xrp" else NOT_MADE[0]))
        with pytest.raises(UnknownCoin if coin == "xrp" else NoAnswer):
            start_payment(order=order, coin=coin)
        wire.remove(answered)
        assert alerts() == ([] if number < 6 else ["payments_not_made"])
        Payment.objects.update(created_at=F("created_at") - timedelta(minutes=10))
    assert "The last 3 payments (in BTC) could not be created" in Alert.objects.get().message


# --- the list of coins


@pytest.fixture
def stale():
    make_coin("btc")
    Coin.objects.update(refreshed_at=Now() - timedelta(minutes=24))


COIN_ANSWERS = [
    ({"status": 503}, "payments_down"),
    ({"json": {"selectedCurrencies": []}}, "coins_unread"),
    ({"json": {}}, "coins_unread"),
    ({"body": b"<html>"}, "coins_unread"),
    ({"status": 400, "json": {"code": "BAD_REQUEST"}}, "coins_unread"),
]


@pytest.mark.parametrize(("answer", "kind"), COIN_ANSWERS, ids=str)
def test_coins_that_cannot_be_read_stay_on_offer_and_staff_hear_of_it(wire, stale, answer, kind):
    wire.get(url("/merchant/coins"), **answer)
    wire.get(url("/full-currencies"), json={"currencies": []})
    assert (coins.refresh_if_stale(), alerts()) == (0, [])
    Coin.objects.update(refreshed_at=Now() - timedelta(minutes=26))
    assert (coins.refresh_if_stale(), alerts()) == (0, [kind])
    assert Coin.objects.get().is_offered
    wire.reset()
    btc = {"code": "BTC", "name": "Bitcoin", "enable": True, "network": 7, "wallet_regex": [], "logo_url": 1}
    wire.get(url("/merchant/coins"), json={"selectedCurrencies": ["BTC"]})
    wire.get(url("/full-currencies"), json={"currencies": [btc, "odd"]})
    wire.get(url("/min-amount"), json={"min_amount": "x"})
    assert (coins.refresh_if_stale(), alerts(), Alert.objects.count()) == (1, [], 1)


def test_a_refused_key_is_told_by_the_coins_too(wire, stale):
    wire.get(url("/merchant/coins"), **REFUSED_KEY)
    coins.refresh_if_stale()
    assert alerts() == ["provider_credentials"]

import json
import logging
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import requests
import responses
from django.core.exceptions import ImproperlyConfigured

from bitloot.core.providers import (
    CredentialsRefused,
    ProviderError,
    ProviderNotSent,
    ProviderRejected,
    ProviderUnavailable,
    Transport,
    UnreadableAnswer,
)
from payments.nowpayments import (
    STATUSES,
    BelowMinimum,
    Coin,
    CoinUnavailable,
    CreatedPayment,
    MinAmount,
    NowPaymentsClient,
    PaymentFacts,
    PaymentNotFound,
    ProviderStatus,
)

FIXTURES = Path(__file__).parent / "fixtures"
BASE = "https://nowpayments.test/v1"
REQUEST = {
    "price_amount": Decimal("14.90"),
    "price_currency": "EUR",
    "pay_currency": "ETH",
    "order_id": "GK-2026-000042",
    "description": "Game key × 1",
    "ipn_callback_url": "https://shop.test/api/payments/ipn",
}


@pytest.fixture
def client():
    return NowPaymentsClient(Transport(provider="nowpayments", base_url=BASE, headers={"x-api-key": "the-api-key"}))


@pytest.fixture
def wire():
    with responses.RequestsMock() as mock:
        yield mock


def recorded(name):
    return json.loads((FIXTURES / f"{name}.json").read_text())


def changed(name, **members):
    return {**recorded(name), **members}


def without(name, *members):
    return {key: value for key, value in recorded(name).items() if key not in members}


CALLS = {
    "status": ("GET", "/status", lambda c: c.status(), "status_ok"),
    "merchant_coins": ("GET", "/merchant/coins", lambda c: c.merchant_coins(), "merchant_coins_response_live"),
    "coins": ("GET", "/full-currencies", lambda c: c.coins(), "full_currencies_response"),
    "min_amount": ("GET", "/min-amount", lambda c: c.min_amount("eth", "usdttrc20"), "min_amount_response"),
    "estimate": ("GET", "/estimate", lambda c: c.estimate(Decimal(1), "usd", "usdtbsc"), "estimate_response_live"),
    "create_payment": ("POST", "/payment", lambda c: c.create_payment(**REQUEST), "payment_create_response"),
    "read_payment": ("GET", "/payment/4870000042", lambda c: c.read_payment("4870000042"), "payment_status_finished"),
}
each_call = pytest.mark.parametrize("name", CALLS)


@each_call
def test_each_call_understands_its_recorded_answer_and_sends_the_key(client, wire, name):
    method, path, call, fixture = CALLS[name]
    wire.add(method, BASE + path, json=recorded(fixture))
    call(client)
    assert wire.calls[0].request.headers["x-api-key"] == "the-api-key"
    assert len(wire.calls) == 1


@each_call
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, "error_401_auth.json", CredentialsRefused),
        (403, "error_403_invalid_api_key.json", CredentialsRefused),
        (400, "error_400_invalid_params.json", ProviderRejected),
        (404, "error_404_payment_not_found.json", PaymentNotFound),
        (404, "error_502_cloudflare.html", UnreadableAnswer),
        (400, "status_ok.json", UnreadableAnswer),
        (408, "error_502_cloudflare.html", ProviderUnavailable),
        (429, "error_429_nginx.html", ProviderUnavailable),
        (500, "error_500_internal.json", ProviderUnavailable),
        (502, "error_502_cloudflare.html", ProviderUnavailable),
        (307, "status_ok.json", UnreadableAnswer),
        (200, "error_502_cloudflare.html", UnreadableAnswer),
    ],
)
def test_each_call_names_a_failure_once(client, wire, name, status, body, error):
    method, path, call, _ = CALLS[name]
    content = (FIXTURES / body).read_bytes()
    wire.add(method, BASE + path, body=content, status=status, headers={"Location": "https://evil.test/"})
    with pytest.raises(ProviderError) as caught:
        call(client)
    assert (type(caught.value), caught.value.status, caught.value.body) == (error, status, content)
    assert len(wire.calls) == 1


@each_call
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"OK"', b"1", b"{}", b'{"a":1,"a":2}', b"[" * 5000, b"\xff"])
def test_each_call_survives_garbage(client, wire, name, body):
    method, path, call, _ = CALLS[name]
    wire.add(method, BASE + path, body=body)
    with pytest.raises(UnreadableAnswer):
        call(client)


@each_call
def test_each_call_survives_an_answer_cut_off_anywhere(client, name):
    method, path, call, fixture = CALLS[name]
    whole = json.dumps(recorded(fixture)).encode()
    for end in range(0, len(whole), max(1, len(whole) // 60)):
        with responses.RequestsMock() as mock:
            mock.add(method, BASE + path, body=whole[:end])
            with pytest.raises(ProviderUnavailable):
                call(client)


@each_call
@pytest.mark.parametrize("error", [requests.ReadTimeout(), requests.ConnectionError("reset"), ConnectionResetError()])
def test_each_call_without_an_answer_leaves_the_effect_unknown(client, wire, name, error):
    method, path, call, _ = CALLS[name]
    wire.add(method, BASE + path, body=error)
    with pytest.raises(ProviderUnavailable) as caught:
        call(client)
    assert not isinstance(caught.value, ProviderNotSent)
    assert len(wire.calls) == 1


def test_status_that_is_not_ok_is_unavailable(client, wire):
    wire.get(f"{BASE}/status", json={"message": "Maintenance"})
    with pytest.raises(ProviderUnavailable, match="does not say that it works"):
        client.status()


@pytest.mark.parametrize("shape", ["documented", "live"])
def test_merchant_coins_come_in_both_shapes(client, wire, shape):
    wire.get(f"{BASE}/merchant/coins", json=recorded(f"merchant_coins_response_{shape}"))
    assert client.merchant_coins() == ["btc", "eth", "ltc", "usdttrc20", "usdtbsc"]


def test_merchant_coins_of_another_shape_are_unavailable(client, wire):
    wire.get(f"{BASE}/merchant/coins", json={"selectedCurrencies": {"BTC": True}})
    with pytest.raises(UnreadableAnswer, match="selectedCurrencies"):
        client.merchant_coins()


def test_coins_are_those_that_can_be_paid_with(client, wire):
    wire.get(f"{BASE}/full-currencies", json=recorded("full_currencies_response"))
    assert client.coins() == [
        Coin(
            "usdttrc20",
            "Tether USD (Tron)",
            "trx",
            "^T[1-9A-HJ-NP-Za-km-z]{33}$",
            takes_memo=False,
            needs_memo=False,
            ticker="usdt",
        ),
        Coin(
            "xrp",
            "Ripple",
            "xrp",
            "^r[1-9A-HJ-NP-Za-km-z]{25,34}$",
            takes_memo=True,
            needs_memo=True,
            memo_regex=r"^((?!0)(?!.*^\.)([0-9]{1,10}))$",
            ticker="xrp",
        ),
    ]


def test_coins_leaves_out_what_it_cannot_read(client, wire, caplog):
    coins = [
        {"code": "BTC", "name": "Bitcoin", "enable": True},
        {"code": "OFF", "name": "Off", "enable": True, "available_for_payment": False},
        {"code": 7, "name": "Seven", "enable": True},
        {"code": "ODD", "name": "Odd", "enable": "yes"},
        "LTC",
    ]
    wire.get(f"{BASE}/full-currencies", json={"currencies": coins})
    assert client.coins() == [Coin("btc", "Bitcoin", "", "", takes_memo=False, needs_memo=False)]
    assert [record.getMessage() for record in caplog.records if record.name == "payments.nowpayments"] == [
        "Left out a coin: NOWPayments coin: code is missing or not what was expected",
        "Left out a coin: NOWPayments coin: enable is missing or not what was expected",
        "Left out a coin: NOWPayments coin is not a JSON object",
    ]


def test_min_amount_asks_for_the_pair_in_lower_case(client, wire):
    query = {"currency_from": "eth", "currency_to": "usdttrc20", "fiat_equivalent": "eur"}
    wire.get(
        f"{BASE}/min-amount",
        json=recorded("min_amount_response"),
        match=[responses.matchers.query_param_matcher(query)],
    )
    assert client.min_amount("ETH", "USDTTRC20") == MinAmount(Decimal("0.0012345"), Decimal("3.74743521"))


def test_min_amount_without_a_fiat_equivalent(client, wire):
    wire.get(f"{BASE}/min-amount", json=without("min_amount_response", "fiat_equivalent"))
    assert client.min_amount("eth", "btc") == MinAmount(Decimal("0.0012345"), None)


@pytest.mark.parametrize(
    ("fixture", "amount"), [("documented", Decimal("0.00017061")), ("live", Decimal("14.98013562"))]
)
def test_estimate_comes_as_number_or_string(client, wire, fixture, amount):
    answer = recorded(f"estimate_response_{fixture}")
    query = {"amount": "14.9", "currency_from": "usd", "currency_to": answer["currency_to"]}
    wire.get(f"{BASE}/estimate", json=answer, match=[responses.matchers.query_param_matcher(query)])
    assert client.estimate(Decimal("14.90"), "USD", answer["currency_to"].upper()) == amount


def test_create_payment_good(client, wire):
    wire.post(f"{BASE}/payment", json=recorded("payment_create_response"), status=201)
    assert client.create_payment(**REQUEST) == CreatedPayment(
        payment_id="4870000042",
        status=ProviderStatus.WAITING,
        pay_address="0x00000000000000000000000000000000000000aa",
        pay_amount=Decimal("0.00493825"),
        pay_currency="eth",
        payin_extra_id="",
        price_amount=Decimal("14.99"),
        price_currency="usd",
        order_id="GK-2026-000042",
        network="eth",
        purchase_id="5312800042",
        expires_at=datetime(2026, 3, 2, 10, 20, 0, 742000, tzinfo=UTC),
        valid_until=datetime(2026, 3, 9, 10, 0, 0, 742000, tzinfo=UTC),
    )
    assert (
        wire.calls[0].request.body
        == (
            '{"price_amount":14.9,"price_currency":"eur","pay_currency":"eth","order_id":"GK-2026-000042",'
            '"order_description":"Game key × 1","ipn_callback_url":"https://shop.test/api/payments/ipn"}'
        ).encode()
    )
    assert wire.calls[0].request.headers["Content-Type"] == "application/json"


def test_create_payment_shows_the_memo_of_a_coin_that_needs_one(client, wire):
    wire.post(f"{BASE}/payment", json=recorded("payment_create_response_memo_coin"), status=201)
    assert client.create_payment(**REQUEST).payin_extra_id == "407712345"


@pytest.mark.parametrize("fixture", ["payment_create_response_string_amount", "payment_create_response_fixed_rate"])
def test_create_payment_takes_other_recorded_shapes(client, wire, fixture):
    wire.post(f"{BASE}/payment", json=recorded(fixture), status=201)
    assert client.create_payment(**REQUEST).pay_amount == Decimal(str(recorded(fixture)["pay_amount"]))


@pytest.mark.parametrize("member", ["pay_address", "payment_id", "payment_status", "pay_amount", "pay_currency",
                                    "price_amount", "price_currency", "order_id"])  # fmt: skip
@pytest.mark.parametrize("value", [None, "", [], {}, True, "x" * 600])
def test_create_payment_bad_answer_leaves_the_effect_unknown(client, wire, member, value):
    wire.post(f"{BASE}/payment", json=changed("payment_create_response", **{member: value}), status=201)
    with pytest.raises(ProviderUnavailable, match=member):
        client.create_payment(**REQUEST)


@pytest.mark.parametrize("amount", [0, "0", "0.000", 0.0])
def test_create_payment_of_nothing_is_unknown(client, wire, amount):
    wire.post(f"{BASE}/payment", json=changed("payment_create_response", pay_amount=amount), status=201)
    with pytest.raises(ProviderUnavailable, match="of nothing"):
        client.create_payment(**REQUEST)


@pytest.mark.parametrize("moment", [None, "", "soon", "2026-03-02T10:00:00", 10**30, [], True, "9" * 9, False])
def test_create_payment_takes_an_unreadable_time_for_none(client, wire, moment):
    body = changed("payment_create_response", expiration_estimate_date=moment, valid_until=1772445553404)
    wire.post(f"{BASE}/payment", json=body, status=201)
    payment = client.create_payment(**REQUEST)
    assert payment.expires_at is None
    assert payment.valid_until == datetime(2026, 3, 2, 9, 59, 13, 404000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fixture", "error"),
    [
        ("error_400_amount_minimal", BelowMinimum),
        ("error_400_currency_unavailable", CoinUnavailable),
        ("error_400_bad_request", CoinUnavailable),
        ("error_400_no_estimate", CoinUnavailable),
        ("error_400_invalid_params", ProviderRejected),
    ],
)
def test_create_payment_bad_request_says_what_is_wrong(client, wire, fixture, error):
    wire.post(f"{BASE}/payment", json=recorded(fixture), status=400)
    with pytest.raises(ProviderRejected) as caught:
        client.create_payment(**REQUEST)
    assert type(caught.value) is error
    assert str(caught.value) == (
        f"NOWPayments answered 400 {recorded(fixture)['code']}: {recorded(fixture)['message']}"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_says_what_to_check(client, wire, status):
    wire.post(f"{BASE}/payment", body=b"<html>", status=status)
    with pytest.raises(ProviderRejected, match="check NOWPAYMENTS_API_KEY") as caught:
        client.create_payment(**REQUEST)
    assert caught.value.status == status


def test_create_payment_refused_connection_was_not_sent(client):
    refused = NowPaymentsClient(Transport(provider="nowpayments", base_url="http://127.0.0.1:9", headers={}))
    with pytest.raises(ProviderNotSent):
        refused.create_payment(**REQUEST)


def test_read_payment_finished(client, wire):
    wire.get(f"{BASE}/payment/4870000042", json=recorded("payment_status_finished_with_repeated_deposit"))
    assert client.read_payment("4870000042") == PaymentFacts(
        payment_id="4870000042",
        status=ProviderStatus.FINISHED,
        raw_status="finished",
        price_amount=Decimal("14.99"),
        price_currency="usd",
        pay_amount=Decimal("0.00493825"),
        pay_currency="eth",
        actually_paid=Decimal("0.00493825"),
        order_id="GK-2026-000042",
        parent_payment_id="",
        outcome_amount=Decimal("0.00489046"),
        outcome_currency="eth",
        pay_address="0x00000000000000000000000000000000000000aa",
        purchase_id="5312800042",
        payment_extra_ids=("4870000099",),
        updated_at=datetime(2026, 3, 2, 10, 30, tzinfo=UTC),
        payin_hash="0x" + "ab" * 32,
    )


@pytest.mark.parametrize("word", [path.stem[15:] for path in sorted(FIXTURES.glob("payment_status_*[a-z].json"))
                                  if "deposit" not in path.stem])  # fmt: skip
def test_read_payment_knows_each_recorded_status(client, wire, word, caplog):
    wire.get(f"{BASE}/payment/4870000042", json=recorded(f"payment_status_{word}"))
    facts = client.read_payment("4870000042")
    assert (facts.status.value, facts.raw_status) == (word, word)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("word", ["cancelled", "canceled"])
def test_read_payment_knows_both_spellings_of_cancelled(client, wire, word):
    wire.get(f"{BASE}/payment/4870000042", json=changed("payment_status_failed", payment_status=word))
    assert client.read_payment("4870000042").status is ProviderStatus.CANCELLED


@pytest.mark.parametrize("word", ["wrong_asset_confirmed", "FINISHED", "finished ", "hacked"])
def test_read_payment_never_guesses_a_status(client, wire, word, caplog):
    wire.get(f"{BASE}/payment/4870000042", json=changed("payment_status_finished", payment_status=word))
    facts = client.read_payment("4870000042")
    assert (facts.status, facts.raw_status) == (ProviderStatus.UNKNOWN, word)
    assert f"NOWPayments sent a payment status we do not know: {word!r}" in caplog.messages


def test_every_status_of_ours_is_reached_through_the_one_table():
    assert set(STATUSES.values()) | {ProviderStatus.UNKNOWN} == set(ProviderStatus)


NO_AMOUNTS = [
    -1,
    "-1",
    "NaN",
    "Infinity",
    "1_000",
    "٣",
    "0x10",
    "1,5",
    "",
    " 1",
    "1e999",
    "1" * 41,
    ".5",
    "1.",
    True,
    [],
    {},
]


@pytest.mark.parametrize("member", ["price_amount", "pay_amount", "actually_paid"])
@pytest.mark.parametrize("value", NO_AMOUNTS)
def test_read_payment_refuses_an_amount_that_is_none(client, wire, member, value):
    wire.get(f"{BASE}/payment/4870000042", json=changed("payment_status_finished", **{member: value}))
    with pytest.raises(ProviderUnavailable, match=member):
        client.read_payment("4870000042")


@pytest.mark.parametrize("token", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0.1", b"9" * 80])
def test_read_payment_refuses_a_number_that_is_none(client, wire, token):
    body = json.dumps(recorded("payment_status_finished")).encode()
    wire.get(
        f"{BASE}/payment/4870000042", body=body.replace(b'"actually_paid": 0.00493825', b'"actually_paid": ' + token)
    )
    with pytest.raises(ProviderUnavailable):
        client.read_payment("4870000042")


ODD = [-1, "NaN", True, [], {}, "x" * 600, "a\x00b", 1.5]
ASIDE = [
    ("outcome_amount", odd) for odd in ODD if odd != 1.5
] + [(name, odd) for name in ("outcome_currency", "pay_address", "payin_extra_id") for odd in ODD[2:]] + [
    ("purchase_id", "0b8f4b7e-4a60-4f5c-9f0f-0e7f6c1f3d55"),
    ("payment_extra_ids", ""),
    ("payment_extra_ids", [4870000099, {"id": 1}]),
]  # fmt: skip


@pytest.mark.parametrize(("member", "odd"), ASIDE)
def test_read_payment_notes_an_odd_member_that_decides_nothing(client, wire, caplog, member, odd):
    wire.get(f"{BASE}/payment/4870000042", json=changed("payment_status_finished", **{member: odd}))
    facts = client.read_payment("4870000042")
    plain = changed("payment_status_finished")
    assert (facts.status, facts.actually_paid) == (ProviderStatus.FINISHED, Decimal(str(plain["actually_paid"])))
    assert (len(facts.notes), facts.notes[0].startswith(f"{member} ")) == (1, True)


@pytest.mark.parametrize("token", [b"NaN", b"Infinity", b"1e999", b"9" * 80])
def test_read_payment_notes_a_number_that_is_none_where_it_decides_nothing(client, wire, token):
    body = json.dumps(changed("payment_status_finished", outcome_amount=777, fee={"a": 778})).encode()
    wire.get(f"{BASE}/payment/4870000042", body=body.replace(b"777", token).replace(b"778", token))
    facts = client.read_payment("4870000042")
    assert (facts.outcome_amount, facts.notes) == (None, ("outcome_amount is not what was expected",))


def test_a_member_named_twice_is_neither(client, wire):
    body = json.dumps(recorded("payment_status_finished"))
    wire.get(f"{BASE}/payment/4870000042", body=body.replace("{", '{"payment_status": "waiting", ', 1))
    with pytest.raises(UnreadableAnswer, match="payment_status"):
        client.read_payment("4870000042")


def test_a_memo_may_be_a_number(client, wire):
    wire.get(f"{BASE}/payment/4870000042", json=changed("payment_status_finished", payin_extra_id=2918473650))
    assert client.read_payment("4870000042").payin_extra_id == "2918473650"


def test_read_payment_keeps_every_digit(client, wire):
    body = json.dumps(changed("payment_status_finished", pay_amount="0.123456789012345678", price_amount="14.99000000"))
    wire.get(
        f"{BASE}/payment/4870000042",
        body=body.replace('"actually_paid": 0.00493825', '"actually_paid": 1.234567890123456789e-7'),
    )
    facts = client.read_payment("4870000042")
    assert facts.actually_paid == Decimal("1.234567890123456789e-7")
    assert facts.pay_amount == Decimal("0.123456789012345678")
    assert facts.price_amount == Decimal("14.99")


@pytest.mark.parametrize("members", [{"actually_paid": None}, {"actually_paid": 0}, {"actually_paid": "0"}])
def test_read_payment_without_money_has_zero(client, wire, members):
    wire.get(f"{BASE}/payment/4870000042", json=changed("payment_status_waiting", **members))
    assert client.read_payment("4870000042").actually_paid == Decimal(0)


@pytest.mark.parametrize("none", [None, "", 0, "0"])
def test_read_payment_takes_every_way_of_saying_that_there_is_no_parent(client, wire, none):
    wire.get(f"{BASE}/payment/4870000042", json=changed("payment_status_finished", parent_payment_id=none))
    assert client.read_payment("4870000042").parent_payment_id == ""


@pytest.mark.parametrize("parent", [4870000041, "4870000041"])
def test_read_payment_names_the_parent(client, wire, parent):
    wire.get(f"{BASE}/payment/4870000042", json=changed("payment_status_finished", parent_payment_id=parent))
    assert client.read_payment("4870000042").parent_payment_id == "4870000041"


@pytest.mark.parametrize("parent", [-1, True, [], "x", 1.5, "1" * 20])
def test_read_payment_refuses_a_parent_it_cannot_read(client, wire, parent):
    wire.get(f"{BASE}/payment/4870000042", json=changed("payment_status_finished", parent_payment_id=parent))
    with pytest.raises(ProviderUnavailable, match="parent_payment_id"):
        client.read_payment("4870000042")


def test_read_payment_of_another_payment_is_unavailable(client, wire):
    wire.get(f"{BASE}/payment/4870000043", json=recorded("payment_status_finished"))
    with pytest.raises(ProviderUnavailable, match="another payment than 4870000043"):
        client.read_payment("4870000043")


def test_read_payment_takes_ids_beyond_a_double_exactly(client, wire):
    wire.get(f"{BASE}/payment/9007199254740993", json=changed("payment_status_finished", payment_id=9007199254740993))
    assert client.read_payment("9007199254740993").payment_id == "9007199254740993"


@pytest.mark.parametrize("payment_id", ["", "../status", "1/2", "٣", "1" * 20, "%2e%2e"])
def test_read_payment_never_asks_for_what_is_no_id(client, wire, payment_id):
    with pytest.raises(PaymentNotFound):
        client.read_payment(payment_id)
    assert len(wire.calls) == 0


def test_no_error_or_log_line_holds_the_key(client, wire, caplog):
    caplog.set_level(logging.DEBUG)
    wire.post(f"{BASE}/payment", body=requests.ReadTimeout())
    with pytest.raises(ProviderUnavailable) as caught:
        client.create_payment(**REQUEST)
    assert "the-api-key" not in repr(caught.value) + caplog.text


def test_from_settings_is_shared_until_the_settings_change(settings):
    settings.NOWPAYMENTS_BASE_URL, settings.NOWPAYMENTS_API_KEY = BASE, "one"
    first = NowPaymentsClient.from_settings()
    assert NowPaymentsClient.from_settings() is first
    settings.NOWPAYMENTS_API_KEY = "two"
    assert NowPaymentsClient.from_settings() is not first


@pytest.mark.parametrize("missing", ["NOWPAYMENTS_BASE_URL", "NOWPAYMENTS_API_KEY"])
def test_from_settings_without_credentials_says_what_to_set(settings, missing):
    setattr(settings, missing, "")
    with pytest.raises(ImproperlyConfigured, match="NOWPAYMENTS_BASE_URL and NOWPAYMENTS_API_KEY"):
        NowPaymentsClient.from_settings()

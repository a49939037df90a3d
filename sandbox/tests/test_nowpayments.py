import hashlib
import hmac
import json

import pytest

from sandbox.catalogue import COINS
from sandbox.tests.conftest import FIXTURES, fixture, shape


@pytest.fixture
def paid(sandbox, store):
    """Make a payment whose IPNs go to the store; return its id."""

    def make(**more):
        answer = sandbox.payment(ipn_callback_url=f"{store.url}/api/payments/ipn", **more)
        store.wait(1)
        return int(answer.json["payment_id"])

    return make


def read(sandbox, payment_id):
    return sandbox.nowpayments("GET", f"/payment/{payment_id}").json


def pay(sandbox, payment_id, **body):
    answer = sandbox.control(f"/payments/{payment_id}/pay", body)
    assert answer.status_code == 200, answer.json
    sandbox.until(lambda: sandbox.http.get("/control/state").json["jobs"] == 0)
    return answer.json


def test_payment_answers_as_documented(sandbox):
    description = {"order_description": "Game key", "ipn_callback_url": "http://127.0.0.1:1/ipn"}
    answer = sandbox.payment("order-9", **description)

    assert answer.status_code == 201
    assert shape(answer.json) == shape(fixture("payment_create_response.json"))
    assert answer.json["payment_id"].isdigit()
    assert len(answer.json["payment_id"]) == 10
    assert (answer.json["order_id"], answer.json["payment_status"]) == ("order-9", "waiting")
    assert answer.json["pay_amount"] == 0.00312084  # 7.49 / 2400, rounded up


def test_payment_in_a_memo_coin_carries_its_memo(sandbox):
    answer = sandbox.payment(coin="xrp", order_description="Game key", ipn_callback_url="http://127.0.0.1:1/ipn")

    assert shape(answer.json) == shape(fixture("payment_create_response_memo_coin.json"))


def test_waiting_and_finished_payments_read_as_documented(sandbox, paid):
    payment_id = paid(order_description="Game key")
    waiting = read(sandbox, payment_id)
    pay(sandbox, payment_id, mode="exact")
    finished = read(sandbox, payment_id)

    expected = fixture("payment_status_waiting.json") | {"invoice_id": None}
    assert shape(waiting) == shape(expected)
    assert waiting["payment_id"] == payment_id
    assert shape(finished) == shape(fixture("payment_status_finished.json") | {"invoice_id": None})
    assert (finished["payment_status"], finished["actually_paid"]) == ("finished", finished["pay_amount"])


def test_exact_payment_sends_one_signed_ipn_per_status(sandbox, paid, store):
    payment_id = paid(order_description="Schlüssel für 7 €")
    pay(sandbox, payment_id, mode="exact")

    bodies = store.wait(5)

    statuses = [body["payment_status"] for body in bodies]
    assert statuses == ["waiting", "confirming", "confirmed", "sending", "finished"]
    assert shape(bodies[-1]) == shape(fixture("ipn_finished.json") | {"invoice_id": None})
    for path, headers, raw in store.received:
        assert path == "/api/payments/ipn"
        assert headers["x-nowpayments-sig"] == hmac.new(b"ipn-secret", raw, hashlib.sha512).hexdigest()
        # Sorted at every depth and compact, the text not escaped: what a plain dump gives when no number is tricky.
        numbers = {"parse_float": lambda text: text, "parse_int": lambda text: text}
        again = json.dumps(json.loads(raw, **numbers), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert again.replace('"', "") == raw.decode().replace('"', "")
    assert [row["amount"] for row in sandbox.ledger("money_in")] == [str(read(sandbox, payment_id)["pay_amount"])]


def test_ipn_bytes_are_those_of_an_independent_printing(sandbox, paid, store):
    payment_id = paid(coin="btc", price=1.93)
    created = read(sandbox, payment_id)

    _, headers, raw = store.received[0]

    expected = (
        '{"actually_paid":0,"actually_paid_at_fiat":0,"fee":{"currency":"btc","depositFee":0,"serviceFee":0,'
        '"withdrawalFee":0},"invoice_id":null,"order_description":null,"order_id":"order-1",'
        '"outcome_amount":0.00003295,"outcome_currency":"btc","parent_payment_id":null,'
        f'"pay_address":"{created["pay_address"]}","pay_amount":0.00003328,"pay_currency":"btc",'
        f'"payin_extra_id":null,"payment_extra_ids":null,"payment_id":{payment_id},"payment_status":"waiting",'
        f'"price_amount":1.93,"price_currency":"eur","purchase_id":"{created["purchase_id"]}",'
        f'"updated_at":{json.loads(raw)["updated_at"]}}}'
    ).encode()
    assert raw == expected
    assert headers["x-nowpayments-sig"] == hmac.new(b"ipn-secret", expected, hashlib.sha512).hexdigest()


@pytest.mark.parametrize(
    ("mode", "status", "share"), [("under", "partially_paid", 0.5), ("over", "finished", 1.2), ("late", "finished", 1)]
)
def test_pay_modes(sandbox, paid, store, mode, status, share):
    payment_id = paid()

    pay(sandbox, payment_id, mode=mode)

    payment = read(sandbox, payment_id)
    assert payment["payment_status"] == status
    assert payment["actually_paid"] == pytest.approx(payment["pay_amount"] * share)
    statuses = [body["payment_status"] for body in store.wait(5)]
    assert ("expired" in statuses) == (mode == "late")


def test_silent_money_sends_no_ipn(sandbox, paid, store):
    payment_id = paid()

    pay(sandbox, payment_id, mode="exact", silent=True)

    assert read(sandbox, payment_id)["payment_status"] == "finished"
    assert len(store.received) == 1


def test_repeated_deposit_is_a_child_payment(sandbox, paid, store):
    payment_id = paid()
    pay(sandbox, payment_id, mode="exact")

    child = pay(sandbox, payment_id, mode="repeat", amount="0.001")

    parent = read(sandbox, payment_id)
    assert set(parent) == set(fixture("payment_status_finished_with_repeated_deposit.json"))
    assert parent["payment_extra_ids"] == [child["payment_id"]]
    assert read(sandbox, child["payment_id"])["parent_payment_id"] == payment_id
    body = store.wait(6)[-1]
    assert (body["payment_id"], body["parent_payment_id"]) == (child["payment_id"], payment_id)
    assert (body["order_id"], body["actually_paid"], body["pay_amount"]) == ("order-1", 0.001, 0.001)


def test_wrong_coin_leaves_the_payment_waiting(sandbox, paid, store):
    payment_id = paid()

    child = pay(sandbox, payment_id, mode="wrong_coin")

    assert (child["pay_currency"], child["payment_status"]) == ("usdttrc20", "finished")
    assert child["pay_address"] == read(sandbox, payment_id)["pay_address"]
    assert read(sandbox, payment_id)["payment_status"] == "waiting"


def test_paying_twice_is_refused(sandbox, paid):
    payment_id = paid()
    pay(sandbox, payment_id, mode="exact")

    answer = sandbox.control(f"/payments/{payment_id}/pay", {"mode": "exact"})

    assert answer.status_code == 409
    assert "Use the mode repeat" in answer.json["error"]


def test_payment_is_found_by_address_and_by_order(sandbox):
    created = sandbox.payment("order-7").json

    for ref in (created["pay_address"], "order-7", created["payment_id"]):
        answer = sandbox.control(f"/payments/{ref}/status", {"status": "waiting", "silent": True})
        assert str(answer.json["payment_id"]) == created["payment_id"]


def test_status_can_be_set_with_what_the_reading_shows(sandbox, paid, store):
    payment_id = paid()

    sandbox.control(
        f"/payments/{payment_id}/status",
        {"status": "finished", "actually_paid": 0.5, "fields": {"price_amount": 0.01, "order_id": None}},
    )

    shown = read(sandbox, payment_id)
    assert (shown["payment_status"], shown["actually_paid"]) == ("finished", 0.5)
    assert (shown["price_amount"], shown["order_id"]) == (0.01, None)
    body = store.wait(2)[-1]
    assert (body["payment_status"], body["price_amount"], body["order_id"]) == ("finished", 0.01, None)


def test_ipn_can_lie_and_be_badly_signed(sandbox, paid, store):
    payment_id = paid()

    sandbox.control(f"/payments/{payment_id}/ipn", {"fields": {"payment_status": "finished"}})
    sandbox.control(f"/payments/{payment_id}/ipn", {"signed": False})

    lie, unsigned = store.wait(3)[1:]
    assert (lie["payment_status"], unsigned["payment_status"]) == ("finished", "waiting")
    assert read(sandbox, payment_id)["payment_status"] == "waiting"
    signed = [
        headers["x-nowpayments-sig"] == hmac.new(b"ipn-secret", raw, hashlib.sha512).hexdigest()
        for _, headers, raw in store.received
    ]
    assert sorted(signed) == [False, True, True]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"price_amount": "7.49"}, "INVALID_REQUEST_PARAMS"),
        ({"price_amount": 0}, "INVALID_REQUEST_PARAMS"),
        ({"price_amount": True}, "INVALID_REQUEST_PARAMS"),
        ({"price_amount": 1e300}, "INVALID_REQUEST_PARAMS"),
        ({"price_currency": "xxx"}, "INVALID_REQUEST_PARAMS"),
        ({"order_id": 7}, "INVALID_REQUEST_PARAMS"),
        ({"ipn_callback_url": "shop"}, "INVALID_REQUEST_PARAMS"),
        ({"pay_currency": "nope"}, "BAD_REQUEST"),
        ({"price_amount": 0.5}, "AMOUNT_MINIMAL_ERROR"),
    ],
)
def test_invalid_payment_is_refused(sandbox, change, code):
    body = {"price_amount": 7.49, "price_currency": "eur", "pay_currency": "eth", "order_id": "o", **change}

    answer = sandbox.nowpayments("POST", "/payment", body)

    assert (answer.status_code, answer.json["code"]) == (400, code)
    assert set(answer.json) == set(fixture("error_400_amount_minimal.json"))
    assert sandbox.ledger() == []


def test_unknown_payment_and_wrong_key(sandbox):
    for payment_id in ("1234567890", "abc", "9" * 30):
        missing = sandbox.nowpayments("GET", f"/payment/{payment_id}")
        assert (missing.status_code, missing.json) == (404, fixture("error_404_payment_not_found.json"))
    refused = sandbox.nowpayments("GET", "/currencies", **{"x-api-key": "other"})
    assert (refused.status_code, refused.json) == (403, fixture("error_403_invalid_api_key.json"))


def test_look_ups_have_their_live_shapes(sandbox):
    assert sandbox.http.get("/nowpayments/v1/status").json == {"message": "OK"}
    coins = sandbox.nowpayments("GET", "/merchant/coins").json
    assert shape(coins) == shape(fixture("merchant_coins_response_live.json"))
    assert [code.lower() for code in coins["selectedCurrencies"]] == list(COINS)
    assert sandbox.nowpayments("GET", "/currencies").json == {"currencies": list(COINS)}
    full = sandbox.nowpayments("GET", "/full-currencies").json["currencies"]
    assert set(full[0]) <= set(fixture("full_currencies_response.json")["currencies"][0])
    least = sandbox.nowpayments("GET", "/min-amount?currency_from=eth&currency_to=usdttrc20&fiat_equivalent=usd").json
    assert shape(least) == shape(fixture("min_amount_response.json"))
    estimate = sandbox.nowpayments("GET", "/estimate?amount=14.99&currency_from=usd&currency_to=usdtbsc").json
    assert shape(estimate) == shape(fixture("estimate_response_live.json"))
    assert sandbox.nowpayments("GET", "/estimate?amount=x&currency_from=usd&currency_to=btc").status_code == 400


def test_ipn_is_tried_three_times(sandbox, store):
    store.answers = [500, 403, 500, 500]
    sandbox.payment(ipn_callback_url=f"{store.url}/ipn")

    sandbox.until(lambda: sandbox.http.get("/control/state").json["jobs"] == 0)

    assert len(store.received) == 3
    tries = [(row["detail"]["outcome"], row["detail"]["attempt"]) for row in sandbox.ledger("webhook_sent")]
    assert tries == [("500", 1), ("403", 2), ("500", 3)]


def test_429_is_the_html_page(sandbox):
    sandbox.control("/faults", {"op": "nowpayments.payment.get", "fault": "429", "times": 1})

    answer = sandbox.nowpayments("GET", "/payment/1")

    assert (answer.status_code, answer.mimetype) == (429, "text/html")
    assert answer.text.split() == (FIXTURES / "error_429_nginx.html").read_text().split()

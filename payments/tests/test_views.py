"""The road through the API; what bad input does is in bitloot/tests/test_bad_input.py."""

import uuid
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256

import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from bitloot.core.money import CENT
from bitloot.core.signing import keyed_digest
from orders.access import make_token
from orders.models import IdempotencyRecord, Order
from orders.tests.factories import make_order
from payments.models import Coin, Payment, Refund
from payments.serializers import qr_picture
from payments.tests.factories import ADDRESS, ASKED, make_coin, make_payment, make_refund_address, on_create, url

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("patient_customers")]
JSON = "application/json"
KEY = "a-key-of-16-chars"


def bearer(order):
    return {"Authorization": f"Bearer {make_token(order, 'api')}"}


def pay(client, order, coin="btc", **headers):
    body = {"order_id": str(order.id), "pay_currency": coin}
    return client.post("/api/payments/create", body, content_type=JSON, headers={**bearer(order), **headers})


def test_the_coins_on_offer_are_listed(client, django_assert_num_queries):
    make_coin("usdttrc20", name="Tether", minimum=None, network="trx", ticker="usdt", rate=Decimal("1.08"))
    make_coin("btc", name="Bitcoin", minimum=Decimal("5.1"), wallet_regex="CANARY", usual_minutes=20)
    make_coin("old", is_offered=False)
    with django_assert_num_queries(1):
        answer = client.get("/api/payments/currencies")
    assert answer.json() == {
        "currencies": [
            {
                "code": "btc", "name": "Bitcoin", "ticker": "BTC", "network": "", "network_name": "",
                "minimum": "5.10", "rate": None, "usual_minutes": 20,
            },
            {
                "code": "usdttrc20", "name": "Tether", "ticker": "USDT", "network": "trx",
                "network_name": "Tron (TRC-20)", "minimum": None, "rate": "1.08", "usual_minutes": None,
            },
        ]
    }  # fmt: skip


def test_coins_that_are_set_first_come_first_and_then_those_that_are_used_most(client, settings):
    settings.COINS_FIRST = ("xmr", "gone", "ltc")
    for code, uses in (("ada", 0), ("btc", 3), ("eth", 7), ("ltc", 1), ("xmr", 0)):
        make_coin(code, recent_uses=uses)
    listed = client.get("/api/payments/currencies").json()["currencies"]
    assert [coin["code"] for coin in listed] == ["xmr", "ltc", "eth", "btc", "ada"]


def test_a_payment_comes_back_with_its_address(client, wire, order):
    on_create(wire, pay_amount="0.00000001", payin_extra_id="memo-7")
    answer = pay(client, order, "BTC")
    payment = Payment.objects.get()
    body = answer.json()
    assert answer.status_code == 201
    picture = body.pop("qr").partition(",")[0]
    assert picture.startswith("data:image/svg+xml")
    expires_at = body.pop("expires_at")
    assert expires_at.startswith("2999-01-01T00:00:00")
    assert {
        "id": str(payment.id),
        "payment_id": payment.external_id,
        "status": "waiting",
        "pay_address": ADDRESS,
        "pay_amount": "0.00000001",
        "pay_currency": "btc",
        "payin_extra_id": "memo-7",
        "network": "btc",
        "actually_paid": "0",
        "reason": None,
    }.items() <= body.items()


def test_an_amount_is_written_in_full(client, wire, order):
    on_create(wire, pay_amount="1E+3")
    assert pay(client, order).json()["pay_amount"] == "1000"


def test_a_repeat_with_the_same_key_is_the_same_payment(client, wire, order):
    on_create(wire)
    answers = [pay(client, order, **{"Idempotency-Key": KEY}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert [answer.get("Idempotent-Replayed") for answer in answers] == [None, "true", "true"]
    assert len(wire.calls) == 1


def test_a_key_belongs_to_its_body(client, wire, order):
    on_create(wire)
    pay(client, order, **{"Idempotency-Key": KEY})
    answer = pay(client, order, "eth", **{"Idempotency-Key": KEY})
    assert [answer.status_code, answer.json()["code"]] == [422, "idempotency_key_reused"]
    assert len(wire.calls) == 1


def test_a_payment_that_failed_leaves_its_key_free(client, wire, order):
    wire.post(url("/payment"), status=500)
    assert pay(client, order, **{"Idempotency-Key": KEY}).status_code == 503
    wire.reset()
    on_create(wire)
    assert pay(client, order, **{"Idempotency-Key": KEY}).status_code == 201


def test_a_key_is_free_again_after_a_call_that_failed_late(client, wire, order):
    """The first request was told `creating`; the outcome of its call came afterwards."""
    on_create(wire)
    first = pay(client, order, **{"Idempotency-Key": KEY})
    assert first.status_code == 201
    for status, reason, code in (
        ("creating", "", 202),  # being asked: it may still come
        ("creating", "no_answer", 201),
        ("failed", "refused", 201),
    ):
        record = IdempotencyRecord.objects.get()
        Payment.objects.filter(pk=record.object_id).update(external_id=None, status=status, reason=reason)
        answer = pay(client, order, **{"Idempotency-Key": KEY})
        assert [answer.status_code, answer.get("Idempotent-Replayed")] == [code, "true" if code == 202 else None]


def test_a_key_is_free_again_after_the_process_that_asked_died(client, wire, order):
    on_create(wire)
    pay(client, order, **{"Idempotency-Key": KEY})
    minutes_ago = timezone.now() - timedelta(minutes=2)
    Payment.objects.update(external_id=None, status="creating", created_at=minutes_ago)
    assert pay(client, order, **{"Idempotency-Key": KEY}).status_code == 201
    assert Payment.objects.count() == 2


def test_a_key_whose_first_request_fails_at_this_moment_is_still_in_use(client, order):
    """The repeat found the record, and then it was gone."""
    IdempotencyRecord.objects.create(
        route=f"pay:{order.pk.hex}", key=keyed_digest("bitloot.orders.idempotency", f"pay:{order.pk.hex}:{KEY}")
    )

    def fails_before(execute, sql, *rest):
        if sql.startswith("SELECT") and "orders_idempotencyrecord" in sql:
            IdempotencyRecord.objects.all().delete()
        return execute(sql, *rest)

    with connection.execute_wrapper(fails_before):
        answer = pay(client, order, **{"Idempotency-Key": KEY})
    assert [answer.status_code, answer.json()["code"]] == [409, "in_progress"]


def test_two_orders_use_one_key_each_for_itself(client, wire, order):
    other = make_order(order.items.get().product)
    on_create(wire)
    assert pay(client, order, **{"Idempotency-Key": KEY}).status_code == 201
    wire.reset()
    on_create(wire, payment_id="5077125052")
    assert pay(client, other, **{"Idempotency-Key": KEY}).status_code == 201


@pytest.mark.parametrize("answer", [{"status": 500}, {"status": 429, "body": "<html>"}, {"status": 201, "body": "{"}])
def test_a_provider_that_is_away_is_503_and_nothing_of_it_is_quoted(client, wire, order, answer):
    wire.post(url("/payment"), **{"body": "CANARY", **answer})
    response = pay(client, order)
    assert [response.status_code, response.json()["code"]] == [503, "provider_unavailable"]
    assert "CANARY" not in response.content.decode()


def test_a_payment_that_is_still_being_made_is_202(client, order):
    make_payment(order, status="creating", external_id=None)
    answer = pay(client, order)
    assert [answer.status_code, answer.json()] == [202, {"status": "creating"}]


def test_a_minimum_that_is_known_is_told_before_the_provider_is_asked(client, wire, order):
    Coin.objects.update(minimum=order.total + CENT)
    answer = pay(client, order)
    assert [answer.status_code, answer.json()["code"]] == [422, "below_minimum"]
    assert answer.json()["detail"] == (
        f"This order is below the minimum of BTC, {order.total + CENT} EUR. Choose another coin or order more."
    )
    assert [len(wire.calls), Payment.objects.count()] == [0, 0]


def test_a_minimum_that_only_the_provider_knows_is_told_without_a_number(client, wire, order):
    body = {"statusCode": 400, "code": "AMOUNT_MINIMAL_ERROR", "message": "CANARY"}
    wire.post(url("/payment"), status=400, json=body)
    answer = pay(client, order)
    assert [answer.status_code, answer.json()["code"]] == [422, "below_minimum"]
    assert answer.json()["detail"] == "This order is below the minimum of BTC. Choose another coin."


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "review", "reason": "other_coin"}, "count them towards your order or send them back"),
        ({"status": "creating", "external_id": None, "reason": "no_answer"}, "did not answer"),
        ({"status": "partially_paid", "reason": "too_little"}, "Less than the asked amount arrived"),
        ({"status": "finished", "reason": "accepted"}, None),
    ],
)
def test_a_reason_is_told_in_words_for_customers(client, order, fields, words):
    make_payment(order, **fields)
    answer = client.get(f"/api/orders/{order.id}", headers=bearer(order)).json()
    reason = answer["payment"]["reason"]
    assert reason is None if words is None else words in reason
    assert fields["reason"] not in str(reason)


@pytest.fixture
def refund():
    payment = make_payment(make_order(status="refund_due", paid_at="2026-01-01T00:00:00Z"), actually_paid=ASKED)
    return Refund.objects.create(order=payment.order, payment=payment, amount=ASKED, currency="btc", reason="r")


def name_address(client, refund, /, order=None, **changes):
    order = order or refund.order
    body = {"order_id": str(order.id), "refund": str(refund.id), "address": ADDRESS, **changes}
    return client.post("/api/payments/refund-address", body, content_type=JSON, headers=bearer(order))


def test_a_customer_says_where_a_refund_goes(client, refund):
    make_coin("btc", wallet_regex="^bc1q+$")
    answer = name_address(client, refund, address=f" {ADDRESS} ")
    refund.refresh_from_db()
    assert [answer.status_code, refund.address, refund.status] == [200, ADDRESS, "requested"]
    assert refund.order.events.last().kind == "refund"
    # It may be changed until the coins are sent.
    assert name_address(client, refund, address="bc1qqqqqqqq").status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "short"}, {"address": "with a space in it"}, {"address": "bc2" + "q" * 39}, {"address": "é" * 20},
        {"refund": str(uuid.UUID(int=7))}, {"address": ADDRESS + "\n" + ADDRESS},
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused_and_not_quoted(client, refund, changes):
    make_coin("btc", wallet_regex="^bc1q+$")
    answer = name_address(client, refund, **changes)
    refund.refresh_from_db()
    assert [answer.status_code, answer.json()["code"], refund.address] == [422, "address_refused", ""]
    said = {**answer.json(), "request_id": ""}  # random digits, in which anything stands by chance
    assert changes.get("address", "bc2") not in str(said)


@pytest.mark.parametrize(
    "changes",
    [{"address": None}, {"address": 1}, {"address": "b" * 201}, {"extra_id": 1}, {"refund": "x"}, {"amount": 1}],
)
def test_a_body_that_says_nothing_about_an_address_is_refused(client, refund, changes):
    answer = name_address(client, refund, **changes)
    assert [answer.status_code, answer.json()["code"]] == [422, "invalid"]


def test_a_refund_that_was_sent_keeps_its_address(client, refund):
    make_refund_address(refund, "bc1qold")
    Refund.objects.update(status="sent")
    answer = name_address(client, refund)
    refund.refresh_from_db()
    assert [answer.status_code, refund.address] == [422, "bc1qold"]


def test_nobody_else_says_where_a_refund_goes(client, refund):
    answer = name_address(client, refund, make_order())
    assert [answer.status_code, answer.json()["code"]] == [422, "address_refused"]
    body = {"order_id": str(refund.order_id), "refund": str(refund.id), "address": ADDRESS}
    assert client.post("/api/payments/refund-address", body, content_type=JSON).status_code == 404
    refund.refresh_from_db()
    assert [refund.address, Order.objects.get(pk=refund.order_id).events.filter(kind="refund").count()] == ["", 0]


def test_the_picture_of_an_address_calls_nobody(client, order):
    make_payment(order, expires_at=timezone.now() + timedelta(minutes=20))
    picture = client.get(f"/api/orders/{order.id}", headers=bearer(order)).json()["payment"]["qr"]
    assert picture.startswith("data:image/svg+xml")
    assert "href" not in picture


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": timezone.now() - timedelta(seconds=1)},
        {"expires_at": None},
        {"status": "finished"},
        {"pay_address": ""},
    ],
)
def test_there_is_no_picture_when_nothing_may_be_sent(client, order, changes):
    make_payment(order, **{"expires_at": timezone.now() + timedelta(minutes=20), **changes})
    assert client.get(f"/api/orders/{order.id}", headers=bearer(order)).json()["payment"]["qr"] is None


@pytest.mark.parametrize(
    ("fields", "uri", "note"),
    [
        (
            {"pay_amount": Decimal("0.0012")},
            f"bitcoin:{ADDRESS}?amount=0.0012",
            "The code holds the address and the amount.",
        ),
        (
            {"pay_currency": "xrp", "network": "xrp", "pay_address": "rX", "payin_extra_id": "7"},
            "xrpl://rX?amount=0.0012345&dt=7",
            "The code holds the address, the amount and the memo.",
        ),
        (
            {"pay_currency": "usdttrc20", "network": "trx"},
            None,
            "The code holds the address only. Type the amount yourself and choose the network Tron (TRC-20).",
        ),
        (
            {"pay_currency": "xlm", "network": "xlm", "payin_extra_id": "m"},
            None,
            "The code holds the address only. Type the amount and the memo yourself and choose the network Stellar.",
        ),
    ],
)
def test_the_code_holds_the_amount_where_wallets_read_it_and_says_what_is_left_to_type(
    client, order, fields, uri, note
):
    make_payment(order, expires_at=timezone.now() + timedelta(minutes=20), **fields)
    payment = client.get(f"/api/orders/{order.id}", headers=bearer(order)).json()["payment"]
    assert (payment["uri"], payment["qr_note"]) == (uri, note)
    assert payment["qr"] == qr_picture(uri or fields.get("pay_address", ADDRESS))


def test_a_picture_is_drawn_once_for_all_processes(client, order):
    make_payment(order, expires_at=timezone.now() + timedelta(minutes=20), pay_currency="trx", network="trx")
    first = client.get(f"/api/orders/{order.id}", headers=bearer(order)).json()["payment"]["qr"]
    key = f"qr:{sha256(ADDRESS.encode()).hexdigest()}"
    assert cache.get(key) == first
    cache.set(key, "data:kept")
    assert client.get(f"/api/orders/{order.id}", headers=bearer(order)).json()["payment"]["qr"] == "data:kept"


def test_a_customer_asks_for_what_came_beyond_the_price(client, order):
    make_payment(order, status="finished", pay_amount=Decimal("0.0024"), actually_paid=Decimal("0.0030"))
    order.mark_paid(message="Paid.")
    path, asked = "/api/payments/refund-surplus", {"order_id": str(order.pk)}
    answer = client.post(path, asked, content_type=JSON, headers=bearer(order))
    body = answer.json()
    assert (answer.status_code, body["kind"], body["amount"]) == (201, "surplus", "0.0006")
    again = client.post(path, asked, content_type=JSON, headers=bearer(order))
    assert again.status_code == 409

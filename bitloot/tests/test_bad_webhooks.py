"""The catalogue of bad input, N: IPNs, K: the supplier's webhooks; the rest of it is in test_bad_input.py."""

import base64
import hashlib
import hmac
import json

import pytest
from django.conf import settings as django_settings

from bitloot.tests.bad_input import (
    JSON,
    MALFORMED,
    WEBHOOKS,
    World,
    counts,
)
from webhooks.models import WebhookLog
from webhooks.services import process
from webhooks.tests.factories import KINGUIN, ipn, sign, supplier_event

pytestmark = [pytest.mark.django_db, pytest.mark.once]


@pytest.fixture
def world():
    return World()


# N: IPNs


def send_ipn(world, body, signature=None, **extra):
    headers = {} if signature == "" else {"x-nowpayments-sig": sign(body) if signature is None else signature}
    return world.client.generic("POST", "/api/payments/ipn", body, JSON, headers=headers, **extra)


BODY = ipn(order_id="GK-1")
UNSIGNED = {
    "N01 none": "",
    "N03 wrong": "0" * 128,
    "N05 0x": "0x" + sign(BODY)[2:],
    "N05 inner space": sign(BODY)[:64] + " " + sign(BODY)[65:],
    "N06 base64": base64.b64encode(bytes.fromhex(sign(BODY))).decode(),
    "N07 SHA-256": hmac.new(django_settings.NOWPAYMENTS_IPN_SECRET[0].encode(), BODY, "sha256").hexdigest(),
    "N07 no key": hashlib.sha512(BODY).hexdigest(),
    "N16 another secret": sign(BODY, "another-merchants-secret"),
    "G37 twice": f"{sign(BODY)},{sign(BODY)}",
    "G38 non-ASCII": "\xe9" * 128,
    "short": sign(BODY)[:-1],
    "long": sign(BODY) + "0",
    "of another body": sign(BODY + b" "),
    "the API key": sign(BODY, django_settings.NOWPAYMENTS_API_KEY),
}


@pytest.mark.parametrize("case", UNSIGNED)
def test_an_ipn_that_is_not_authentic(world, case):
    before = counts()
    answer = send_ipn(world, BODY, UNSIGNED[case])
    assert [answer.status_code, answer.content, counts()] == [401, b"", before]


def test_n02_an_empty_signature(world):
    answer = world.client.generic("POST", "/api/payments/ipn", BODY, JSON, headers={"x-nowpayments-sig": ""})
    assert answer.status_code == 401


@pytest.mark.parametrize("case", MALFORMED)
def test_an_unsigned_body_is_401_whatever_it_is(world, case):
    before = counts()
    answer = send_ipn(world, MALFORMED[case], "0" * 128)
    assert [answer.status_code, answer.content, counts()] == [401, b"", before]


UNSTORABLE = [case for case in MALFORMED if case.startswith(("G19 NUL", "G20"))]


@pytest.mark.parametrize("case", [case for case in MALFORMED if case not in UNSTORABLE])
def test_a_signed_body_that_is_no_strict_json_object(world, case):
    before = counts()
    answer = send_ipn(world, MALFORMED[case])
    assert [answer.status_code, answer.content, counts()] == [400, b"", before]


@pytest.mark.parametrize("case", UNSTORABLE)
def test_g19_a_signed_body_that_no_text_column_holds_is_kept_as_bytes(world, case):
    answer = send_ipn(world, MALFORMED[case])
    log = WebhookLog.objects.latest("pk")
    assert [answer.status_code, bytes(log.body), log.event_type] == [200, MALFORMED[case], "malformed"]


ODD_IPNS = {
    **{f"N19 {value!r}": {"payment_id": value} for value in (-1, 1.5, True, None, [], {}, "", "1" * 20, "a/b", "١")},
    "N18 text": {"payment_id": "5077125051"},
    "N17 unknown members": {"whatever": {"nested": [1, {"deep": True}]}},
    **{f"N23 {value!r}": {"payment_status": value} for value in ("hacked", "FINISHED", 7, None, [], "'; DROP TABLE")},
    **{f"N27 {value!r}": {"actually_paid": value} for value in (-1, "NaN", "0x10", "1_000", "٣", 10**40, None)},
    **{f"N30 {value!r}": {"parent_payment_id": value} for value in (123, "123", None, "", 0, "0", [], "x")},
    **{f"N39 {value!r}": {"updated_at": value} for value in ("garbage", "9999-12-31", 0, -1, 10**18)},
    "N15 words": {"order_description": "é 🎮 \u2028 \u202e <script>"},
    "N38 payout": {"payment_id": None, "batch_withdrawal_id": "5000000713"},
    "G45": {"order_id": "' OR 1=1--", "pay_address": "\x1b[31m"},
    "long": {"order_id": "x" * 20_000},
}


@pytest.mark.parametrize("case", ODD_IPNS)
def test_a_signed_ipn_with_odd_values_is_kept(world, case):
    body = ipn(**ODD_IPNS[case])
    answer = send_ipn(world, body)
    log = WebhookLog.objects.latest("pk")
    assert [answer.status_code, answer.content, bytes(log.body)] == [200, b"", body]
    before = {name: number for name, number in counts().items() if name != "WebhookLog"}
    (claimed,) = WebhookLog.objects.claim(only=log.pk)
    process(claimed)
    log.refresh_from_db()
    assert [log.status, log.outcome.partition(":")[0]] == ["ignored", "ignored"]
    assert {name: number for name, number in counts().items() if name != "WebhookLog"} == before


TOKENS = [b"9e-8", b"1e-7", b"0.00000009", b"1e+21", b"1.50", b"0.1", b"1E5", b"123456789012345678901234567890"]


@pytest.mark.parametrize("token", TOKENS)
def test_n13_numbers_are_taken_as_they_are_written(world, token):
    body = b'{"payment_id":1,"actually_paid":' + token + b"}"
    canonical = b'{"actually_paid":' + token + b',"payment_id":1}'
    assert send_ipn(world, body).status_code == 200
    assert send_ipn(world, body + b" ", sign(canonical)).status_code == 200


def test_n04_a_signature_in_upper_case(world):
    assert send_ipn(world, BODY, sign(BODY).upper()).status_code == 200


def test_n12_pretty_printed_and_reordered(world):
    document = {"payment_id": 5, "fee": {"currency": "btc", "depositFee": 0.5}, "b": [1, 2], "a": "é"}
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert send_ipn(world, body, sign(canonical)).status_code == 200


def test_n14_a_fee_that_was_altered_under_a_signature_that_leaves_it_out(world):
    body = json.dumps({"payment_id": 5, "fee": {"depositFee": 9}}).encode()
    assert send_ipn(world, body, sign(b'{"fee":{},"payment_id":5}')).status_code == 401


@pytest.mark.parametrize("secret", [(), ("",), (" ",)])
def test_n08_without_a_secret_nothing_is_believed(world, settings, secret):
    settings.NOWPAYMENTS_IPN_SECRET = secret
    before = counts()
    for signature in (None, "0" * 128):
        answer = send_ipn(world, BODY, signature or sign(BODY, "x"))
        assert [answer.status_code, answer.content, counts()] == [503, b"", before]


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        ("", {}),
        ("text/plain", {}),
        ("application/x-www-form-urlencoded", {}),
        ("application/json; charset=utf-16", {}),
        (JSON, {"Accept": "application/xml", "Cookie": "sessionid=x", "Origin": "https://evil.example"}),
        (JSON, {"X-Event-Secret": "CANARY", "Authorization": "Bearer x", "Sec-Fetch-Site": "cross-site"}),
    ],
)
def test_g27_a_webhook_is_judged_by_its_signature_alone(world, content_type, headers):
    signed = {"x-nowpayments-sig": sign(BODY), **headers}
    answer = world.client.generic("POST", "/api/payments/ipn?a=1&a=2", BODY, content_type, headers=signed)
    assert [answer.status_code, answer.content] == [200, b""]


@pytest.mark.parametrize("route", WEBHOOKS)
def test_g26_a_compressed_webhook_is_not_unpacked(world, route):
    before = counts()
    answer = world.send(route, b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert [answer.status_code, answer.content, counts()] == [415, b"", before]


# K: the supplier's webhook


def send_event(world, body, secret=None, **headers):
    secret = django_settings.KINGUIN_WEBHOOK_SECRET[0] if secret is None else secret
    sent = {**KINGUIN, "X-Event-Secret": secret, **headers}
    return world.client.generic(
        "POST", "/api/webhooks/kinguin", body, JSON, headers={name: value for name, value in sent.items() if value}
    )


RIGHT = django_settings.KINGUIN_WEBHOOK_SECRET[0]
WRONG_SECRETS = {
    "K01 none": "",
    "K02 wrong": "wrong",
    "K03 trailing space": RIGHT + " x",
    "K03 case": RIGHT.swapcase(),
    "K04 é": RIGHT + "é",
    "G38 bytes": "\xff" * 32,
    "G37 twice": f"{RIGHT},{RIGHT}",
    "prefix": RIGHT[:-1],
    "long": RIGHT * 100,
}


@pytest.mark.parametrize("case", WRONG_SECRETS)
def test_an_event_without_the_secret(world, case):
    before = counts()
    answer = send_event(world, supplier_event(), WRONG_SECRETS[case])
    assert [answer.status_code, answer.content, counts()] == [401, b"", before]


def test_k06_without_a_secret_nothing_is_believed(world, settings):
    settings.KINGUIN_WEBHOOK_SECRET = ()
    before = counts()
    answer = send_event(world, supplier_event(), "x")
    assert [answer.status_code, answer.content, counts()] == [503, b"", before]


@pytest.mark.parametrize("case", [case for case in MALFORMED if case != "G06 empty"])
def test_an_authentic_event_that_cannot_be_read_is_kept_for_a_person(world, case):
    answer = send_event(world, MALFORMED[case])
    log = WebhookLog.objects.latest("pk")
    assert [answer.status_code, answer.content, bytes(log.body), log.external_id] == [204, b"", MALFORMED[case], ""]


EVENTS = {
    "K07 no name": (supplier_event(), {"X-Event-Name": ""}, ""),
    "K08 deprecated name": (supplier_event(), {"X-Event-Name": "order.complete"}, "order.complete"),
    "odd name": (supplier_event(), {"X-Event-Name": "<script>"}, ""),
    "long name": (supplier_event(), {"X-Event-Name": "a" * 5000}, ""),
    "non-ASCII name": (supplier_event(), {"X-Event-Name": "\xe9"}, ""),
    "K16 odd time": (supplier_event(updatedAt="yesterday"), {}, "order.status"),
    **{f"K22 {value!r}": (supplier_event(orderId=value, orderExternalId=value), {}, "order.status")
       for value in ("../../v1/balance", "a/b", "%2e", "x" * 200, 1, None, [], {}, "é")},
    "K26 a product's name": (supplier_event(), {"X-Event-Name": "product.update"}, "product.update"),
}  # fmt: skip


@pytest.mark.parametrize("case", EVENTS)
def test_an_odd_event_is_kept(world, case):
    body, headers, event_type = EVENTS[case]
    answer = send_event(world, body, **headers)
    log = WebhookLog.objects.latest("pk")
    assert [answer.status_code, answer.content, answer["Content-Length"]] == [204, b"", "0"]
    assert [log.provider, bytes(log.body), log.event_type] == ["kinguin", body, event_type]
    assert log.external_id in ("abc-def", "")


@pytest.mark.parametrize(
    "members",
    [
        {"qty": -1}, {"qty": 10**12}, {"qty": "845"}, {"qty": None}, {"cheapestOfferId": ["x"] * 150},
        {"cheapestOfferId": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_k21_news_of_products_is_answered_and_dropped(world, members):
    before = counts()
    body = json.dumps({"productId": "6a1f0c2b9d3e4f5061728394", "kinguinId": 1, **members}).encode()
    answer = send_event(world, body, **{"X-Event-Name": "product.update"})
    assert [answer.status_code, answer.content, counts()] == [204, b"", before]

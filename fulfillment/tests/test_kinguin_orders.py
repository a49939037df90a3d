import hashlib
import hmac
import json
import logging
from decimal import Decimal

import pytest
import responses
from django.core.exceptions import ImproperlyConfigured

from bitloot.core.providers import ProviderUnavailable, Transport
from fulfillment import kinguin
from fulfillment.kinguin import (
    BadWebhook,
    EcommerceClient,
    KinguinRejected,
    NotSupported,
    OrdersClient,
    Outcome,
    ReservationsClient,
    SupplierEvent,
    SupplierKey,
    SupplierOrder,
    SupplierStatus,
    UnreadableKey,
    WebhookNotConfigured,
    classify,
)
from fulfillment.tests.kinguin_wire import BASE, EXTERNAL_ID, GARBAGE, NO_ANSWER, OFFER_ID, PRODUCT_ID, SECRET, UNUSABLE

ID = "ord_1A2B3C"
ORDERS, ORDER = f"{BASE}/v1/orders", f"{BASE}/v1/orders/{ID}"


@pytest.fixture
def client():
    transport = Transport(provider="kinguin", base_url=BASE, headers={"Authorization": "Bearer the-api-key"})
    return OrdersClient(transport)


def reserve(client, offer_id=OFFER_ID):
    return client.reserve(
        external_id=EXTERNAL_ID, product_id="", offer_id=offer_id, quantity=2, price=Decimal("5.49"), text_only=True
    )


def order(**members):
    return {"id": ID, "status": "ready", "keys": ["FAKE1-FAKE2", "FAKE3-FAKE4"], **members}


CALLS = {
    "reserve": ("POST", ORDERS, reserve),
    "read": ("GET", ORDER, lambda c: c.read(ID)),
    "delivered": ("GET", ORDER, lambda c: c.delivered(ID)),
}
each_call = pytest.mark.parametrize("name", CALLS)


@each_call
def test_each_call_carries_the_key(client, wire, name):
    method, url, call = CALLS[name]
    wire.add(method, url, json=order())
    assert call(client)
    assert [sent.request.headers["Authorization"] for sent in wire.calls] == ["Bearer the-api-key"]


@each_call
@pytest.mark.parametrize(("status", "body"), UNUSABLE)
def test_each_call_without_a_usable_answer_is_unavailable_and_sent_once(client, wire, name, status, body):
    method, url, call = CALLS[name]
    wire.add(method, url, body=body, status=status, headers={"Location": "https://evil.test/"})
    with pytest.raises(ProviderUnavailable) as caught:
        call(client)
    assert (caught.value.status, classify(caught.value), len(wire.calls)) == (status, Outcome.UNKNOWN, 1)


@each_call
@pytest.mark.parametrize("error", NO_ANSWER)
def test_each_call_without_any_answer_is_unavailable_and_sent_once(client, wire, name, error):
    method, url, call = CALLS[name]
    wire.add(method, url, body=error)
    with pytest.raises(ProviderUnavailable) as caught:
        call(client)
    assert (classify(caught.value), len(wire.calls)) == (Outcome.UNKNOWN, 1)


@each_call
@pytest.mark.parametrize("body", [*GARBAGE, b'{"id":"../x","status":"ready"}', b'{"id":7}', b'{"id":null}'])
def test_each_call_survives_garbage(client, wire, name, body):
    method, url, call = CALLS[name]
    wire.add(method, url, body=body)
    with pytest.raises(ProviderUnavailable) as caught:
        call(client)
    assert classify(caught.value) is Outcome.UNKNOWN


@each_call
def test_each_call_survives_an_answer_cut_off_anywhere(client, name):
    method, url, call = CALLS[name]
    whole = json.dumps(order()).encode()
    for end in range(len(whole)):
        with responses.RequestsMock() as mock:
            mock.add(method, url, body=whole[:end])
            with pytest.raises(ProviderUnavailable) as caught:
                call(client)
        assert caught.value.body == b""


@each_call
@pytest.mark.parametrize("status", [401, 403])
def test_each_call_reports_a_refused_key(client, wire, name, status):
    method, url, call = CALLS[name]
    wire.add(method, url, body=b"", status=status)
    with pytest.raises(KinguinRejected) as caught:
        call(client)
    assert classify(caught.value) is Outcome.REFUSED_CONFIG


def test_create_good(client, wire):
    wire.post(ORDERS, json={"id": ID, "status": "pending"}, status=201)
    assert reserve(client) == SupplierOrder(ID, EXTERNAL_ID, SupplierStatus.PROCESSING)
    assert json.loads(wire.calls[0].request.body) == {"offerId": OFFER_ID, "quantity": 2, "autoDeliver": True}


def test_create_that_delivers_at_once(client, wire):
    wire.post(ORDERS, json={"id": ID, "status": "ready", "key": "FAKE1-FAKE2"}, status=201)
    order = reserve(client)
    assert order == SupplierOrder(ID, EXTERNAL_ID, SupplierStatus.COMPLETED, keys_ready=1)
    assert "FAKE" not in repr(order)


def test_create_bad(client, wire):
    wire.post(ORDERS, json={"kind": "InsufficientBalance", "detail": "No funds."}, status=402)
    with pytest.raises(KinguinRejected) as caught:
        reserve(client)
    assert classify(caught.value) is Outcome.REFUSED_FUNDS


@pytest.mark.parametrize(
    ("status", "word", "outcome"),
    [
        (402, "insufficient_balance", Outcome.REFUSED_FUNDS),
        (409, "out_of_stock", Outcome.REFUSED_STOCK),
        (404, "unknown_offer", Outcome.REFUSED_STOCK),
        (404, "unknown_product", Outcome.REFUSED_STOCK),
        (422, "rejected", Outcome.UNKNOWN),
    ],
)
def test_create_refused_in_the_dialects_words(client, wire, status, word, outcome):
    wire.post(ORDERS, json={"error": word, "message": "No."}, status=status)
    with pytest.raises(KinguinRejected) as caught:
        reserve(client)
    assert classify(caught.value) is outcome


def test_create_refused_in_words_we_do_not_know_is_unknown(client, wire):
    wire.post(ORDERS, json={"error": "offer gone"}, status=404)
    with pytest.raises(KinguinRejected) as caught:
        reserve(client)
    assert (caught.value.kind, classify(caught.value)) == ("offer gone", Outcome.UNKNOWN)


@pytest.mark.parametrize("offer_id", ["", "../x", "a b"])
def test_create_without_an_offer_is_not_sent(client, wire, offer_id):
    with pytest.raises(KinguinRejected, match="offer") as caught:
        reserve(client, offer_id)
    assert (classify(caught.value), len(wire.calls)) == (Outcome.REFUSED_OTHER, 0)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("pending", SupplierStatus.PROCESSING),
        ("ready", SupplierStatus.COMPLETED),
        ("failed", SupplierStatus.CANCELED),
        ("cancelled", SupplierStatus.CANCELED),
        ("canceled", SupplierStatus.CANCELED),
        ("unheard of", SupplierStatus.UNKNOWN),
        (None, SupplierStatus.UNKNOWN),
    ],
)
def test_read_maps_each_status(client, wire, word, status):
    wire.get(ORDER, json=order(status=word, keys=None, error="x"))
    assert client.read(ID) == SupplierOrder(ID, "", status)


def test_read_of_another_order_is_unavailable(client, wire):
    wire.get(ORDER, json=order(id="another"))
    with pytest.raises(ProviderUnavailable, match="another order"):
        client.read(ID)


def test_keys_ready(client, wire):
    wire.get(ORDER, json=order(key="FAKE1-FAKE2"))
    assert client.delivered(ID) == [
        SupplierKey(f"{ID}:1", b"FAKE1-FAKE2", "text/plain", ""),
        SupplierKey(f"{ID}:2", b"FAKE3-FAKE4", "text/plain", ""),
    ]


def test_key_of_an_order_of_one(client, wire):
    wire.get(ORDER, json={"id": ID, "status": "ready", "key": "FAKE1-FAKE2"})
    assert [(key.key_id, key.serial) for key in client.delivered(ID)] == [(f"{ID}:1", b"FAKE1-FAKE2")]


@pytest.mark.parametrize(
    "members", [{"keys": None}, {"keys": []}, {"keys": [""]}, {"keys": [], "key": None}, {"keys": None, "key": ""}]
)
def test_keys_pending(client, wire, members):
    wire.get(ORDER, json=order(status="pending", **members))
    assert client.delivered(ID) == []


def test_keys_of_a_failed_order(client, wire):
    wire.get(ORDER, json={"id": ID, "status": "failed", "error": "sold out"})
    assert client.delivered(ID) == []


@pytest.mark.parametrize(
    "members", [{"keys": [True, "FAKE"]}, {"keys": [{"serial": "SECRET"}, "FAKE"]}, {"keys": [["SECRET"], "FAKE"]}]
)
def test_an_unreadable_key_is_named_and_its_neighbours_are_kept(client, wire, members):
    wire.get(ORDER, json=order(**members))
    with pytest.raises(UnreadableKey) as caught:
        client.delivered(ID)
    assert (caught.value.key_id, [key.key_id for key in caught.value.readable]) == (f"{ID}:1", [f"{ID}:2"])
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("call", [lambda c, i: c.read(i), lambda c, i: c.delivered(i)])
@pytest.mark.parametrize("bad", ["", "../health", "a/b", "%2e%2e"])
def test_nothing_is_sent_for_what_is_no_id(client, wire, call, bad):
    with pytest.raises(KinguinRejected, match="is not an id of Kinguin"):
        call(client, bad)
    assert len(wire.calls) == 0


def test_the_dialect_has_no_catalogue_no_search_and_no_cancel(client, wire):
    assert client.quote(PRODUCT_ID) is None
    assert client.give(ID) is None
    with pytest.raises(NotSupported):
        client.find(EXTERNAL_ID)
    with pytest.raises(NotSupported):
        client.cancel(ID)
    assert (client.dialect, client.can_find, client.webhook_answer) == ("orders", False, (200, b'{"ok":true}'))


def test_health_up(client, wire):
    wire.get(f"{BASE}/v1/health", json={"status": "ok"})
    assert (client.health().ok, client.health().balance) == (True, None)


@pytest.mark.parametrize("answer", [{"status": 503}, {"body": b"<html>"}, {"body": b"", "status": 401}])
def test_health_down(client, wire, answer):
    wire.get(f"{BASE}/v1/health", **answer)
    health = client.health()
    assert health.ok is False
    assert health.problem


def test_no_key_is_in_a_repr_or_a_log_line(client, wire, caplog):
    caplog.set_level(logging.DEBUG)
    wire.get(ORDER, json=order())
    told = repr(client.delivered(ID)) + repr(client.read(ID)) + caplog.text
    assert "FAKE" not in told
    assert "the-api-key" not in told


BODY = json.dumps({"id": ID, "type": "order.ready"}).encode()


def sign(raw, secret=SECRET):
    return {"X-KINGUIN-SIGNATURE": hmac.new(secret.encode(), raw, hashlib.sha512).hexdigest()}


def test_webhook_signed_by_us(client):
    client.verify_webhook(sign(BODY), BODY, [SECRET])
    client.verify_webhook(sign(BODY, "previous"), BODY, [SECRET, "previous"])
    client.verify_webhook({"x-kinguin-signature": sign(BODY)["X-KINGUIN-SIGNATURE"].upper()}, BODY, [SECRET])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-KINGUIN-SIGNATURE": ""},
        {"X-KINGUIN-SIGNATURE": "é" * 128},
        {"X-KINGUIN-SIGNATURE": SECRET},
        {"X-KINGUIN-SIGNATURE": hashlib.sha512(BODY).hexdigest()},
        {"X-KINGUIN-SIGNATURE": hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()},
        sign(BODY + b" "),
        sign(BODY, "another"),
        sign(BODY, ""),
        {"X-Event-Secret": SECRET},
    ],
)
def test_webhook_not_signed_by_us(client, headers):
    with pytest.raises(BadWebhook, match="X-KINGUIN-SIGNATURE"):
        client.verify_webhook(headers, BODY, [SECRET, ""])


def test_webhook_without_a_configured_secret(client):
    with pytest.raises(WebhookNotConfigured):
        client.verify_webhook(sign(BODY, ""), BODY, [""])


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ("order.ready", "ready"),
        ("order.delivered", "ready"),
        ("order.failed", "failed"),
        ("order.cancelled", "cancelled"),
    ],
)
@pytest.mark.parametrize(("id_name", "event_name"), [("id", "type"), ("orderId", "event")])
def test_webhook_events(client, event, status, id_name, event_name):
    raw = json.dumps({id_name: ID, event_name: event}).encode()
    assert client.parse_webhook({}, raw) == SupplierEvent("order", event, ID, status=status)


@pytest.mark.parametrize("raw", [b"", b"{}"])
def test_webhook_ping(client, raw):
    assert client.parse_webhook({}, raw) == SupplierEvent("ping")


@pytest.mark.parametrize(
    "raw", [b"null", b"x", b"\xff", b'{"type":"order.ready"}', b'{"id":"../x","type":"order.ready"}', b'{"id":7}']
)
def test_webhook_garbage_is_unknown(client, raw):
    assert client.parse_webhook({}, raw) == SupplierEvent("unknown")


@pytest.mark.parametrize("event", [b'"order.lost"', b"7", b"null", b"[]"])
def test_webhook_of_an_event_we_do_not_know(client, event):
    raw = b'{"id":"%s","type":%s}' % (ID.encode(), event)
    assert client.parse_webhook({}, raw) == SupplierEvent("unknown", order_id=ID)


@pytest.fixture
def configured(settings):
    settings.KINGUIN_BASE_URL, settings.KINGUIN_API_KEY = BASE, "the-api-key"
    settings.KINGUIN_CLIENT_ID, settings.KINGUIN_CLIENT_SECRET = "the-client", "the-client-secret"
    return settings


@pytest.mark.parametrize(
    ("name", "kind", "path", "header"),
    [
        ("ecommerce", EcommerceClient, "/v1/balance", ("X-Api-Key", "the-api-key")),
        ("orders", OrdersClient, "/v1/health", ("Authorization", "Bearer the-api-key")),
    ],
)
def test_client_speaks_the_configured_dialect(configured, wire, name, kind, path, header):
    configured.KINGUIN_API = name
    wire.get(BASE + path, json={"balance": 1})
    client = kinguin.client()
    assert (type(client), client.health().ok, client.host) == (kind, True, "kinguin.test")
    assert wire.calls[0].request.headers[header[0]] == header[1]


def test_client_speaks_the_reservations_dialect(configured, wire):
    configured.KINGUIN_API = "reservations"
    wire.post(f"{BASE}/auth/token", json={"access_token": "t", "expires_in": 60})
    client = kinguin.client()
    assert (type(client), client.health().ok, client.host) == (ReservationsClient, True, "kinguin.test")
    assert json.loads(wire.calls[0].request.body)["client_id"] == "the-client"


def test_client_is_shared_until_the_settings_change(configured):
    configured.KINGUIN_API = "ecommerce"
    first = kinguin.client()
    assert kinguin.client() is first
    configured.KINGUIN_API_KEY = "another-key"
    assert kinguin.client() is not first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"KINGUIN_API": "soap"}, "'soap'; it has to be ecommerce, reservations or orders"),
        ({"KINGUIN_BASE_URL": ""}, "Set KINGUIN_BASE_URL"),
        ({"KINGUIN_API": "ecommerce", "KINGUIN_API_KEY": ""}, "Set KINGUIN_API_KEY"),
        ({"KINGUIN_API": "orders", "KINGUIN_API_KEY": ""}, "Set KINGUIN_API_KEY"),
        (
            {"KINGUIN_API": "reservations", "KINGUIN_CLIENT_ID": "", "KINGUIN_CLIENT_SECRET": ""},
            "Set KINGUIN_CLIENT_ID and KINGUIN_CLIENT_SECRET",
        ),
    ],
)
def test_client_without_its_settings_says_what_to_set(configured, changes, message):
    for name, value in changes.items():
        setattr(configured, name, value)
    with pytest.raises(ImproperlyConfigured, match=message):
        kinguin.client()

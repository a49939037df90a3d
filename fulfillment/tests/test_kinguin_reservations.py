import json
import logging
import threading
from decimal import Decimal

import pytest
import responses

from bitloot.core.providers import ProviderNotSent, ProviderUnavailable, Transport
from fulfillment.kinguin import (
    BadWebhook,
    KinguinRejected,
    NotSupported,
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
from fulfillment.kinguin import reservations as dialect
from fulfillment.tests.kinguin_wire import BASE, EXTERNAL_ID, GARBAGE, NO_ANSWER, PRODUCT_ID, SECRET, UNUSABLE

ID = "6a2100aa-1111-2222-3333-444455556666"
TOKEN, RESERVE, GIVE = f"{BASE}/auth/token", f"{BASE}/reservations", f"{BASE}/reservations/{ID}/give"
DELIVERED = f"{BASE}/reservations/{ID}/delivered"


@pytest.fixture
def client():
    transport = Transport(provider="kinguin", base_url=BASE, headers={})
    return ReservationsClient(transport, client_id="the-client", client_secret="the-client-secret")


@pytest.fixture
def token(wire):
    return wire.post(TOKEN, json={"access_token": "token-1", "expires_in": 3600, "token_type": "bearer", "scope": None})


def reserve(client):
    return client.reserve(
        external_id=EXTERNAL_ID, product_id=PRODUCT_ID, offer_id="", quantity=2, price=Decimal("5.49"), text_only=True
    )


def reservation(**members):
    return {"reservationId": ID, "status": "delivered", "codes": ["FAKE1-FAKE2", "FAKE3-FAKE4"], **members}


CALLS = {
    "reserve": ("POST", RESERVE, reserve, {"reservationId": ID, "status": "reserved"}),
    "give": ("POST", GIVE, lambda c: c.give(ID), {"status": "given"}),
    "read": ("GET", DELIVERED, lambda c: c.read(ID), reservation()),
    "delivered": ("GET", DELIVERED, lambda c: c.delivered(ID), reservation()),
}
each_call = pytest.mark.parametrize("name", CALLS)


@each_call
def test_each_call_carries_the_token(client, wire, token, name):
    method, url, call, body = CALLS[name]
    wire.add(method, url, json=body, status=201 if name == "reserve" else 200)
    call(client)
    assert wire.calls[-1].request.headers["Authorization"] == "Bearer token-1"
    assert json.loads(wire.calls[0].request.body) == {"client_id": "the-client", "client_secret": "the-client-secret"}


@each_call
@pytest.mark.parametrize(("status", "body"), UNUSABLE)
def test_each_call_without_a_usable_answer_is_unavailable_and_sent_once(client, wire, token, name, status, body):
    method, url, call, _ = CALLS[name]
    sent = wire.add(method, url, body=body, status=status, headers={"Location": "https://evil.test/"})
    with pytest.raises(ProviderUnavailable) as caught:
        call(client)
    assert (caught.value.status, classify(caught.value), sent.call_count) == (status, Outcome.UNKNOWN, 1)


@each_call
@pytest.mark.parametrize("error", NO_ANSWER)
def test_each_call_without_any_answer_is_unavailable_and_sent_once(client, wire, token, name, error):
    method, url, call, _ = CALLS[name]
    sent = wire.add(method, url, body=error)
    with pytest.raises(ProviderUnavailable) as caught:
        call(client)
    assert (classify(caught.value), sent.call_count) == (Outcome.UNKNOWN, 1)


@pytest.mark.parametrize("name", ["reserve", "read", "delivered"])
@pytest.mark.parametrize("body", GARBAGE)
def test_each_call_survives_garbage(client, wire, token, name, body):
    method, url, call, _ = CALLS[name]
    wire.add(method, url, body=body)
    with pytest.raises(ProviderUnavailable) as caught:
        call(client)
    assert classify(caught.value) is Outcome.UNKNOWN


@pytest.mark.parametrize("name", ["reserve", "read", "delivered"])
def test_each_call_survives_an_answer_cut_off_anywhere(client, name):
    method, url, call, body = CALLS[name]
    whole = json.dumps(body).encode()
    for end in range(len(whole)):
        with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
            mock.post(TOKEN, json={"access_token": "token-1", "expires_in": 3600})
            mock.add(method, url, body=whole[:end])
            with pytest.raises(ProviderUnavailable):
                call(client)


def test_create_good(client, wire, token):
    wire.post(RESERVE, json={"reservationId": ID, "status": "reserved"}, status=201)
    assert reserve(client) == SupplierOrder(ID, EXTERNAL_ID, SupplierStatus.PROCESSING)
    assert json.loads(wire.calls[1].request.body) == {"productId": PRODUCT_ID, "quantity": 2}


def test_create_bad(client, wire, token):
    wire.post(RESERVE, json={"kind": "ProductUnavailable", "detail": "None left."}, status=422)
    with pytest.raises(KinguinRejected) as caught:
        reserve(client)
    assert classify(caught.value) is Outcome.REFUSED_STOCK


@pytest.mark.parametrize("bad", [None, 7, "", "../x", "a b", ["x"], "x" * 65])
def test_create_answer_without_a_usable_id_is_unknown(client, wire, token, bad):
    wire.post(RESERVE, json={"reservationId": bad, "status": "reserved"}, status=201)
    with pytest.raises(ProviderUnavailable) as caught:
        reserve(client)
    assert classify(caught.value) is Outcome.UNKNOWN


def test_create_with_a_kept_token_that_ended_early_may_be_tried_again(client, wire, token):
    wire.get(DELIVERED, json=reservation())
    client.read(ID)
    sent = wire.post(RESERVE, json={"kind": "Authorization", "detail": "Expired."}, status=401)
    with pytest.raises(KinguinRejected) as caught:
        reserve(client)
    assert (classify(caught.value), caught.value.status, sent.call_count) == (Outcome.NOT_SENT, 401, 1)
    with pytest.raises(KinguinRejected) as caught:
        reserve(client)
    assert (classify(caught.value), token.call_count) == (Outcome.REFUSED_CONFIG, 2)


def test_two_threads_refused_at_once_forget_the_token_once(client, wire, token):
    wire.get(DELIVERED, json=reservation())
    client.read(ID)
    client._forget("an-older-token")
    client.read(ID)
    assert token.call_count == 1


def test_create_with_a_refused_token_is_refused_and_not_repeated(client, wire, token):
    sent = wire.post(RESERVE, json={"kind": "Authorization", "detail": "Expired."}, status=401)
    with pytest.raises(KinguinRejected) as caught:
        reserve(client)
    assert (classify(caught.value), sent.call_count) == (Outcome.REFUSED_CONFIG, 1)
    wire.replace("POST", TOKEN, json={"access_token": "token-2", "expires_in": 3600})
    wire.replace("POST", RESERVE, json={"reservationId": ID, "status": "reserved"})
    reserve(client)
    assert wire.calls[-1].request.headers["Authorization"] == "Bearer token-2"


@pytest.mark.parametrize(
    "answer", [*[{"status": s, "body": b} for s, b in UNUSABLE], *[{"body": e} for e in NO_ANSWER]]
)
def test_create_without_a_token_was_not_sent(client, wire, answer):
    wire.post(TOKEN, **answer)
    with pytest.raises(ProviderNotSent) as caught:
        reserve(client)
    assert classify(caught.value) is Outcome.NOT_SENT


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_create_with_refused_credentials_says_which(client, wire, status):
    wire.post(TOKEN, json={"error": "invalid_client"}, status=status)
    with pytest.raises(KinguinRejected, match="KINGUIN_CLIENT_ID and KINGUIN_CLIENT_SECRET") as caught:
        reserve(client)
    assert classify(caught.value) is Outcome.REFUSED_CONFIG


@pytest.mark.parametrize("value", [None, "", 7, "a b", "a\r\nX-Evil: 1", "é", "x" * 4097])
def test_a_token_that_does_not_fit_a_header_is_not_used(client, wire, value):
    wire.post(TOKEN, json={"access_token": value, "expires_in": 3600})
    with pytest.raises(ProviderNotSent):
        reserve(client)


@pytest.mark.parametrize("seconds", [None, "soon", -1, "NaN", True])
def test_a_token_without_a_usable_lifetime_is_not_used(client, wire, seconds):
    wire.post(TOKEN, json={"access_token": "token-1", "expires_in": seconds})
    with pytest.raises(ProviderNotSent):
        reserve(client)


def test_the_token_is_kept_until_a_minute_before_its_end(client, wire, token, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(dialect.time, "monotonic", lambda: now)
    wire.get(DELIVERED, json=reservation())
    client.read(ID)
    now += 3539
    client.read(ID)
    assert token.call_count == 1
    now += 1
    client.read(ID)
    assert token.call_count == 2


def test_a_token_of_less_than_a_minute_is_used_once(client, wire):
    token = wire.post(TOKEN, json={"access_token": "short", "expires_in": "30"})
    wire.get(DELIVERED, json=reservation())
    client.read(ID)
    client.read(ID)
    assert token.call_count == 2


def test_many_threads_share_one_token(client, wire, token):
    wire.get(DELIVERED, json=reservation())
    threads = [threading.Thread(target=client.read, args=(ID,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert token.call_count == 1


def test_a_read_gets_one_new_token_after_a_401(client, wire):
    wire.post(TOKEN, json={"access_token": "token-1", "expires_in": 3600})
    wire.post(TOKEN, json={"access_token": "token-2", "expires_in": 3600})
    wire.get(DELIVERED, json={"kind": "Authorization"}, status=401)
    wire.get(DELIVERED, json=reservation())
    assert client.read(ID).status is SupplierStatus.COMPLETED
    assert [call.request.headers.get("Authorization") for call in wire.calls] == [
        None, "Bearer token-1", None, "Bearer token-2",
    ]  # fmt: skip


def test_a_read_gives_up_after_the_second_401(client, wire, token):
    asked = wire.get(DELIVERED, json={"kind": "Authorization"}, status=401)
    with pytest.raises(KinguinRejected) as caught:
        client.read(ID)
    assert (caught.value.status, asked.call_count) == (401, 2)


@pytest.mark.parametrize("status", [400, 403, 404, 409])
def test_a_read_refused_otherwise_is_not_repeated(client, wire, token, status):
    asked = wire.get(DELIVERED, json={"kind": "OrderNotFound"}, status=status)
    with pytest.raises(KinguinRejected):
        client.read(ID)
    assert asked.call_count == 1


def test_give_is_sent_once_even_after_a_401(client, wire, token):
    given = wire.post(GIVE, json={"kind": "Authorization"}, status=401)
    with pytest.raises(KinguinRejected):
        client.give(ID)
    assert given.call_count == 1


def test_give_good(client, wire, token):
    given = wire.post(GIVE, json={"reservationId": ID, "status": "given"})
    assert client.give(ID) is None
    assert given.call_count == 1


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("reserved", SupplierStatus.PROCESSING),
        ("pending", SupplierStatus.PROCESSING),
        ("given", SupplierStatus.PROCESSING),
        ("delivered", SupplierStatus.COMPLETED),
        ("DELIVERED", SupplierStatus.COMPLETED),
        ("cancelled", SupplierStatus.CANCELED),
        ("canceled", SupplierStatus.CANCELED),
        ("refunded", SupplierStatus.REFUNDED),
        ("failed?", SupplierStatus.UNKNOWN),
        (None, SupplierStatus.UNKNOWN),
        (7, SupplierStatus.UNKNOWN),
    ],
)
def test_read_maps_each_status(client, wire, token, word, status):
    wire.get(DELIVERED, json=reservation(status=word))
    assert client.read(ID) == SupplierOrder(ID, "", status, keys_ready=2)


def test_read_of_another_reservation_is_unavailable(client, wire, token):
    wire.get(DELIVERED, json=reservation(reservationId="another"))
    with pytest.raises(ProviderUnavailable, match="another reservation"):
        client.read(ID)


def test_keys_ready(client, wire, token):
    wire.get(DELIVERED, json=reservation())
    assert client.delivered(ID) == [
        SupplierKey(f"{ID}:1", b"FAKE1-FAKE2", "text/plain", ""),
        SupplierKey(f"{ID}:2", b"FAKE3-FAKE4", "text/plain", ""),
    ]


@pytest.mark.parametrize("codes", [None, [], [""], [" ", "\n"]])
def test_keys_pending(client, wire, token, codes):
    wire.get(DELIVERED, json=reservation(codes=codes))
    assert client.delivered(ID) == []


def test_a_blank_code_keeps_the_others_in_their_places(client, wire, token):
    wire.get(DELIVERED, json=reservation(codes=["", "FAKE3-FAKE4"]))
    assert [key.key_id for key in client.delivered(ID)] == [f"{ID}:2"]


@pytest.mark.parametrize("code", [True, {}, ["SECRET"]])
def test_an_unreadable_code_is_named_and_its_neighbours_are_kept(client, wire, token, code):
    wire.get(DELIVERED, json=reservation(codes=[code, "FAKE3-FAKE4"]))
    with pytest.raises(UnreadableKey) as caught:
        client.delivered(ID)
    assert (caught.value.key_id, [key.key_id for key in caught.value.readable]) == (f"{ID}:1", [f"{ID}:2"])
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("codes", ["FAKE", {"0": "FAKE"}, 7])
def test_codes_that_are_no_list_are_no_answer(client, wire, token, codes):
    wire.get(DELIVERED, json=reservation(codes=codes))
    with pytest.raises(ProviderUnavailable) as caught:
        client.delivered(ID)
    assert "FAKE" not in str(caught.value)


@pytest.mark.parametrize("call", [lambda c, i: c.read(i), lambda c, i: c.delivered(i), lambda c, i: c.give(i)])
@pytest.mark.parametrize("bad", ["", "../auth/token", "a/b", "%2e%2e", "a?b"])
def test_nothing_is_sent_for_what_is_no_id(client, wire, call, bad):
    with pytest.raises(KinguinRejected, match="is not an id of Kinguin"):
        call(client, bad)
    assert len(wire.calls) == 0


def test_the_dialect_has_no_catalogue_no_search_and_no_cancel(client, wire):
    assert client.quote(PRODUCT_ID) is None
    with pytest.raises(NotSupported):
        client.find(EXTERNAL_ID)
    with pytest.raises(NotSupported):
        client.cancel(ID)
    assert (client.dialect, client.can_find, client.webhook_answer) == ("reservations", False, (200, b'{"ok":true}'))


def test_health_up(client, wire, token):
    health = client.health()
    assert (health.ok, health.balance, health.problem) == (True, None, "")


@pytest.mark.parametrize(
    "answer", [{"status": 503}, {"json": {"error": "invalid_client"}, "status": 401}, {"json": {}}]
)
def test_health_down(client, wire, answer):
    wire.post(TOKEN, **answer)
    health = client.health()
    assert (health.ok, health.balance) == (False, None)
    assert health.problem


def test_no_secret_token_or_code_is_in_an_error_or_a_log_line(client, wire, token, caplog):
    caplog.set_level(logging.DEBUG)
    wire.get(DELIVERED, json=reservation())
    wire.post(RESERVE, status=500, body=b"token-1 the-client-secret")
    with pytest.raises(ProviderUnavailable) as caught:
        reserve(client)
    told = repr(client.delivered(ID)) + repr(caught.value) + repr(caught.value.body) + caplog.text
    assert not [secret for secret in ("token-1", "the-client-secret", "FAKE1") if secret in told]


def test_webhook_with_our_token(client):
    client.verify_webhook({"x-auth-token": SECRET}, b"", [SECRET])
    client.verify_webhook({"X-Auth-Token": "previous"}, b"", [SECRET, "previous"])


@pytest.mark.parametrize("headers", [{}, {"X-Auth-Token": ""}, {"X-Auth-Token": "é"}, {"X-Event-Secret": SECRET}])
def test_webhook_without_our_token(client, headers):
    with pytest.raises(BadWebhook, match="X-Auth-Token"):
        client.verify_webhook(headers, b"{}", [SECRET])


def test_webhook_without_a_configured_secret(client):
    with pytest.raises(WebhookNotConfigured):
        client.verify_webhook({"X-Auth-Token": ""}, b"{}", ["", " "])


@pytest.mark.parametrize("event", ["reserve", "give", "delivered", "cancel"])
def test_webhook_events(client, event):
    raw = json.dumps({"reservationId": ID, "event": event, "codes": ["never read from here"]}).encode()
    assert client.parse_webhook({}, raw) == SupplierEvent("order", event, ID, status=event)


@pytest.mark.parametrize("raw", [b"", b"{}"])
def test_webhook_ping(client, raw):
    assert client.parse_webhook({}, raw) == SupplierEvent("ping")


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"x",
        b"\xff",
        b'{"event":"delivered"}',
        b'{"reservationId":"../x","event":"delivered"}',
        b'{"reservationId":7}',
    ],
)
def test_webhook_garbage_is_unknown(client, raw):
    assert client.parse_webhook({}, raw) == SupplierEvent("unknown")


@pytest.mark.parametrize("event", [b'"outofstock"', b"7", b"null", b"[]"])
def test_webhook_of_an_event_we_do_not_know(client, event):
    raw = b'{"reservationId":"%s","event":%s}' % (ID.encode(), event)
    assert client.parse_webhook({}, raw) == SupplierEvent("unknown", order_id=ID)

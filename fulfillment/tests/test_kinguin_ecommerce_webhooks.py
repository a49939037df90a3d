"""Webhooks of Kinguin's eCommerce API: who may send one, and what it is read as."""

import json

import pytest

from fulfillment.kinguin import (
    BadWebhook,
    SupplierEvent,
    WebhookNotConfigured,
)
from fulfillment.tests.kinguin_wire import (
    EXTERNAL_ID,
    ORDER_ID,
    PRODUCT_ID,
    SECRET,
    client,
    recorded,
)

__all__ = ["client"]  # a fixture


@pytest.mark.parametrize("name", ["X-Event-Secret", "x-event-secret", "X-EVENT-SECRET"])
def test_webhook_with_our_secret(client, name):
    client.verify_webhook({name: SECRET}, b"anything", [SECRET])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Event-Secret": ""},
        {"X-Event-Secret": SECRET[:-1]},
        {"X-Event-Secret": SECRET + " "},
        {"X-Event-Secret": SECRET.upper()},
        {"X-Event-Secret": "é" * 32},
        {"X-Event-Secret": "٣" * 32},
        {"X-Event-Secret": "\udcff"},
        {"X-Event-Secret": f"{SECRET},{SECRET}"},
        {"X-Auth-Token": SECRET},
    ],
)
def test_webhook_without_our_secret(client, headers):
    with pytest.raises(BadWebhook, match="X-Event-Secret"):
        client.verify_webhook(headers, b"{}", [SECRET, ""])


def test_webhook_with_the_previous_secret(client):
    client.verify_webhook({"X-Event-Secret": "previous"}, b"", ["current", "previous"])
    with pytest.raises(BadWebhook):
        client.verify_webhook({"X-Event-Secret": "previous"}, b"", ["current"])


def test_webhook_secret_beyond_ascii_arrives_as_its_bytes(client):
    client.verify_webhook({"X-Event-Secret": "schlüssel".encode().decode("latin-1")}, b"", ["schlüssel"])


@pytest.mark.parametrize("secrets", [[], [""], [" ", "\n"]])
def test_webhook_without_a_configured_secret(client, secrets):
    with pytest.raises(WebhookNotConfigured, match="KINGUIN_WEBHOOK_SECRET"):
        client.verify_webhook({"X-Event-Secret": ""}, b"", secrets)


def parse(client, body, name="order.status", content_type="aplication/json"):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.parse_webhook({"X-Event-Name": name, "Content-Type": content_type}, raw)


@pytest.mark.parametrize("word", ["processing", "completed", "canceled", "refunded"])
def test_webhook_order_status(client, word):
    body = recorded(f"webhook_order_status_{word}")
    assert parse(client, body) == SupplierEvent("order", "order.status", ORDER_ID, EXTERNAL_ID, word, body["updatedAt"])


@pytest.mark.parametrize("odd", [rb'"\u0000"', rb'"\ud800"', b"NaN", b"1e999999", b'1,"updatedAt":2'])
def test_webhook_with_a_bad_member_says_what_its_others_do(client, odd):
    start = json.dumps({"orderId": ORDER_ID, "orderExternalId": EXTERNAL_ID, "status": "refunded"}).encode()[:-1]
    event = parse(client, start + b',"updatedAt":' + odd + b"}")
    assert event == SupplierEvent("order", "order.status", ORDER_ID, EXTERNAL_ID, "refunded", "")


def test_webhook_order_complete_of_an_old_store(client):
    event = parse(client, recorded("webhook_order_complete_legacy"), "order.complete")
    assert (event.kind, event.event_type, event.order_id, event.status) == ("order", "order.complete", ORDER_ID, "")


@pytest.mark.parametrize("name", ["webhook_product_update", "webhook_product_update_out_of_stock_ASSUMED"])
def test_webhook_product_update(client, name):
    event = parse(client, recorded(name), "product.update")
    assert (event.kind, event.product_id, event.order_id) == ("product", PRODUCT_ID, "")


@pytest.mark.parametrize("name", ["", "product.update", "order.status", "x" * 41, "é", "a\nb"])
def test_webhook_is_read_by_its_shape_not_by_its_name(client, name):
    event = parse(client, recorded("webhook_order_status_completed"), name)
    assert (event.kind, event.order_id) == ("order", ORDER_ID)
    assert event.event_type == (name if name.endswith(("update", "status")) else "")


@pytest.mark.parametrize("body", [b"", b"{}", b" {} \n"])
def test_webhook_ping(client, body):
    assert parse(client, body, "") == SupplierEvent("ping")


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"x",
        b"\xff",
        b"{",
        b"[" * 100_000,
        b'{"orderId":"A12345","orderId":"A12345"}',
        b'{"orderId":1e999}',
        b'{"orderId":"\\ud800"}',
        {"orderId": 7},
        {"orderId": ["A12345"]},
        {"orderId": "../../v1/balance"},
        {"orderId": "a/b"},
        {"orderId": "%2e%2e"},
        {"orderId": "a" * 200},
        {"orderId": "abc"},
        {"orderExternalId": "x y"},
        {"productId": {}},
        {"status": "completed"},
    ],
)
def test_webhook_garbage_is_unknown(client, body):
    event = parse(client, body)
    assert (event.kind, event.order_id, event.external_id, event.product_id) == ("unknown", "", "", "")


@pytest.mark.parametrize("value", [None, 7, [], "x" * 65, "a\nb", "<script>"])
def test_webhook_members_of_a_lying_shape_are_empty(client, value):
    event = parse(client, {"orderId": ORDER_ID, "orderExternalId": value, "status": value, "updatedAt": value})
    assert event == SupplierEvent("order", "order.status", ORDER_ID)

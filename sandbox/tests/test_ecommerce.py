import base64
import json
import struct
import zlib

import pytest

from sandbox.tests.conftest import fixture, shape

EMBER, IMAGE = "64b000000000000000000001", "64b000000000000000000004"
CHANGING = {"timestamp", "trace", "invalidValue", "detail", "path", "method"}


def same_error(answer, name):
    """Compare an error with its fixture, but for what names this very call."""
    expected = fixture(name)
    assert answer.status_code == expected["status"]
    assert set(answer.json) == set(expected)
    assert {key: value for key, value in answer.json.items() if key not in CHANGING} == {
        key: value for key, value in expected.items() if key not in CHANGING
    }


def test_order_answers_as_documented_and_takes_the_money(sandbox):
    answer = sandbox.order("ext-1", qty=2, price=8.0, keyType="text")

    assert answer.status_code == 201
    assert shape(answer.json) == shape(fixture("order_create_response_201.json"))
    assert answer.json["orderExternalId"] == "ext-1"
    assert answer.json["status"] == "processing"
    assert (answer.json["totalPrice"], answer.json["requestTotalPrice"]) == (14.98, 16)
    assert sandbox.kinguin("GET", "/v1/balance").json == {"balance": 249985.02}
    assert sandbox.kinguin("GET", f"/v2/products/{EMBER}").json["qty"] == 49998


def test_delivered_order_shows_its_keys(sandbox):
    order_id = sandbox.order(qty=2, keyType="text").json["orderId"]
    assert sandbox.kinguin("GET", f"/v2/order/{order_id}/keys").json == []
    waiting = sandbox.kinguin("GET", f"/v1/order/{order_id}").json["products"][0]["keys"]
    assert [key["status"] for key in waiting] == ["PROCESSING", "PROCESSING"]

    sandbox.control(f"/orders/{order_id}/deliver", {"count": 1})
    partial = sandbox.kinguin("GET", f"/v1/order/{order_id}").json
    sandbox.control(f"/orders/{order_id}/deliver")
    order = sandbox.kinguin("GET", f"/v1/order/{order_id}").json
    keys = sandbox.kinguin("GET", f"/v2/order/{order_id}/keys").json

    assert partial["status"] == "processing"
    assert sorted(key["status"] for key in partial["products"][0]["keys"]) == ["DELIVERED", "PROCESSING"]
    assert shape(order) == shape(fixture("order_get_completed.json"))
    assert order["status"] == "completed"
    assert shape(keys) == shape(fixture("keys_text.json"))
    assert len({key["serial"] for key in keys}) == 2
    assert {key["id"] for key in keys} == {key["id"] for key in order["products"][0]["keys"]}
    assert sandbox.kinguin("GET", f"/v2/order/{order_id}/keys?limit=1&page=2").json == keys[1:]


def test_image_key_is_a_png(sandbox):
    order_id = sandbox.order(product=4).json["orderId"]
    sandbox.control(f"/orders/{order_id}/deliver")

    (key,) = sandbox.kinguin("GET", f"/v2/order/{order_id}/keys").json
    png = base64.b64decode(key["serial"])

    assert key["type"] == "image/png"
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    length = struct.unpack(">I", png[33:37])[0]
    assert len(zlib.decompress(png[41 : 41 + length])) == height * (width + 1)


def test_text_key_of_a_picture_product_is_unavailable(sandbox):
    same_error(sandbox.order(product=4, keyType="text"), "error_product_unavailable.json")


def test_search_finds_by_exact_external_id(sandbox):
    order_id = sandbox.order("ext-1").json["orderId"]
    sandbox.order("ext-10")

    found = sandbox.kinguin("GET", "/v1/order?orderExternalId=ext-1").json

    assert found["item_count"] == 1
    assert found["results"] == [sandbox.kinguin("GET", f"/v1/order/{order_id}").json]
    assert sandbox.kinguin("GET", "/v1/order?orderExternalId=ext").json == fixture("order_search_empty.json")


@pytest.mark.parametrize("status", [400, 409, 422])
def test_repeated_external_id_is_refused(start, status):
    sandbox = start(deliver="manual", duplicate_status=status)
    sandbox.order("ext-1")

    again = sandbox.order("ext-1", product=2)

    same_error(again, f"error_duplicate_external_id_{status}.json")
    assert len(sandbox.ledger("order_received")) == 2
    assert len(sandbox.ledger("sold")) == 1


def test_repeated_external_id_buys_twice_when_not_enforced(start):
    sandbox = start(deliver="manual", enforce_external_id=False)

    assert [sandbox.order("ext-1").status_code, sandbox.order("ext-1").status_code] == [201, 201]
    assert sandbox.kinguin("GET", "/v1/order?orderExternalId=ext-1").json["item_count"] == 2
    assert [row["external_id"] for row in sandbox.ledger("sold")] == ["ext-1", "ext-1"]


def test_empty_balance_refuses_and_changes_nothing(sandbox):
    sandbox.control("/balance", {"balance": 7.48})

    same_error(sandbox.order(), "error_insufficient_balance.json")

    assert sandbox.kinguin("GET", "/v1/balance").json == {"balance": 7.48}
    assert sandbox.kinguin("GET", f"/v2/products/{EMBER}").json["qty"] == 50000
    assert [row["detail"]["reason"] for row in sandbox.ledger("order_refused")] == ["NoFunds"]


def test_price_below_the_offer_is_unavailable(sandbox):
    same_error(sandbox.order(price=7.48), "error_product_unavailable.json")
    assert sandbox.order(price=7.49).status_code == 201


def test_product_out_of_stock_is_gone_from_the_catalogue(sandbox):
    sandbox.control(f"/products/{EMBER}", {"qty": 0})

    same_error(sandbox.kinguin("GET", f"/v2/products/{EMBER}"), "error_product_not_found_404.json")
    same_error(sandbox.kinguin("GET", "/v1/products/910001"), "error_product_not_found_404.json")
    assert sandbox.kinguin("GET", "/v1/products").json["item_count"] == 5


def test_product_has_the_documented_fields(sandbox):
    product = sandbox.kinguin("GET", f"/v2/products/{EMBER}").json

    documented = fixture("product_v2.json")
    assert set(product) <= set(documented)
    assert {name: shape(product[name]) for name in ("price", "qty", "textQty", "kinguinId", "cheapestOfferId")} == {
        name: shape(documented[name]) for name in ("price", "qty", "textQty", "kinguinId", "cheapestOfferId")
    }
    assert sandbox.kinguin("GET", "/v1/products/910001").json == product
    assert sandbox.kinguin("GET", f"/v1/products?productId={EMBER},{IMAGE}").json["item_count"] == 2


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("name=GLASS", ["Harbour of Glass"]),
        ("platform=PC GOG", ["Saltmarsh Signals (DLC)"]),
        ("regionId=1", ["Harbour of Glass"]),
        ("name=drift&regionId=1", []),
        ("platform=PC GOG,Other&limit=1&page=2", ["Lumen Wallet Card 20"]),
    ],
)
def test_catalogue_is_searched(sandbox, query, names):
    found = sandbox.kinguin("GET", f"/v1/products?{query}").json
    assert [product["name"] for product in found["results"]] == names


def test_a_search_for_two_characters_is_refused(sandbox):
    answer = sandbox.kinguin("GET", "/v1/products?name=ab")
    assert (answer.status_code, answer.json["kind"], answer.json["propertyPath"]) == (
        400,
        "ConstraintViolation",
        "name",
    )


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"products": []}, "products"),
        ({"products": "x"}, "products"),
        ({"products": [{"productId": f"64b{n:021d}", "qty": 1, "price": 20} for n in range(11)]}, "products"),
        ({"products": [{"productId": EMBER, "qty": 10, "price": 8}]}, "products[0].qty"),
        ({"products": [{"productId": EMBER, "qty": True, "price": 8}]}, "products[0].qty"),
        ({"products": [{"productId": EMBER, "qty": 1, "price": "8"}]}, "products[0].price"),
        ({"products": [{"productId": EMBER, "qty": 1, "price": 0}]}, "products[0].price"),
        ({"products": [{"productId": EMBER, "qty": 1, "price": 8, "keyType": "image"}]}, "products[0].keyType"),
        ({"products": [{"productId": 910001, "qty": 1, "price": 8}]}, "products[0].productId"),
        ({"products": [7]}, "products[0]"),
        ({"orderExternalId": 7}, "orderExternalId"),
    ],
)
def test_invalid_order_is_refused_and_counted(sandbox, change, path):
    body = {"products": [{"productId": EMBER, "qty": 1, "price": 8}], "orderExternalId": "ext-1", **change}

    answer = sandbox.kinguin("POST", "/v2/order", body)

    assert (answer.status_code, answer.json["kind"]) == (400, "ConstraintViolation")
    assert answer.json["propertyPath"] == path
    assert [row["what"] for row in sandbox.ledger()] == ["order_received", "order_refused"]


def test_same_product_on_two_lines_is_refused(sandbox):
    line = {"productId": EMBER, "qty": 1, "price": 8}

    answer = sandbox.kinguin("POST", "/v2/order", {"products": [line, line]})

    same_error(answer, "error_constraint_violation_duplicate_product_400.json")
    assert answer.json["detail"] == fixture("error_constraint_violation_duplicate_product_400.json")["detail"]


def test_order_by_kinguin_id_and_without_external_id(sandbox):
    answer = sandbox.kinguin("POST", "/v1/order", {"products": [{"kinguinId": 910002, "qty": 1, "price": 11.9}]})

    assert answer.status_code == 201
    assert answer.json["products"][0]["name"] == "Harbour of Glass"
    assert "orderExternalId" not in answer.json


def test_wrong_key_is_refused_and_an_order_with_it_still_counted(sandbox):
    answer = sandbox.kinguin("POST", "/v2/order", {"orderExternalId": "ext-1"}, **{"X-Api-Key": "other"})

    assert answer.status_code == 401
    assert answer.json == fixture("error_authorization_401.json")
    assert [row["external_id"] for row in sandbox.ledger("order_received")] == ["ext-1"]


def test_unknown_order_is_not_found(sandbox):
    for path in ("/v1/order/NOSUCHORDER", "/v2/order/NOSUCHORDER/keys"):
        answer = sandbox.kinguin("GET", path)
        assert (answer.status_code, answer.json["kind"]) == (404, "OrderNotFound")


def test_unseen_keys_can_be_returned_once(sandbox):
    order_id = sandbox.order(qty=2).json["orderId"]
    sandbox.control(f"/orders/{order_id}/deliver")

    returned = sandbox.kinguin("POST", f"/v2/order/{order_id}/keys/return")

    assert shape(returned.json) == shape(fixture("keys_return_response.json"))
    assert [key["status"] for key in returned.json] == ["RETURNED", "RETURNED"]
    assert sandbox.kinguin("GET", "/v1/balance").json == {"balance": 250000}
    assert sandbox.kinguin("GET", f"/v1/order/{order_id}").json["status"] == "refunded"
    same_error(sandbox.kinguin("POST", f"/v2/order/{order_id}/keys/return"), "error_no_keys_to_return.json")


def test_keys_that_were_read_cannot_be_returned(sandbox):
    order_id = sandbox.order().json["orderId"]
    sandbox.control(f"/orders/{order_id}/deliver")
    sandbox.kinguin("GET", f"/v2/order/{order_id}/keys")

    same_error(sandbox.kinguin("POST", f"/v2/order/{order_id}/keys/return"), "error_no_keys_to_return.json")


def test_keys_owed_are_returned_when_they_arrive(sandbox):
    order_id = sandbox.order().json["orderId"]
    sandbox.kinguin("POST", f"/v2/order/{order_id}/keys/return")

    sandbox.control(f"/orders/{order_id}/deliver")

    (key,) = sandbox.kinguin("GET", f"/v1/order/{order_id}").json["products"][0]["keys"]
    assert key["status"] == "RETURNED"
    assert sandbox.kinguin("GET", "/v1/balance").json == {"balance": 250000}


def test_cancelled_order_returns_what_was_not_delivered(sandbox):
    order_id = sandbox.order(qty=2).json["orderId"]
    sandbox.control(f"/orders/{order_id}/deliver", {"count": 1})

    sandbox.control(f"/orders/{order_id}/cancel")

    order = sandbox.kinguin("GET", f"/v1/order/{order_id}").json
    assert order["status"] == "canceled"
    assert sorted(key["status"] for key in order["products"][0]["keys"]) == ["CANCELED", "DELIVERED"]
    assert sandbox.kinguin("GET", "/v1/balance").json == {"balance": 249992.51}
    assert [row["amount"] for row in sandbox.ledger("refunded")] == ["7.49"]


def test_webhooks_tell_of_processing_and_completed(start, store):
    sandbox = start()
    order_id = sandbox.order("ext-1").json["orderId"]

    bodies = store.wait(2)

    assert [body["status"] for body in bodies] == ["processing", "completed"]
    assert shape(bodies[1]) == shape(fixture("webhook_order_status_completed.json"))
    assert (bodies[1]["orderId"], bodies[1]["orderExternalId"]) == (order_id, "ext-1")
    path, headers, raw = store.received[0]
    assert path == "/api/webhooks/kinguin"
    assert (headers["X-Event-Name"], headers["X-Event-Secret"]) == ("order.status", "kinguin-hook")
    assert b" " not in raw
    assert json.loads(raw) == bodies[0]


def test_held_order_is_not_delivered_until_told(start, store):
    sandbox = start(deliver_after_ms=150)
    order_id = sandbox.order().json["orderId"]
    sandbox.control(f"/orders/{order_id}/hold")
    sandbox.until(lambda: sandbox.http.get("/control/state").json["jobs"] == 0)

    assert sandbox.kinguin("GET", f"/v2/order/{order_id}/keys").json == []
    sandbox.control("/orders/order-1/deliver")
    assert len(sandbox.kinguin("GET", f"/v2/order/{order_id}/keys").json) == 1


def test_look_ups_answer_lists(sandbox):
    assert sandbox.kinguin("GET", "/v1/regions").json[2] == {"id": 3, "name": "REGION FREE"}
    assert "PC Steam" in sandbox.kinguin("GET", "/v1/platforms").json
    assert "Action" in sandbox.kinguin("GET", "/v1/genres").json

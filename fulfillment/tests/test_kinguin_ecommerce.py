import base64
import datetime
import json
import logging
from decimal import Decimal

import pytest
import responses
from responses.matchers import query_param_matcher

from bitloot.core.providers import Cause, ProviderUnavailable, Transport, UnreadableAnswer
from fulfillment.kinguin import (
    AmbiguousSearch,
    BadWebhook,
    EcommerceClient,
    KinguinRejected,
    NotSupported,
    Outcome,
    OutOfStock,
    Quote,
    SupplierEvent,
    SupplierKey,
    SupplierOrder,
    SupplierStatus,
    UnreadableKey,
    WebhookNotConfigured,
    classify,
    ecommerce,
)
from fulfillment.tests.kinguin_wire import (
    BASE,
    EXTERNAL_ID,
    GARBAGE,
    NO_ANSWER,
    OFFER_ID,
    PRODUCT_ID,
    SECRET,
    UNUSABLE,
    changed,
    recorded,
)

ORDER_ID = "TSTORD1A2B3"
ORDERS, ORDER, KEYS = f"{BASE}/v1/order", f"{BASE}/v1/order/{ORDER_ID}", f"{BASE}/v2/order/{ORDER_ID}/keys"
KEY = recorded("keys_text")[0]
PNG = recorded("keys_image")[0]


@pytest.fixture
def client():
    return EcommerceClient(Transport(provider="kinguin", base_url=BASE, headers={"X-Api-Key": "the-api-key"}))


@pytest.fixture
def wire():
    with responses.RequestsMock() as mock:
        yield mock


def reserve(client, **changes):
    purchase = {
        "external_id": EXTERNAL_ID,
        "product_id": PRODUCT_ID,
        "offer_id": OFFER_ID,
        "quantity": 2,
        "price": Decimal("5.49"),
        "text_only": True,
    }
    return client.reserve(**(purchase | changes))


CALLS = {
    "quote": ("GET", f"/v2/products/{PRODUCT_ID}", lambda c: c.quote(PRODUCT_ID), "product_v2"),
    "reserve": ("POST", "/v2/order", reserve, "order_create_response_201"),
    "read": ("GET", f"/v1/order/{ORDER_ID}", lambda c: c.read(ORDER_ID), "order_get_completed"),
    "delivered": ("GET", f"/v2/order/{ORDER_ID}/keys", lambda c: c.delivered(ORDER_ID), "keys_text"),
    "find": ("GET", "/v1/order", lambda c: c.find(EXTERNAL_ID), "order_search_by_external_id"),
    "return_keys": (
        "POST",
        f"/v2/order/{ORDER_ID}/keys/return",
        lambda c: c.return_keys(ORDER_ID),
        "keys_return_response",
    ),
}
each_call = pytest.mark.parametrize("name", CALLS)


@each_call
def test_each_call_understands_its_recorded_answer_and_sends_the_key(client, wire, name):
    method, path, call, fixture = CALLS[name]
    wire.add(method, BASE + path, json=recorded(fixture), status=201 if name == "reserve" else 200)
    assert call(client)
    assert [sent.request.headers["X-Api-Key"] for sent in wire.calls] == ["the-api-key"]


@each_call
@pytest.mark.parametrize(("status", "body"), UNUSABLE)
def test_each_call_without_a_usable_answer_is_unavailable_and_sent_once(client, wire, name, status, body):
    method, path, call, _ = CALLS[name]
    wire.add(method, BASE + path, body=body, status=status, headers={"Location": "https://evil.test/"})
    with pytest.raises(ProviderUnavailable) as caught:
        call(client)
    assert (caught.value.status, caught.value.body) == (status, b"")
    assert [sent.request.url.split("?")[0] for sent in wire.calls] == [BASE + path]


@each_call
@pytest.mark.parametrize("error", NO_ANSWER)
def test_each_call_without_any_answer_is_unavailable_and_sent_once(client, wire, name, error):
    method, path, call, _ = CALLS[name]
    wire.add(method, BASE + path, body=error)
    with pytest.raises(ProviderUnavailable):
        call(client)
    assert len(wire.calls) == 1


@each_call
@pytest.mark.parametrize("body", GARBAGE)
def test_each_call_survives_garbage(client, wire, name, body):
    method, path, call, _ = CALLS[name]
    wire.add(method, BASE + path, body=body)
    with pytest.raises((UnreadableAnswer, UnreadableKey)) as caught:
        call(client)
    assert (classify(caught.value), caught.value.cause) == (Outcome.UNKNOWN, Cause.NONSENSE)


@each_call
def test_each_call_survives_an_answer_cut_off_anywhere(client, name):
    method, path, call, fixture = CALLS[name]
    whole = json.dumps(recorded(fixture)).encode()
    for end in range(0, len(whole), max(1, len(whole) // 60)):
        with responses.RequestsMock() as mock:
            mock.add(method, BASE + path, body=whole[:end])
            with pytest.raises(ProviderUnavailable) as caught:
                call(client)
        assert caught.value.body == b""


@each_call
def test_each_call_reports_a_refused_key(client, wire, name):
    method, path, call, _ = CALLS[name]
    wire.add(method, BASE + path, json=recorded("error_authorization_401"), status=401)
    with pytest.raises(KinguinRejected) as caught:
        call(client)
    assert (caught.value.status, caught.value.kind, caught.value.detail) == (
        401,
        "Authorization",
        "Invalid authentication data.",
    )
    assert str(caught.value) == "Kinguin answered 401 Authorization: Invalid authentication data."


@pytest.mark.parametrize(
    "call",
    [
        lambda c, i: c.read(i),
        lambda c, i: c.delivered(i),
        lambda c, i: c.return_keys(i),
        lambda c, i: c.quote(i),
        lambda c, i: reserve(c, product_id=i),
    ],
)
@pytest.mark.parametrize("bad", ["", "../../v1/balance", "a/b", "%2e%2e", "a" * 65, "a?b", "٣", "a b", "a\n"])
def test_nothing_is_sent_for_what_is_no_id(client, wire, call, bad):
    with pytest.raises(KinguinRejected, match="is not an id of Kinguin") as caught:
        call(client, bad)
    assert classify(caught.value) is Outcome.REFUSED_OTHER
    assert len(wire.calls) == 0


def test_quote_names_price_and_stock(client, wire):
    wire.get(f"{BASE}/v2/products/{PRODUCT_ID}", json=recorded("product_v2"))
    assert client.quote(PRODUCT_ID) == Quote(price=Decimal("5.49"), qty=149, text_qty=147)


def test_quote_of_an_account_that_is_not_shown_text_stock(client, wire):
    product = recorded("product_sparse_optional_fields_missing")
    wire.get(f"{BASE}/v2/products/{product['productId']}", json=product)
    assert client.quote(product["productId"]) == Quote(price=Decimal("5.49"), qty=149, text_qty=149)


def test_quote_of_a_sold_out_product(client, wire):
    wire.get(f"{BASE}/v2/products/{PRODUCT_ID}", json=recorded("error_product_not_found_404"), status=404)
    with pytest.raises(OutOfStock, match=PRODUCT_ID):
        client.quote(PRODUCT_ID)


@pytest.mark.parametrize("members", [{"qty": 0}, {"qty": -1}, {"isPreorder": True}])
def test_quote_of_nothing_to_sell(client, wire, members):
    wire.get(f"{BASE}/v2/products/{PRODUCT_ID}", json=changed("product_v2", **members))
    with pytest.raises(OutOfStock):
        client.quote(PRODUCT_ID)


@pytest.mark.parametrize(
    "members",
    [
        {"price": None},
        {"price": 0},
        {"price": -1},
        {"price": "5,49"},
        {"price": True},
        {"qty": "149"},
        {"qty": None},
        {"qty": 1.5},
        {"qty": 10**12},
        {"productId": "another"},
        {"productId": None},
    ],
)
def test_quote_refuses_a_lying_shape(client, wire, members):
    wire.get(f"{BASE}/v2/products/{PRODUCT_ID}", json=changed("product_v2", **members))
    with pytest.raises(ProviderUnavailable):
        client.quote(PRODUCT_ID)


@pytest.mark.parametrize("odd", ["x", 1.5, 10**12, [], True])
def test_a_quote_does_not_wait_for_a_figure_that_only_some_accounts_see(client, wire, odd):
    wire.get(f"{BASE}/v2/products/{PRODUCT_ID}", json=changed("product_v2", textQty=odd, platform=7, offers="none"))
    quote = client.quote(PRODUCT_ID)
    assert quote.text_qty == quote.qty > 0


def test_create_good(client, wire):
    wire.post(f"{BASE}/v2/order", json=recorded("order_create_response_201"), status=201)
    assert reserve(client) == SupplierOrder(
        order_id=ORDER_ID,
        external_id=EXTERNAL_ID,
        status=SupplierStatus.PROCESSING,
        cost=Decimal("5.49"),
        keys_expected=1,
    )
    assert json.loads(wire.calls[0].request.body) == recorded("order_create_request_v2_offer")
    assert b'"price":5.49,' in wire.calls[0].request.body


def test_create_without_offer_or_text_only_leaves_both_out(client, wire):
    wire.post(f"{BASE}/v2/order", json=recorded("order_create_response_201"), status=201)
    reserve(client, offer_id="", quantity=1, price=Decimal("5.79"), text_only=False)
    request = recorded("order_create_request_v2")
    del request["products"][0]["keyType"]
    assert json.loads(wire.calls[0].request.body) == request


def test_create_bad(client, wire):
    wire.post(f"{BASE}/v2/order", json=recorded("error_product_unavailable_STATUS_ASSUMED"), status=422)
    with pytest.raises(KinguinRejected) as caught:
        reserve(client)
    assert (caught.value.status, caught.value.kind) == (422, "ProductUnavailable")
    assert classify(caught.value) is Outcome.REFUSED_STOCK


@pytest.mark.parametrize(
    "members",
    [
        {"orderExternalId": "another"},
        {"orderExternalId": None},
        {"orderExternalId": 7},
        {"orderId": None},
        {"orderId": 7},
        {"orderId": "../x"},
        {"orderId": "abc"},
        {"orderId": "a" * 41},
        {"orderId": ""},
        {"orderId": ["TSTORD1A2B3"]},
    ],
)
def test_create_answer_that_is_not_about_our_order_is_unknown(client, wire, members):
    wire.post(f"{BASE}/v2/order", json=changed("order_create_response_201", **members), status=201)
    with pytest.raises(ProviderUnavailable) as caught:
        reserve(client)
    assert classify(caught.value) is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("members", "cost"),
    [
        ({"paymentPrice": 9.99}, Decimal("9.99")),
        ({"paymentPrice": "5.49"}, Decimal("5.49")),
        ({"paymentPrice": 5}, Decimal(5)),
        ({"paymentPrice": None}, Decimal("5.49")),
        ({"paymentPrice": None, "totalPrice": None}, None),
        ({"paymentPrice": "NaN"}, None),
        ({"paymentPrice": -1}, None),
        ({"paymentPrice": {}}, None),
    ],
)
def test_create_keeps_the_purchase_whatever_it_is_said_to_cost(client, wire, members, cost):
    wire.post(f"{BASE}/v2/order", json=changed("order_create_response_201", **members), status=201)
    assert reserve(client).cost == cost


@pytest.mark.parametrize(
    "products", [None, [], {}, "x", [1], [{"qty": "1"}], [{"qty": True, "keys": 7}], [{"keys": [1]}]]
)
def test_create_keeps_the_purchase_whatever_its_rows_look_like(client, wire, products):
    wire.post(f"{BASE}/v2/order", json=changed("order_create_response_201", products=products), status=201)
    assert (reserve(client).order_id, reserve_counts(client, wire, products)) == (ORDER_ID, (0, 0, 0))


def reserve_counts(client, wire, products):
    order = reserve(client)
    return order.keys_expected, order.keys_ready, order.keys_lost


@pytest.mark.parametrize(
    ("fixture", "status", "counts"),
    [
        ("order_get_processing", SupplierStatus.PROCESSING, (1, 0, 0)),
        ("order_get_preorder", SupplierStatus.PROCESSING, (1, 0, 0)),
        ("order_get_partial_two_keys", SupplierStatus.PROCESSING, (2, 1, 0)),
        ("order_get_completed", SupplierStatus.COMPLETED, (1, 1, 0)),
        ("order_get_split_offers", SupplierStatus.COMPLETED, (2, 2, 0)),
        ("order_get_canceled", SupplierStatus.CANCELED, (1, 0, 1)),
        ("order_get_refunded", SupplierStatus.REFUNDED, (1, 0, 1)),
    ],
    ids=["pending", "preorder", "partial", "ready", "split", "failed", "refunded"],
)
def test_read_order(client, wire, fixture, status, counts):
    wire.get(ORDER, json=recorded(fixture))
    order = client.read(ORDER_ID)
    assert (order.status, (order.keys_expected, order.keys_ready, order.keys_lost)) == (status, counts)
    assert order.cost == Decimal(str(recorded(fixture)["paymentPrice"]))
    assert order.external_id == EXTERNAL_ID


@pytest.mark.parametrize("word", ["error", "", None, 7, ["completed"], "x" * 200])
def test_read_never_guesses_a_status(client, wire, word, caplog):
    wire.get(ORDER, json=changed("order_get_completed", status=word))
    assert client.read(ORDER_ID).status is SupplierStatus.UNKNOWN
    assert any(message.startswith("Kinguin sent an order status we do not know") for message in caplog.messages)


def test_read_of_another_order_is_unavailable(client, wire):
    wire.get(ORDER, json=changed("order_get_completed", orderId="OTHER1A2B3"))
    with pytest.raises(ProviderUnavailable, match=f"another order than {ORDER_ID}"):
        client.read(ORDER_ID)


def test_read_of_an_unknown_order_is_rejected(client, wire):
    wire.get(ORDER, json=recorded("error_order_not_found_STATUS_ASSUMED"), status=404)
    with pytest.raises(KinguinRejected) as caught:
        client.read(ORDER_ID)
    assert (caught.value.status, caught.value.kind) == (404, "OrderNotFound")


def test_find_returns_the_order_with_our_external_id(client, wire):
    query = {"orderExternalId": EXTERNAL_ID, "limit": "100"}
    wire.get(ORDERS, json=recorded("order_search_by_external_id"), match=[query_param_matcher(query)])
    assert client.find(EXTERNAL_ID).order_id == ORDER_ID


def test_find_returns_none_when_there_is_none(client, wire):
    wire.get(ORDERS, json=recorded("order_search_empty"))
    assert client.find(EXTERNAL_ID) is None


def test_find_takes_exact_matches_only(client, wire):
    row = recorded("order_search_by_external_id")["results"][0]
    others = [{**row, "orderExternalId": other} for other in (EXTERNAL_ID + "-2", EXTERNAL_ID.upper(), None, 7)]
    wire.get(ORDERS, json={"results": [*others, "x", None], "item_count": 6})
    assert client.find(EXTERNAL_ID) is None


def test_find_of_two_orders_adopts_neither(client, wire):
    row = recorded("order_search_by_external_id")["results"][0]
    wire.get(ORDERS, json={"results": [row, {**row, "orderId": "OTHER1A2B3"}, row], "item_count": 3})
    with pytest.raises(AmbiguousSearch) as caught:
        client.find(EXTERNAL_ID)
    assert caught.value.order_ids == ["OTHER1A2B3", ORDER_ID]


def test_find_of_the_same_order_twice_is_one(client, wire):
    row = recorded("order_search_by_external_id")["results"][0]
    wire.get(ORDERS, json={"results": [row, row], "item_count": 2})
    assert client.find(EXTERNAL_ID).order_id == ORDER_ID


def test_find_cut_off_before_it_found_anything_is_no_answer(client, wire):
    row = recorded("order_search_by_external_id")["results"][0]
    wire.get(ORDERS, json={"results": [{**row, "orderExternalId": "another"}] * 100, "item_count": 5000})
    with pytest.raises(ProviderUnavailable, match="cut off"):
        client.find(EXTERNAL_ID)


@pytest.mark.parametrize("results", [None, {}, "x", 7])
def test_find_without_a_list_is_no_answer(client, wire, results):
    wire.get(ORDERS, json={"results": results, "item_count": 0})
    with pytest.raises(ProviderUnavailable, match="no list of results"):
        client.find(EXTERNAL_ID)


def test_find_of_our_order_in_a_bad_shape_is_no_answer(client, wire):
    row = recorded("order_search_by_external_id")["results"][0]
    wire.get(ORDERS, json={"results": [{**row, "orderId": "../x"}]})
    with pytest.raises(ProviderUnavailable, match="another form"):
        client.find(EXTERNAL_ID)


def test_key_text(client, wire):
    wire.get(KEYS, json=recorded("keys_text"), match=[query_param_matcher({"page": "1", "limit": "3"})])
    assert client.delivered(ORDER_ID) == [
        SupplierKey("6a20aa31e4d991383ee20001", b"FAKE1-FAKE2-FAKE3", "text/plain", PRODUCT_ID)
    ]


def listed(first, last):
    [order] = recorded("order_search_by_external_id")["results"]
    rows = [{**order, "orderId": f"ORDER{number:05}"} for number in range(first, last + 1)]
    return {"results": rows, "item_count": 250}


def test_orders_since_a_moment_are_paged_until_the_last(client, wire):
    since = datetime.datetime(2026, 3, 2, 10, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    for page, rows in enumerate([listed(1, 100), listed(100, 199), listed(200, 250)], 1):
        query = {"createdAtFrom": "2026-03-02T08:00:00+00:00", "page": str(page), "limit": "100"}
        wire.get(f"{BASE}/v1/order", json=rows, match=[query_param_matcher(query)])
    assert [order.order_id for order in client.list_since(since)] == [f"ORDER{n:05}" for n in range(1, 251)]


def test_orders_of_a_host_that_ignores_the_page_are_read_once(client, wire):
    wire.get(f"{BASE}/v1/order", json=listed(1, 100))
    assert len(list(client.list_since(datetime.datetime.now(datetime.UTC)))) == 100
    assert len(wire.calls) == 2


def test_orders_without_end_are_not_taken_for_all(client, wire, monkeypatch):
    monkeypatch.setattr(ecommerce, "MAX_ORDER_PAGES", 2)
    for first in (1, 101):
        wire.get(f"{BASE}/v1/order", json=listed(first, first + 99))
    with pytest.raises(ProviderUnavailable, match="do not end after 2 pages"):
        list(client.list_since(datetime.datetime.now(datetime.UTC)))


def test_key_image(client, wire):
    wire.get(KEYS, json=recorded("keys_image"))
    [key] = client.delivered(ORDER_ID)
    assert (key.content_type, key.serial) == ("image/png", base64.b64decode(PNG["serial"]))


def test_keys_pending(client, wire):
    wire.get(KEYS, json=recorded("keys_empty"))
    assert client.delivered(ORDER_ID) == []


def test_keys_pending_as_answered_until_2024(client, wire):
    wire.get(KEYS, json={"kind": "OrderNotDispatchedYet", "status": 422, "detail": "Not yet."}, status=422)
    assert client.delivered(ORDER_ID) == []


def test_keys_of_an_unknown_order_are_rejected(client, wire):
    wire.get(KEYS, json=recorded("error_order_not_found_STATUS_ASSUMED"), status=404)
    with pytest.raises(KinguinRejected):
        client.delivered(ORDER_ID)


def numbered(first, last):
    return [{**KEY, "id": f"key{number}", "serial": f"SERIAL-{number}"} for number in range(first, last + 1)]


def test_keys_are_paged_until_the_last(client, wire):
    for page, rows in enumerate([numbered(1, 3), numbered(4, 6), numbered(7, 7)], 1):
        wire.get(KEYS, json=rows, match=[query_param_matcher({"page": str(page), "limit": "3"})])
    assert [key.key_id for key in client.delivered(ORDER_ID)] == [f"key{number}" for number in range(1, 8)]


def test_keys_of_a_host_that_ignores_the_page_are_read_once(client, wire):
    wire.get(KEYS, json=numbered(1, 9))
    assert len(client.delivered(ORDER_ID)) == 9
    assert len(wire.calls) == 2


def test_keys_repeated_on_another_page_count_once(client, wire):
    wire.get(KEYS, json=[*numbered(1, 2), *numbered(2, 2)])
    wire.get(KEYS, json=[*numbered(2, 3), *numbered(1, 1)])
    wire.get(KEYS, json=[])
    assert [key.serial for key in client.delivered(ORDER_ID)] == [b"SERIAL-1", b"SERIAL-2", b"SERIAL-3"]


def test_keys_without_end_are_no_answer(client):
    with responses.RequestsMock() as mock:
        pages = iter(range(1, 1000))
        mock.add_callback(
            "GET",
            KEYS,
            lambda _: (200, {}, json.dumps([{**KEY, "id": f"{page}-{i}"} for page in [next(pages)] for i in "abc"])),
        )
        with pytest.raises(ProviderUnavailable, match="do not end"):
            client.delivered(ORDER_ID)
        assert len(mock.calls) == 40


@pytest.mark.parametrize("serial", ["", " ", "\n\t", None])
def test_keys_without_a_serial_are_not_there_yet(client, wire, serial):
    wire.get(KEYS, json=[{**KEY, "serial": serial}])
    assert client.delivered(ORDER_ID) == []


def test_a_key_may_have_several_lines_and_any_script(client, wire):
    serial = "Zeile 1: ключ\r\nhttps://redeem.example/ 🎮  "
    wire.get(KEYS, json=[{**KEY, "serial": serial, "type": "Text/Plain; charset=utf-8"}])
    assert [key.serial for key in client.delivered(ORDER_ID)] == [serial.encode()]


JPEG, GIF = b"\xff\xd8\xff\xe0rest", b"GIF89arest"


@pytest.mark.parametrize(("kind", "image"), [("image/jpeg", JPEG), ("image/gif", GIF), ("IMAGE/JPEG", JPEG)])
def test_an_image_of_each_kind(client, wire, kind, image):
    wire.get(KEYS, json=[{**KEY, "type": kind, "serial": base64.b64encode(image).decode()}])
    assert [(key.serial, key.content_type) for key in client.delivered(ORDER_ID)] == [(image, kind.lower())]


WEBP = b"RIFF\x1a\x00\x00\x00WEBPVP8 "
PNG_BYTES = base64.b64decode(PNG["serial"])
ODD_PICTURES = {
    "a line break": (PNG["serial"][:40] + "\r\n" + PNG["serial"][40:], "image/png", PNG_BYTES),
    "no padding": (base64.b64encode(JPEG + b"x").decode().rstrip("="), "image/jpeg", JPEG + b"x"),
    "the alphabet of URLs": (base64.urlsafe_b64encode(JPEG + b"\xfb\xff").decode(), "image/jpeg", JPEG + b"\xfb\xff"),
    "a data URI": ("data:image/png;base64," + PNG["serial"], "image/png", PNG_BYTES),
    "a data URI with parameters": ("\n data:image/png;name=key.png;base64," + PNG["serial"], "image/png", PNG_BYTES),
    "WebP": (base64.b64encode(WEBP).decode(), "image/webp", WEBP),
}


@pytest.mark.parametrize("label", ["image/png", "image/jpg", "IMAGE/JPG; name=key", "application/pdf", "", None])
@pytest.mark.parametrize("name", ODD_PICTURES)
def test_a_picture_is_what_its_bytes_say_however_it_is_written_and_labelled(client, wire, name, label):
    written, content_type, content = ODD_PICTURES[name]
    wire.get(KEYS, json=[{**KEY, "type": label, "serial": written}])
    assert [(key.serial, key.content_type) for key in client.delivered(ORDER_ID)] == [(content, content_type)]


@pytest.mark.parametrize(
    ("label", "serial"),
    [
        ("image/svg+xml", "<svg>SECRET</svg>"),
        ("application/pdf", "SECRET"),
        ("", "SECRET"),
        (None, "AAAA-BBBB-CCCC"),
        (7, "SECRET"),
        ("text/html", "<b>SECRET</b>"),
        ("image/png", "SECRET-SECRET"),
        ("image/png", "SECRÉT"),
        ("image/png", base64.b64encode(b"<html>SECRET").decode()),
        ("image/png", "data:image/png,SECRET"),
        ("text/plain", "x" * (64 * 1024 + 1)),
        ("text/plain", "half a pair \ud83d"),
    ],
)
def test_what_cannot_be_shown_is_handed_over_as_it_came(client, wire, label, serial):
    wire.get(KEYS, json=[{**KEY, "type": label, "serial": serial}])
    [key] = client.delivered(ORDER_ID)
    assert (key.serial, key.content_type) == (serial.encode("utf-8", "surrogatepass"), "application/octet-stream")


@pytest.mark.parametrize(
    "serial",
    [
        "x" * 64 * 1024,
        "é" * 32 * 1024,
        "one\r\ntwo\r\n",
        "NUL \x00 in it",
        "\u202eright to left",
        "😀",
        "\ufeffBOM",
        "a\xa0b",
    ],
)
@pytest.mark.parametrize("label", ["text/plain", "TEXT/PLAIN; charset=utf-16", "text"])
def test_any_text_is_shown_byte_for_byte(client, wire, label, serial):
    wire.get(KEYS, json=[{**KEY, "type": label, "serial": serial}])
    [key] = client.delivered(ORDER_ID)
    assert (key.serial, key.content_type) == (serial.encode(), "text/plain")


def test_a_number_is_a_code(client, wire):
    wire.get(KEYS, json=[{**KEY, "serial": 12345678901234567890}])
    assert [key.serial for key in client.delivered(ORDER_ID)] == [b"12345678901234567890"]


UNREADABLE = [{"serial": ["SECRET"]}, {"serial": {"code": "SECRET"}}, {"serial": True}]


@pytest.mark.parametrize("members", UNREADABLE)
def test_an_unreadable_key_is_named_and_its_neighbours_are_kept(client, wire, members):
    wire.get(KEYS, json=[{**KEY, "id": "bad1", "serial": "SECRET", **members}, {**KEY, "id": "good"}])
    with pytest.raises(UnreadableKey) as caught:
        client.delivered(ORDER_ID)
    assert caught.value.key_id == "bad1"
    assert [key.key_id for key in caught.value.readable] == ["good"]
    assert "SECR" not in repr(caught.value) + str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("row", [1, None, [], {}, {**KEY, "id": None}, {**KEY, "id": 7}, {**KEY, "id": "../x"}])
def test_a_key_without_an_id_is_named_and_its_neighbours_are_kept(client, wire, row):
    wire.get(KEYS, json=[row, {**KEY, "id": "good"}])
    with pytest.raises(UnreadableKey, match="it has no id") as caught:
        client.delivered(ORDER_ID)
    assert [key.key_id for key in caught.value.readable] == ["good"]


def test_a_page_that_cannot_be_read_withholds_no_key_of_the_pages_before_it(client, wire):
    wire.get(KEYS, json=[{**KEY, "id": f"good{number}"} for number in range(3)])
    wire.get(KEYS, body=b"<html>")
    with pytest.raises(UnreadableKey, match="Key page 2 is unreadable") as caught:
        client.delivered(ORDER_ID)
    assert [key.key_id for key in caught.value.readable] == ["good0", "good1", "good2"]


def test_an_odd_order_hides_no_other_and_the_list_is_not_taken_for_all(client, wire):
    orders = listed(1, 3)
    orders["results"][1]["orderId"] = None
    wire.get(f"{BASE}/v1/order", json=orders)
    found = []
    with pytest.raises(UnreadableAnswer, match="^1 of Kinguin's orders"):
        found.extend(client.list_since(datetime.datetime.now(datetime.UTC)))
    assert len(found) == 2


def test_no_serial_is_ever_in_a_repr_or_a_log_line(client, wire, caplog):
    caplog.set_level(logging.DEBUG)
    wire.get(KEYS, json=recorded("keys_two_text"))
    keys = client.delivered(ORDER_ID)
    assert len(keys) == 2
    assert "FAKE" not in repr(keys) + str(keys[0]) + caplog.text


def test_give_has_nothing_to_do(client, wire):
    assert client.give(ORDER_ID) is None
    assert len(wire.calls) == 0


def test_cancel_is_not_supported(client, wire):
    with pytest.raises(NotSupported, match="return its keys"):
        client.cancel(ORDER_ID)


def test_return_keys_tells_what_became_of_each(client, wire):
    wire.post(f"{KEYS}/return", json=recorded("keys_return_response"))
    assert client.return_keys(ORDER_ID) == {
        "6a20aa31e4d991383ee20001": "RETURNED",
        "6a20aa31e4d991383ee20002": "DELIVERED",
    }
    assert wire.calls[0].request.body is None


def test_return_keys_when_there_is_nothing_to_return(client, wire):
    wire.post(f"{KEYS}/return", json=recorded("error_no_keys_to_return_STATUS_ASSUMED"), status=422)
    with pytest.raises(KinguinRejected) as caught:
        client.return_keys(ORDER_ID)
    assert caught.value.kind == "NoKeysToReturn"


def test_health_up(client, wire):
    wire.get(f"{BASE}/v1/balance", json=recorded("balance"))
    health = client.health()
    assert (health.ok, health.balance, health.problem) == (True, Decimal("123.45"), "")
    assert 0 <= health.latency_ms < 5000


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"status": 503}, "kinguin answered 503"),
        ({"body": b"<html>"}, "unreadable answer: The body is not valid JSON in UTF-8."),
        (
            {"json": {"kind": "Authorization", "detail": "No."}, "status": 401},
            "Kinguin answered 401 Authorization: No.",
        ),
    ],
)
def test_health_down(client, wire, answer, problem):
    wire.get(f"{BASE}/v1/balance", **answer)
    health = client.health()
    assert (health.ok, health.balance, health.problem) == (False, None, problem)


@pytest.mark.parametrize("odd", ["12,45", -1, None, [], True])
def test_a_balance_that_cannot_be_read_is_no_outage(client, wire, odd):
    wire.get(f"{BASE}/v1/balance", json={"balance": odd})
    assert (client.health().ok, client.health().balance) == (True, None)


def test_describes_itself(client):
    assert (client.dialect, client.host, client.can_find, client.webhook_answer) == (
        "ecommerce",
        "kinguin.test",
        True,
        (204, b""),
    )


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

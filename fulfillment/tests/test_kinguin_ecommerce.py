import datetime
import json
from decimal import Decimal

import pytest
import responses
from responses.matchers import query_param_matcher

from bitloot.core.providers import Cause, ProviderUnavailable, UnreadableAnswer
from fulfillment.kinguin import (
    AmbiguousSearch,
    KinguinRejected,
    NotSupported,
    Outcome,
    OutOfStock,
    Quote,
    SupplierOrder,
    SupplierStatus,
    UnreadableKey,
    classify,
    ecommerce,
)
from fulfillment.tests.kinguin_wire import (
    BASE,
    EXTERNAL_ID,
    GARBAGE,
    KEYS,
    NO_ANSWER,
    OFFER_ID,
    ORDER,
    ORDER_ID,
    ORDERS,
    PRODUCT_ID,
    UNUSABLE,
    changed,
    client,
    recorded,
)

__all__ = ["client"]  # a fixture


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


def test_an_odd_order_hides_no_other_and_the_list_is_not_taken_for_all(client, wire):
    orders = listed(1, 3)
    orders["results"][1]["orderId"] = None
    wire.get(f"{BASE}/v1/order", json=orders)
    found = []
    with pytest.raises(UnreadableAnswer, match="^1 of Kinguin's orders"):
        found.extend(client.list_since(datetime.datetime.now(datetime.UTC)))
    assert len(found) == 2


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

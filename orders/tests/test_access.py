import time
import uuid

import pytest
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from orders.access import LIVES, bearer, make_token, open_order, order_for, order_link
from orders.exceptions import LinkExpired, LinkReplaced, OrderNotFound
from orders.models import Order
from orders.services import renew_link
from orders.tests.factories import make_order

pytestmark = pytest.mark.django_db


def test_both_tokens_open_their_order():
    order = make_order()
    for purpose in ("api", "mail"):
        assert open_order(order.id, make_token(order, purpose)) == order
        assert open_order(str(order.id), make_token(order, purpose)) == order


def test_a_token_has_256_bits_and_differs_by_order_purpose_and_generation():
    order, other = make_order(), make_order()
    tokens = [make_token(order, "api"), make_token(order, "mail"), make_token(other, "api"), make_token(other, "mail")]
    renew_link(order)
    tokens.append(make_token(order, "mail"))
    assert len({token.rpartition(".")[2] for token in tokens}) == 5
    assert {len(token.rpartition(".")[2]) for token in tokens} == {43}


def test_the_secret_of_its_own_decides_and_an_earlier_one_still_opens(settings):
    order = make_order()
    token, before = make_token(order, "api"), settings.ORDER_TOKEN_SECRET
    settings.ORDER_TOKEN_SECRET = "another" * 10
    with pytest.raises(OrderNotFound):
        open_order(order.id, token)
    settings.ORDER_TOKEN_SECRET_FALLBACKS = [before]
    assert open_order(order.id, token) == order
    assert make_token(order, "api").split(".")[3] != token.split(".")[3]


@pytest.mark.parametrize("purpose", ["api", "mail"])
def test_a_newer_link_ends_every_token_before(purpose):
    order = make_order()
    token = make_token(order, purpose)
    renew_link(order)
    with pytest.raises(LinkReplaced):
        open_order(order.id, token)


@pytest.mark.parametrize("purpose", ["api", "mail"])
def test_a_token_ends_with_its_life(purpose):
    order, life = make_order(), LIVES[purpose].total_seconds()
    assert open_order(order.id, make_token(order, purpose, issued_at=time.time() - life + 60)) == order
    with pytest.raises(LinkExpired):
        open_order(order.id, make_token(order, purpose, issued_at=time.time() - life - 60))


def test_a_link_of_a_generation_that_never_was_opens_nothing():
    order = make_order()
    order.link_generation = 7
    with pytest.raises(LinkReplaced):
        open_order(order.id, make_token(order, "mail"))


def mangled(token):
    mark, _, mac = token.rpartition(".")
    return [
        *(
            "",
            " ",
            "a.",
            "a.1.1.",
            "m.1.1.x." + mac,
            "a.1.9999999999999." + mac,
            f"{mark}.",
            mark[2:] + "." + mac,
            "m.1.",
            "m.x.y",
            "m.0." + mac,
            "m.9999999999." + mac,
            "m.-1." + mac,
            "m.٣." + mac,
        ),
        *(token[:-1], token + "=", token + "A", token.upper(), token.swapcase(), f" {token}", f"{token}\n"),
        *(token.replace(".", ","), mac, f"{mark}.{mac[::-1]}", "é" * 45, "\udcff" * 45, "\x00", "x" * 100_000),
        *(f"b.{mac}", token.encode().hex(), token[0] + token),
    ]


@pytest.mark.parametrize("purpose", ["api", "mail"])
def test_a_mangled_token_opens_nothing_and_asks_the_database_nothing(purpose):
    order = make_order()
    with CaptureQueriesContext(connection) as captured:
        for token in mangled(make_token(order, purpose)):
            with pytest.raises(OrderNotFound):
                open_order(order.id, token)
    assert len(captured) == 0


def test_a_token_does_not_open_another_order_nor_one_that_is_gone():
    order, other = make_order(), make_order()
    for purpose in ("api", "mail"):
        with pytest.raises(OrderNotFound):
            open_order(other.id, make_token(order, purpose))
    order.id = uuid.uuid4()
    for purpose in ("api", "mail"):
        with pytest.raises(OrderNotFound):
            open_order(order.id, make_token(order, purpose))


@pytest.mark.parametrize(
    "spell",
    [
        lambda order_id: str(order_id).upper(),
        lambda order_id: order_id.hex,
        lambda order_id: order_id.urn,
        lambda order_id: f"{{{order_id}}}",
        lambda order_id: f" {order_id}",
        lambda order_id: order_id.int,
        lambda order_id: "*",
        lambda order_id: "",
        lambda order_id: None,
        lambda order_id: "1" * 1000,
        lambda order_id: f"{order_id}\x00",
    ],
)
def test_an_id_has_one_spelling(spell):
    order = Order.objects.create(
        id="abcdefab-cdef-4bcd-8fab-cdefabcdefab", email="ada@example.org", total=1, currency="EUR"
    )
    order.refresh_from_db()
    with pytest.raises(OrderNotFound):
        open_order(spell(order.id), make_token(order, "api"))


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer abc, Bearer abc", ""),
        ("Bearer", ""),
        ("Basic abc", ""),
        ("Token abc", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_the_bearer_is_one_clean_value(header, token):
    headers = {} if header is None else {"HTTP_AUTHORIZATION": header}
    assert bearer(RequestFactory().get("/", **headers)) == token


def test_a_request_without_a_bearer_finds_no_order():
    order = make_order()
    with pytest.raises(OrderNotFound):
        order_for(RequestFactory().get("/"), order.id)
    request = RequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {make_token(order, 'api')}")
    assert order_for(request, order.id) == order


def test_the_link_keeps_its_token_in_the_fragment(settings):
    order = make_order()
    assert order_link(order) == f"{settings.SITE_URL}/orders/{order.id}#{make_token(order, 'mail')}"

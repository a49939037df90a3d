"""Limits: by what one customer has, exact in parallel, and not open while Redis is away."""

import uuid
from functools import partial

import pytest
import responses
from django.conf import settings as django_settings
from django.core.cache import caches
from django.test import Client

from bitloot.core import limits
from bitloot.core.cache import ForgivingRedisCache
from bitloot.tests.parallel import at_once
from orders.access import make_token
from orders.exceptions import OrderRefused
from orders.models import Order
from orders.services import Line, place_order
from orders.tests.factories import make_order, make_product
from payments.models import Payment
from payments.tests.factories import make_coin, on_create
from payments.tests.test_budget import made
from tools.dev.supervise import free_port


def look_up(client, address):
    body = {"order_id": str(uuid.uuid4()), "email": "a@b.example"}
    return client.post("/api/orders/lookup", body, content_type="application/json", REMOTE_ADDR=address).status_code


@pytest.mark.django_db
def test_addresses_of_one_ipv6_network_share_a_limit(client, settings):
    settings.THROTTLE_SCALE = 1
    statuses = [look_up(client, f"2001:db8:1:2::{number + 1:x}") for number in range(25)]
    assert statuses == [202] * 20 + [429] * 5
    assert look_up(client, "2001:db8:1:3::1") == 202


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", "unknown"),
        ("", "unknown"),
        ("1.2.3.4, 5.6.7.8", "unknown"),
    ],
)
def test_client_is_counted_by_what_it_has(address, bucket):
    assert limits.client_bucket(address) == bucket


def asked_at_once(call, number):
    """Return what `call(0)`, `call(1)`, … answered, all asked at the same moment."""
    return sorted(at_once(*(partial(call, which) for which in range(number))))


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.redis), "database"])
def kept(request, settings):
    """Where limits are kept; without Redis a row of the database counts."""
    settings.THROTTLE_SCALE = 1
    if request.param == "database":
        memory = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
        settings.CACHES = {**settings.CACHES, "default": memory}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("kept")
def test_parallel_lookups_are_limited_exactly():
    """Fails if the counter is read and then written."""
    statuses = asked_at_once(lambda _: [look_up(Client(), "203.0.113.7") for _ in range(2)], 20)
    assert sum(statuses, []).count(202) == 20


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_parallel_orders_of_one_address_are_limited_exactly(settings):
    """Fails without the lock on the address: orders do not see each other before they commit."""
    settings.THROTTLE_SCALE = 0.25  # five unpaid orders an hour
    slug = make_product().slug

    def order(which):
        try:
            place_order(email="Ada@example.org" if which % 2 else "ADA@example.org", lines=[Line(slug, 1)])
        except OrderRefused:
            return "refused"
        return "placed"

    assert asked_at_once(order, 20) == ["placed"] * 5 + ["refused"] * 15
    assert Order.objects.count() == 5


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("kept")
def test_parallel_orders_for_one_mail_domain_are_limited_exactly(settings):
    settings.THROTTLE_SCALE = 0.03  # nine an hour
    slug = make_product().slug

    def order(which):
        try:
            place_order(email=f"kim{which}@victim.example", lines=[Line(slug, 1)])
        except OrderRefused:
            return "refused"
        return "placed"

    assert asked_at_once(order, 20) == ["placed"] * 9 + ["refused"] * 11


@pytest.fixture
def provider():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        on_create(wire)
        yield wire


def pay(order, coin, **extra):
    body = {"order_id": str(order.id), "pay_currency": coin}
    headers = {"Authorization": f"Bearer {make_token(order, 'api')}"}
    answer = Client().post("/api/payments/create", body, content_type="application/json", headers=headers, **extra)
    return answer.status_code


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_parallel_quotes_of_one_order_are_limited_exactly(provider, settings):
    """Fails if the open quotes are counted outside the order's lock."""
    settings.PAYMENT_QUOTES_PER_ORDER = 3
    order, coins = make_order(), [f"coin{number}" for number in range(12)]
    for coin in coins:
        make_coin(coin)
    statuses = asked_at_once(lambda which: pay(order, coins[which]), 12)
    assert statuses.count(429) == 9
    assert [Payment.objects.count(), made(provider)] == [3, 3]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("kept")
def test_parallel_quotes_of_one_client_are_limited_exactly(provider, settings):
    settings.PAYMENT_QUOTES_PER_HOUR = 4
    make_coin("btc")
    orders = [make_order(email=f"kim{number}@example.org") for number in range(12)]
    statuses = asked_at_once(lambda which: pay(orders[which], "btc", REMOTE_ADDR=f"2001:db8::{which + 1}"), 12)
    assert statuses.count(429) == 8
    assert made(provider) == 4


@pytest.mark.django_db
def test_limit_is_not_open_while_redis_is_away(client, settings):
    settings.THROTTLE_SCALE = 1
    away = {"BACKEND": "bitloot.core.cache.ForgivingRedisCache", "LOCATION": f"redis://127.0.0.1:{free_port()}/0",
            "OPTIONS": {"socket_connect_timeout": 0.3, "serializer": "bitloot.core.cache.JsonSerializer"}}  # fmt: skip
    settings.CACHES = {**django_settings.CACHES, "default": away}
    try:
        assert isinstance(caches["default"], ForgivingRedisCache)
        assert [look_up(client, "203.0.113.7") for _ in range(22)] == [202] * 20 + [429] * 2
    finally:
        ForgivingRedisCache._away_until = 0.0

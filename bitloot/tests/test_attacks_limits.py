"""Limits: by what one customer has, exact in parallel, and not open while Redis is away."""

import threading
import uuid

import pytest
from django.conf import settings as django_settings
from django.core.cache import caches

from bitloot.core import limits
from bitloot.core.cache import ForgivingRedisCache
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


def count_in_parallel(name):
    counted, start = [], threading.Barrier(8)

    def run():
        start.wait()
        counted.extend(limits.count(name, seconds=60) for _ in range(25))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(counted)


@pytest.mark.redis
def test_parallel_requests_are_counted_exactly_in_redis():
    assert count_in_parallel(f"exact-{uuid.uuid4()}") == list(range(1, 201))


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

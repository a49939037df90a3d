import time

import pytest
from redis.exceptions import ConnectionError as RedisGone

from bitloot.core import cache as cache_module
from bitloot.core.cache import ForgivingRedisCache

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def away(monkeypatch):
    monkeypatch.setattr(ForgivingRedisCache, "_away_until", 0.0)
    return ForgivingRedisCache(NOWHERE, {"OPTIONS": {"socket_connect_timeout": 0.3}})


def test_a_cache_whose_redis_is_away_is_merely_empty(away):
    assert away.get("key") is None
    assert away.get("key", default="fallback") == "fallback"
    away.set("key", "value")
    assert away.get("key") is None
    assert [away.add("key", 1), away.delete("key")] == [True, False]


def test_nothing_waits_for_a_redis_that_was_away_just_now(away, monkeypatch):
    away.get("key")
    monkeypatch.setattr(cache_module.RedisCache, "get", lambda *_: pytest.fail("asked again"))
    started = time.monotonic()
    for _ in range(100):
        away.get("key")
    assert time.monotonic() - started < 0.2


def test_it_is_asked_again_after_the_pause(away, monkeypatch):
    away.get("key")
    monkeypatch.setattr(ForgivingRedisCache, "_away_until", time.monotonic() - 1)
    monkeypatch.setattr(cache_module.RedisCache, "get", lambda *_: "back")
    assert away.get("key") == "back"


def test_only_a_missing_redis_is_forgiven(away, monkeypatch):
    def fail(error):
        def get(*_):
            raise error

        return get

    monkeypatch.setattr(cache_module.RedisCache, "get", fail(RedisGone()))
    assert away.get("key") is None
    monkeypatch.setattr(ForgivingRedisCache, "_away_until", 0.0)
    monkeypatch.setattr(cache_module.RedisCache, "get", fail(TypeError("a bug")))
    with pytest.raises(TypeError):
        away.get("key")


@pytest.mark.redis
def test_with_redis_it_keeps_what_it_is_given(settings, monkeypatch):
    monkeypatch.setattr(ForgivingRedisCache, "_away_until", 0.0)
    cache = ForgivingRedisCache(settings.REDIS_URL, {})
    cache.set("key", "value", timeout=5)
    assert [cache.get("key"), cache.add("key", "other"), cache.delete("key"), cache.get("key")] == [
        "value",
        False,
        True,
        None,
    ]

"""Whoever may write to Redis changes counters there, and runs nothing in our processes."""

import pickle
from pathlib import Path

import pytest
from django.conf import settings
from django.core.cache import caches

from bitloot.core.cache import ForgivingRedisCache, JsonSerializer


class Program:
    """What an attacker pickles: it runs where it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("value", [1, -5, True, None, "text", [1.5, 2.5], {"a": [1]}, 2**70])
def test_what_we_cache_comes_back_equal(value):
    assert JsonSerializer().loads(JsonSerializer().dumps(value)) == value


def test_program_in_the_cache_is_not_run(tmp_path):
    trap = tmp_path / "ran"
    with pytest.raises(ValueError, match=r"Expecting value|codec"):
        JsonSerializer().loads(pickle.dumps(Program(trap)))
    assert not trap.exists()


@pytest.mark.redis
def test_program_in_redis_counts_as_nothing(tmp_path):
    cache, trap = caches["default"], tmp_path / "ran"
    assert isinstance(cache, ForgivingRedisCache)
    cache._cache.get_client(write=True).set(cache.make_and_validate_key("throttle"), pickle.dumps(Program(trap)))
    assert cache.get("throttle", "nothing") == "nothing"
    assert not trap.exists()
    cache.set("throttle", [1.5])
    assert cache.get("throttle") == [1.5]


def test_settings_choose_the_serializer_wherever_there_is_redis():
    for options in settings.CACHES.values():
        is_redis = "Redis" in options["BACKEND"]
        assert not is_redis or options["OPTIONS"]["serializer"] == "bitloot.core.cache.JsonSerializer"

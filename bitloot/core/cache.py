import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

PAUSE_SECONDS = 2.0
T = TypeVar("T")


class ForgivingRedisCache(RedisCache):
    """A cache that is merely empty while Redis is away: throttles and lookups continue, nothing waits for it."""

    # For all threads: Django makes one instance for each.
    _away_until = 0.0

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self._try(lambda: super(ForgivingRedisCache, self).get(key, default, version), default)

    def set(self, key: Any, value: Any, timeout: Any = 300, version: int | None = None) -> None:
        self._try(lambda: super(ForgivingRedisCache, self).set(key, value, timeout, version), None)

    def add(self, key: Any, value: Any, timeout: Any = 300, version: int | None = None) -> bool:
        return self._try(lambda: bool(super(ForgivingRedisCache, self).add(key, value, timeout, version)), True)

    def delete(self, key: Any, version: int | None = None) -> bool:
        return self._try(lambda: bool(super(ForgivingRedisCache, self).delete(key, version)), False)

    def _try(self, call: Callable[[], T], fallback: T) -> T:
        if time.monotonic() < self._away_until:
            return fallback
        try:
            return call()
        except (RedisError, OSError):
            type(self)._away_until = time.monotonic() + PAUSE_SECONDS
            return fallback

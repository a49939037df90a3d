import time
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.exceptions import RedisError

PAUSE_SECONDS = 2.0


class _KeptClient(RedisCacheClient):
    """One client for all calls of a thread: making one costs several times as much as asking it."""

    _kept: Any = None

    def get_client(self, key: Any = None, *, write: bool = False) -> Any:
        if self._kept is None:
            self._kept = super().get_client(key, write=write)
        return self._kept


class ForgivingRedisCache(RedisCache):
    """A cache that is merely empty while Redis is away: throttles and lookups go on, nothing waits for it."""

    _away_until = 0.0

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = _KeptClient

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self._try("get", default, key, default, version)

    def set(self, key: Any, value: Any, timeout: Any = 300, version: int | None = None) -> None:
        self._try("set", None, key, value, timeout, version)

    def add(self, key: Any, value: Any, timeout: Any = 300, version: int | None = None) -> bool:
        return bool(self._try("add", True, key, value, timeout, version))

    def delete(self, key: Any, version: int | None = None) -> bool:
        return bool(self._try("delete", False, key, version))

    def _try(self, name: str, fallback: Any, *args: Any) -> Any:
        if time.monotonic() < self._away_until:
            return fallback
        try:
            return getattr(RedisCache, name)(self, *args)
        except (RedisError, OSError):
            type(self)._away_until = time.monotonic() + PAUSE_SECONDS
            return fallback

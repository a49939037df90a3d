"""Limits that all processes keep together: each is one atomic step, so that nobody passes one in parallel.

Redis counts. Without it, or while it is away, a row of the database does; if that is away too, the request ends in an
error. So no limit is ever open.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.db import connection

from bitloot.core import queries
from bitloot.core.cache import ForgivingRedisCache

UNKNOWN = "unknown"

_COUNT = """
local counts = {}
for place, name in ipairs(KEYS) do
  counts[place] = redis.call('INCR', name)
  if counts[place] == 1 then redis.call('PEXPIRE', name, ARGV[1]) end
end
return counts
"""
_COUNT_ROW = """
INSERT INTO core_allowance AS kept (name, used, until) VALUES (%s, 1, {now} + %s)
ON CONFLICT (name) DO UPDATE SET
    used = CASE WHEN kept.until <= {now} THEN 1 ELSE kept.used + 1 END,
    until = CASE WHEN kept.until <= {now} THEN excluded.until ELSE kept.until END
RETURNING used
"""
# A bucket is kept as the moment at which it will be full again. Answers how many milliseconds are missing for a token.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local token, room = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + token
if full - now > room then return math.ceil(full - now - room) end
redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil(full - now))
return 0
"""
_TAKE_ROW = """
INSERT INTO core_allowance AS kept (name, used, until) VALUES (%s, 0, {now} + %s)
ON CONFLICT (name) DO UPDATE SET until = CASE WHEN kept.until < {now} THEN {now} ELSE kept.until END + %s
WHERE kept.until + %s - {now} <= %s
RETURNING until
"""
_MISSING = "SELECT until + %s - {now} - %s FROM core_allowance WHERE name = %s"


@dataclass(frozen=True)
class Bucket:
    """Tokens that come back at a steady rate. A caller that leaves a share of it to others finds it empty sooner."""

    name: str
    per_second: float
    holds: float

    def take(self, *, leaving: float = 0.0) -> float:
        """Take a token and return 0.0, or return how many seconds are missing until there is one.

        `leaving` is the share of the bucket, 0 to 1, that stays for others.
        """
        token = 1 / self.per_second
        room = max(self.holds * (1 - leaving), 1) * token
        missing = _in_redis(_TAKE, [self.name], token * 1000, room * 1000)
        return _take_row(self.name, token, room) if missing is None else missing / 1000


def count(name: str, *, seconds: int) -> int:
    """Count one more under this name and return how many since the first, which is forgotten after `seconds`."""
    return count_each([name], seconds=seconds)[0]


def count_each(names: Sequence[str], *, seconds: int) -> list[int]:
    """Count one more under each of these names, as `count` would, in one round trip to Redis."""
    counts: list[int] | None = _in_redis(_COUNT, names, seconds * 1000)
    if counts is not None:
        return counts
    return [int(_fetch(_COUNT_ROW, [name, seconds])[0]) for name in names]


def count_here(name: str, *, seconds: int) -> int:
    """Count like `count`, in this process alone where there is no Redis: for what is cheaper than a row written."""
    counts = _in_redis(_COUNT, [name], seconds * 1000)
    if counts is not None:
        return int(counts[0])
    kept = caches["local"]
    kept.add(name, 0, seconds)
    try:
        return kept.incr(name)
    except ValueError:
        return 1  # forgotten in between


@dataclass(frozen=True)
class Refusals:
    """Counts what each client was refused, for all processes together. What is right is never counted and costs no way
    to Redis.

    A process learns of the others' refusals with its own next one. So each of them looks at one more thing of a client
    that is beyond the limit, and then, until the time is over, at nothing.
    """

    name: str
    most: int
    seconds: int = 60
    counted: Callable[..., int] = count

    def are_too_many(self, client: str) -> bool:
        return self._place(client) in caches["local"]

    def add(self, client: str) -> int:
        """Count one more and return how many there were; nothing is refused where THROTTLE_SCALE is 0."""
        used = self.counted(f"count:{self._place(client)}", seconds=self.seconds)
        if settings.THROTTLE_SCALE and used > self.most * settings.THROTTLE_SCALE:
            caches["local"].set(self._place(client), True, self.seconds)
        return used

    def _place(self, client: str) -> str:
        return f"refused:{self.name}:{client}"


def reap() -> int:
    """Delete the rows that limit nobody any more."""
    return int(queries.execute(_sql("DELETE FROM core_allowance WHERE until <= {now}"), []).rowcount)


def client_bucket(address: str) -> str:
    """Return what is limited together: an IPv4 address, or the /64 that one IPv6 customer has at least."""
    parsed = _parsed(address)
    if parsed is None:
        return UNKNOWN
    return str(parsed) if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Return the address's network: what a household or office keeps for weeks, and not a single device."""
    parsed = _parsed(address)
    if parsed is None:
        return UNKNOWN
    return str(ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    # One client of a server that listens on both would otherwise have two buckets.
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


def _in_redis(script: str, names: Sequence[str], *arguments: float) -> Any:
    """Return the script's answer, or None where there is no Redis or it is away."""
    cache = caches["default"]
    return cache.run(script, names, *arguments) if isinstance(cache, ForgivingRedisCache) else None


def _take_row(name: str, token: float, room: float) -> float:
    if _fetch(_TAKE_ROW, [name, token, token, token, room]):
        return 0.0
    missing = _fetch(_MISSING, [token, room, name])
    # Never 0.0, which says “taken”: there may be room by now. Without a row it was reaped just now, and is made anew.
    return max(float(missing[0]), 0.001) if missing else token


def _fetch(sql: str, params: list[Any]) -> Any:
    return queries.execute(_sql(sql), params).fetchone()


def _sql(sql: str) -> str:
    now = (
        "((julianday('now') - 2440587.5) * 86400.0)"
        if connection.vendor == "sqlite"
        else "extract(epoch FROM statement_timestamp())::float8"
    )
    return sql.format(now=now)

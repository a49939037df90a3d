"""Counting against a limit: one atomic increment, so that requests at the same moment cannot pass it together."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from django.core.cache import BaseCache, caches

UNKNOWN = "unknown"


def count(name: str, *, seconds: int) -> int:
    """Count one more under this name and return how many since the first, which is forgotten after `seconds`.

    All processes count together in Redis. While it is away each process counts its own: no limit is ever open.
    """
    return _count(caches["default"], name, seconds) or _count(caches["local"], name, seconds)


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


def _count(cache: BaseCache | Any, name: str, seconds: int) -> int:
    cache.add(name, 0, seconds)
    try:
        return int(cache.incr(name))
    except ValueError:
        return 1  # forgotten in between

"""The address of a Redis behind Sentinel: `sentinel://:password@host1:26379,host2:26379/0?master=NAME`."""

import re
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

SCHEME = "sentinel"
PORT = 26379
EXAMPLE = "sentinel://:password@host1:26379,host2:26379/0?master=NAME"
_HOST = re.compile(r"([A-Za-z0-9.-]+)(?::(\d{1,5}))?")
_OPTIONS = ("master", "sentinel_password")


@dataclass(frozen=True)
class Sentinels:
    """Who is asked which server is the master, and what the servers and the sentinels want to hear first."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    database: str
    username: str | None
    password: str | None
    sentinel_password: str | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read the address. Raises ValueError with the end of a sentence about it, which holds no password."""
        parts = urlsplit(url)
        options = _options(parts.query)
        return cls(
            hosts=tuple(_host(each) for each in parts.netloc.rpartition("@")[2].split(",")),
            master=options["master"],
            database=parts.path.strip("/") or "0",
            username=_decoded(parts.username),
            password=_decoded(parts.password),
            sentinel_password=options.get("sentinel_password"),
        )

    @property
    def broker_url(self) -> str:
        """Return the address as kombu reads it: one for each sentinel."""
        user = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        return ";".join(f"{SCHEME}://{user}{host}:{port}/{self.database}" for host, port in self.hosts)

    def ask_options(self, *, seconds: float) -> dict[str, Any]:
        """Return how redis-py asks one sentinel (its `sentinel_kwargs`): once, then the next one."""
        from redis.backoff import NoBackoff  # only where it is used: settings and a shop without Redis do not need it
        from redis.retry import Retry

        return {
            "password": self.sentinel_password,
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            # redis-py would ask a dead sentinel four times, with pauses of seconds, before it asks the next.
            "retry": Retry(NoBackoff(), 0),
        }


def is_sentinel(url: str) -> bool:
    return url.startswith(f"{SCHEME}://")


def hosts_of(url: str) -> tuple[str, ...]:
    """Return the hosts that an address of Redis names: the server's, or those of its sentinels."""
    if is_sentinel(url):
        return tuple(host for host, _ in Sentinels.parse(url).hosts)
    return (str(urlsplit(url).hostname),)


def secrets_in(parts: SplitResult) -> tuple[str, ...]:
    """Return the passwords that a server's address holds, also that of the sentinels."""
    in_query = dict(parse_qsl(parts.query)).get("sentinel_password")
    return tuple(word for word in (_decoded(parts.password), in_query) if word)


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := options.keys() - set(_OPTIONS):
        raise ValueError(f"has the option {min(unknown)[:40]!r}; Sentinel takes {' and '.join(_OPTIONS)}")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", options.get("master", "")):
        raise ValueError(f"needs the name by which the sentinels know the master: {EXAMPLE}")
    return options


def _host(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    port = int(found[2] or PORT) if found else 0
    if found is None or not 0 < port < 65_536:
        raise ValueError(f"holds {text[:60]!r}, which is not a sentinel; write host:port, separated by commas")
    return found[1], port


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None

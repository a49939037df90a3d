"""Whether passwords and orders cross a network that is not ours in clear text."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import suppress

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections

from bitloot.core.replica import ALIAS
from bitloot.core.sentinel import hosts_of, is_sentinel
from bitloot.ops.doctor.finding import Finding, ok, wrong


def wire() -> Iterator[Finding]:
    yield from _database()
    if settings.DATABASE_REPLICA_URL:
        yield from _replica()
    if settings.REDIS_URL:
        is_sealed = settings.REDIS_URL.startswith("rediss://")
        for host in hosts_of(settings.REDIS_URL):
            yield _judge("Redis", host, is_sealed=is_sealed, remedy=_remedy_of_redis())


def _remedy_of_redis() -> str:
    if is_sentinel(settings.REDIS_URL):
        return "Keep sentinels and servers inside of a private network or tunnel: there is no TLS with sentinel://."
    return "Begin REDIS_URL with rediss://."


def _database() -> Iterator[Finding]:
    if connection.vendor != "postgresql":
        yield ok("the database is a file of this machine")
        return
    yield _postgresql("PostgreSQL", DEFAULT_DB_ALIAS, "DATABASE_URL")


def _replica() -> Iterator[Finding]:
    # One that is away is another look's finding.
    with suppress(DatabaseError):
        yield _postgresql("The replica", ALIAS, "DATABASE_REPLICA_URL")


def _postgresql(name: str, alias: str, variable: str) -> Finding:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        row = cursor.fetchone()
    remedy = f"Add ?sslmode=verify-full&sslrootcert=/path to {variable}; sslmode=require at least."
    return _judge(name, str(settings.DATABASES[alias]["HOST"]), is_sealed=bool(row and row[0]), remedy=remedy)


def _judge(name: str, host: str, *, is_sealed: bool, remedy: str) -> Finding:
    if is_sealed:
        return ok(f"{name} is reached over TLS")
    if is_near(host):
        return ok(f"{name} is reached in clear text, on this machine or inside of a private network")
    return wrong(f"{name} at {host} is reached in clear text over a public network", remedy)


def is_near(host: str) -> bool:
    """Return whether a host is this machine, its socket, or one of a private network; one that is unknown is not."""
    if not host or host.startswith("/"):
        return True
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_private for address in found)

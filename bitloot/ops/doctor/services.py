"""What the shop runs on: database, broker, object store, mail server, providers."""

import time
from collections.abc import Iterator
from typing import Any

import redis
from django.conf import settings
from django.core.mail import get_connection
from django.db import DatabaseError, connection
from django.utils import timezone
from redis.sentinel import Sentinel

from bitloot.core import replica
from bitloot.core.cache import redis_client
from bitloot.core.database import reason_of
from bitloot.core.sentinel import Sentinels, is_sentinel
from bitloot.core.smtp import EmailBackend
from bitloot.ops import partitions, rights
from bitloot.ops.doctor.finding import Finding, look, ok, wrong
from bitloot.ops.provider_health import ask_providers
from orders.mail import NOT_SENT
from orders.models import OrderEvent
from storage import probe
from storage.objects import key_store

SLOW_MS = 20
SAMPLES = 5
# Each answers a commit before it is on the disk, or leaves half of it there.
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


def database() -> Iterator[Finding]:
    try:
        yield from _database()
    except DatabaseError as err:
        yield wrong(
            f"it cannot be used: {reason_of(err)}",
            "Start it; check DATABASE_URL, and with SQLite the rights and the room of var/. A damaged one comes from a"
            " backup (docs/runbook.md).",
        )


def _database() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        latency = min(_milliseconds(cursor) for _ in range(SAMPLES))
        sentence = f"{connection.vendor} answers in {latency:.1f} ms"
        remedy = "Bring it nearer: each order takes some thirty statements."
        yield look(sentence, remedy) if latency > SLOW_MS else ok(sentence)
        yield from (_postgresql if connection.vendor == "postgresql" else _sqlite)(cursor)


def _milliseconds(cursor: Any) -> float:
    started = time.perf_counter()
    cursor.execute("SELECT 1")
    cursor.fetchone()
    return (time.perf_counter() - started) * 1000


def _postgresql(cursor: Any) -> Iterator[Finding]:
    for name, right in DURABLE.items():
        if (value := _setting(cursor, name)) != right:
            yield wrong(
                f"{name} is {value}: a crash may lose what was answered", f"Set {name} = {right} in PostgreSQL."
            )
    if _setting(cursor, "autovacuum") != "on":
        yield wrong("autovacuum is off: the queues' tables slow down within days", "Set autovacuum = on in PostgreSQL.")
    if rights.is_given("DELETE", OrderEvent):
        yield look(
            "our database role may change what happened",
            "Give the shop one that owns nothing: MIGRATE_DATABASE_URL and `grant_rights`, see docs/security.md.",
        )
    yield from _partitions()
    cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    used, most = cursor.fetchone()[0], int(_setting(cursor, "max_connections"))
    sentence = f"{used} of {most} connections are in use"
    remedy = "Raise max_connections, or run fewer web and worker processes: each takes four."
    yield look(sentence, remedy) if used > most * 0.8 else ok(sentence)


def _partitions() -> Iterator[Finding]:
    if partitions.is_half_done():
        yield wrong(
            "`partition_tables` was interrupted: from a coming month on no order could be placed",
            "Run it again, or `prune`, as the owner of the tables.",
        )
    elif partitions.is_due(timezone.now().date()):
        yield look(
            "the timeline has no partition for the next month", "Run `prune` from cron, as the owner of the tables."
        )


def read_replica() -> Iterator[Finding]:
    if not settings.DATABASE_REPLICA_URL:
        yield ok("none: staff's lists are read from the primary")
        return
    try:
        behind = replica.seconds_behind()
    except replica.NotUsable as err:
        yield look(f"staff's lists are read from the primary: {err}", "docs/capacity.md has the setup of a replica.")
    else:
        yield ok(f"staff's lists are read from the replica, {behind:.1f} s behind")


def _setting(cursor: Any, name: str) -> str:
    cursor.execute("SELECT current_setting(%s)", [name])
    return str(cursor.fetchone()[0])


def _sqlite(cursor: Any) -> Iterator[Finding]:
    cursor.execute("PRAGMA quick_check(1)")
    if (said := cursor.fetchone()[0]) != "ok":
        yield wrong(f"the file is damaged: {said}", "Stop everything, and restore a backup (docs/runbook.md).")
    cursor.execute("PRAGMA synchronous")
    if cursor.fetchone()[0] < 2:
        yield wrong(
            "synchronous is not FULL: a crash may lose what was answered", "Leave init_command as it is shipped."
        )


def broker() -> Iterator[Finding]:
    if not settings.REDIS_URL:
        yield ok("none: the worker looks for its work twice a second")
        return
    remedy = "Check REDIS_URL and that Redis runs. Until then work is found by the sweep, some seconds later."
    try:
        with redis_client(settings.REDIS_URL, seconds=3) as client:
            client.ping()
            memory, replicas = client.info("memory"), client.info("replication")["connected_slaves"]
    except redis.RedisError as err:
        yield wrong(f"Redis does not answer ({type(err).__name__})", remedy)
        return
    yield ok(f"Redis answers; it uses {memory['used_memory_human']}")
    if memory["maxmemory"] and memory["used_memory"] > memory["maxmemory"] * 0.9:
        yield look("Redis is nearly full", "Raise its maxmemory; counters of the limits may be dropped.")
    if is_sentinel(settings.REDIS_URL):
        yield from _sentinels(replicas)


def _sentinels(replicas: int) -> Iterator[Finding]:
    known = Sentinels.parse(settings.REDIS_URL)
    asked = Sentinel(known.hosts, sentinel_kwargs=known.ask_options(seconds=3)).sentinels
    for (host, port), each in zip(known.hosts, asked, strict=True):
        try:
            each.execute_command("SENTINEL CKQUORUM", known.master)
        except redis.RedisError as err:
            yield wrong(
                f"the sentinel {host}:{port} would make no other server the master ({err})",
                "Start it, or more of them: a majority has to agree.",
            )
    if not replicas:
        yield wrong("the master has no replica", "Start one: until then the sentinels have nothing to choose.")


def object_store() -> Iterator[Finding]:
    problems = probe.problems()
    if not problems:
        where = f"bucket {settings.R2_BUCKET}" if key_store().signs_urls else f"files under {settings.VAR_DIR}"
        yield ok(f"{where}: written, read and deleted")
    for problem in problems:
        yield wrong(problem, "Customers get their keys from our database meanwhile; docs/r2.md has the setup.")


def mail() -> Iterator[Finding]:
    if settings.EMAIL_FILE_PATH:
        yield look(
            f"mails are written to {settings.EMAIL_FILE_PATH}, and reach nobody", "Set EMAIL_URL to a mail server."
        )
        return
    if settings.EMAIL_WEBHOOK_VIEW:
        # Nothing asks whether it takes our key but a mail: a refusal of it is an open alert.
        name = settings.EMAIL_BACKEND.split(".")[-2]
        yield ok(f"mails leave over the API of {name}")
        if not settings.EMAIL_TAKES_LETTERS:  # customers hear it as they order: nothing to mend
            yield ok(f"{name} takes no addresses with letters such as é before the @")
        return
    server = get_connection()
    try:
        server.open()
        takes_letters = not isinstance(server, EmailBackend) or server.takes_letters()
        server.close()
    except NOT_SENT as err:
        yield wrong(
            f"the mail server refuses us, or cannot be reached ({type(err).__name__})",
            "Check EMAIL_URL: host, port, user and password. Mails wait for a day, then staff are told.",
        )
    else:
        yield ok(f"{settings.EMAIL_HOST or 'the mail server'} takes our name and password")
        if not takes_letters:
            yield look(
                "the mail server takes no addresses with letters such as é before the @: it does not announce SMTPUTF8",
                "Customers with such an address have to give another one. docs/mail.md has what to do about it.",
            )


def providers() -> Iterator[Finding]:
    findings, problems = ask_providers()
    for finding in findings:
        if finding.reachable:
            yield ok(finding.sentence)
    for problem in problems:
        yield wrong(
            problem, "docs/nowpayments.md and docs/kinguin.md have the setup, docs/runbook.md what an outage means."
        )

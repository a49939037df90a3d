"""Is finding one row as cheap with a million orders as with ten thousand, and what does a sweep cost then?"""

import contextlib
import json
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from tools.bench.stack import Stack, use_settings

ASKED = 300
BATCH = 50_000

# A delivered order is copied with every row that hangs on it; `n` numbers the copies. What is unique is made of n.
_ORDER, _ITEM = "md5('order' || n)::uuid", "md5('item' || n)::uuid"
COPIES: dict[str, dict[str, str]] = {
    "orders_order": {
        "id": _ORDER,
        "email": "'customer' || n || '@shop.example'",
        "created_at": "now() - n * '1 s'::interval",
    },
    "orders_orderitem": {"id": _ITEM, "order_id": _ORDER},
    "payments_payment": {"id": "md5('payment' || n)::uuid", "order_id": _ORDER, "external_id": "'4' || n"},
    "fulfillment_reservation": {
        "id": "md5('reservation' || n)::uuid",
        "item_id": _ITEM,
        "external_id": "'ours' || n",
        "supplier_order_id": "'theirs' || n",
    },
    "storage_key": {
        "id": "md5('key' || n)::uuid",
        "item_id": _ITEM,
        "supplier_key_id": "'copy' || n",
        "object_name": "'copy' || n",
    },
    "orders_orderevent": {"order_id": _ORDER},
    "orders_email": {"order_id": _ORDER},
    "webhooks_webhooklog": {
        "external_id": "'4' || n",
        "body": "convert_to(n::text, 'UTF8')",
        "body_sha256": "sha256(convert_to(n::text, 'UTF8'))",
    },
}
PRODUCT_COPIES = {
    "id": "md5('product' || n)::uuid",
    "slug": "'copy-' || n",
    "title": "'Copy ' || n",
    "supplier_product_id": "'copy' || n",
}
LOOKUPS = {
    "order by its id": "SELECT status FROM orders_order WHERE id = md5('order' || %s::int)::uuid",
    "payment by the provider's id": "SELECT status FROM payments_payment WHERE external_id = '4' || %s::int",
    "purchase by our external id": "SELECT status FROM fulfillment_reservation WHERE external_id = 'ours' || %s::int",
    "purchase by the supplier's order id": (
        "SELECT status FROM fulfillment_reservation WHERE supplier_order_id = 'theirs' || %s::int"
    ),
    "key by its object's name": "SELECT status FROM storage_key WHERE object_name = 'copy' || %s::int",
    "payments of an order": "SELECT status FROM payments_payment WHERE order_id = md5('order' || %s::int)::uuid",
    "timeline of an order": "SELECT message FROM orders_orderevent WHERE order_id = md5('order' || %s::int)::uuid",
    "unpaid orders of an address": (
        "SELECT count(*) FROM orders_order WHERE UPPER(email::text) = UPPER('customer' || %s::int || '@shop.example')"
        " AND status = 'pending' AND created_at > now() - '1 h'::interval"
    ),
    "webhooks of a payment": "SELECT id FROM webhooks_webhooklog WHERE external_id = '4' || %s::int",
}


@dataclass(frozen=True)
class Sweep:
    """The claim that every sweep makes, over a table in which nothing is due."""

    milliseconds: float
    pages: int
    plan: str


@dataclass(frozen=True)
class Size:
    orders: int
    lookups: dict[str, float]  # microseconds, the median
    sweeps: dict[str, Sweep]


def measure(stack: Stack, sizes: list[int]) -> list[Size]:
    """Grow the database to each size in turn, and measure there. At least one order has to be delivered."""
    use_settings(stack)
    found: list[Size] = []
    with psycopg.connect(stack.postgres.url, autocommit=True, prepare_threshold=1) as database:
        _drop_other_work(database)
        before = 0
        for size in sorted(sizes):
            _grow(database, before, size)
            before = size
            found.append(Size(size, _lookups(database, size), _sweeps(database)))
    return found


def _drop_other_work(database: psycopg.Connection[Any]) -> None:
    """Make nothing due, so that a sweep finds what it usually finds: nothing."""
    for table in ("webhooks_webhooklog", "payments_payment", "fulfillment_reservation", "storage_key", "orders_email"):
        database.execute(sql.SQL("UPDATE {} SET next_attempt_at = NULL").format(sql.Identifier(table)))


def _grow(database: psycopg.Connection[Any], before: int, size: int) -> None:
    database.execute("SET synchronous_commit = off")
    database.execute(
        "SET session_replication_role = replica"
    )  # the copies are consistent; checking each is not the point
    for table, changed in COPIES.items():
        for first in range(before + 1, size + 1, BATCH):
            database.execute(_copy(database, table, changed), (first, min(first + BATCH - 1, size)))
    for table in COPIES:
        database.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))


def _copy(database: psycopg.Connection[Any], table: str, changed: dict[str, str]) -> sql.Composed:
    columns = [
        name
        for name, identity in database.execute(
            "SELECT column_name, is_identity FROM information_schema.columns"
            " WHERE table_name = %s AND table_schema = 'public' ORDER BY ordinal_position", (table,),
        )
        if identity == "NO"
    ]  # fmt: skip
    values = [sql.SQL(changed[name]) if name in changed else sql.Identifier("one", name) for name in columns]
    return sql.SQL("INSERT INTO {} ({}) SELECT {} FROM ({}) one, generate_series(%s::bigint, %s::bigint) n").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(values),
        sql.SQL(_TEMPLATES.get(table, "SELECT * FROM {} LIMIT 1")).format(sql.Identifier(table)),
    )


@contextlib.contextmanager
def filled_with_products(stack: Stack, count: int) -> Iterator[None]:
    """Have so many products more for the block."""
    with psycopg.connect(stack.postgres.url, autocommit=True) as database:
        database.execute(_copy(database, "orders_product", PRODUCT_COPIES), (1, count))
        database.execute("VACUUM (ANALYZE) orders_product")
        yield
        database.execute("DELETE FROM orders_product WHERE supplier_product_id LIKE 'copy%'")


_TEMPLATES = {
    "orders_order": "SELECT * FROM {} WHERE status = 'fulfilled' LIMIT 1",
    "payments_payment": "SELECT * FROM {} WHERE status = 'finished' LIMIT 1",
    "fulfillment_reservation": "SELECT * FROM {} WHERE status = 'delivered' LIMIT 1",
    "storage_key": "SELECT * FROM {} WHERE status = 'stored' LIMIT 1",
}


def _lookups(database: psycopg.Connection[Any], size: int) -> dict[str, float]:
    return {name: _median(database, statement, size) for name, statement in LOOKUPS.items()}


def _median(database: psycopg.Connection[Any], statement: str, size: int) -> float:
    drawn = random.Random(size)  # noqa: S311 - which rows are asked for is not secret
    times = []
    for number in [drawn.randint(1, size) for _ in range(ASKED)]:
        started = time.perf_counter()
        row = database.execute(statement, (number,)).fetchone()
        times.append(time.perf_counter() - started)
        if row is None:
            raise LookupError(f"nothing found by: {statement}")
    return statistics.median(times) * 1e6


def _sweeps(database: psycopg.Connection[Any]) -> dict[str, Sweep]:
    from fulfillment.models import Reservation
    from orders.models import Email
    from webhooks.models import WebhookLog

    return {model._meta.db_table: _sweep(database, model) for model in (WebhookLog, Reservation, Email)}


def _sweep(database: psycopg.Connection[Any], model: Any) -> Sweep:
    statement, values = model.objects.all()._claim_sql(8, None)
    row = database.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values).fetchone()
    assert row is not None
    told = row[0][0] if isinstance(row[0], list) else json.loads(row[0])[0]
    text = "\n".join(line for (line,) in database.execute(f"EXPLAIN (COSTS OFF) {statement}", values).fetchall())
    pages = told["Plan"]["Shared Hit Blocks"] + told["Plan"]["Shared Read Blocks"]
    return Sweep(told["Execution Time"], pages, text)

"""Orders from "the money is there" to "the key is ready": how many a second, and how soon the mail leaves."""

import itertools
import json
import time
from dataclasses import dataclass
from typing import Any

import psycopg

from tools.bench import bodies, http, load
from tools.bench.stack import Stack
from tools.dev.supervise import wait_until

SETTLE_SECONDS = 120
DELIVERY_SECONDS = 300
PRESSERS = 8
STEADY_RATE = 10

_LEFT = """
SELECT (SELECT count(*) FROM webhooks_webhooklog WHERE next_attempt_at <= now())
     + (SELECT count(*) FROM orders_email WHERE next_attempt_at IS NOT NULL)
     + (SELECT count(*) FROM payments_payment WHERE status = 'creating')
"""
_PAYMENTS = """
SELECT order_id::text, external_id, pay_amount::text FROM payments_payment
WHERE order_id = ANY(%s::uuid[]) AND status = 'waiting'
"""
_DELIVERED = "SELECT count(*) FROM orders_order WHERE id = ANY(%s::uuid[]) AND status = 'fulfilled'"
_LAST = "SELECT extract(epoch FROM max(fulfilled_at)) FROM orders_order WHERE id = ANY(%s::uuid[])"
_LAST_IPN = "SELECT extract(epoch FROM max(processed_at)) FROM webhooks_webhooklog"
_MAILED = """
SELECT order_id::text, extract(epoch FROM sent_at) FROM orders_email
WHERE order_id = ANY(%s::uuid[]) AND kind = 'key_ready'
"""


@dataclass(frozen=True)
class Deliveries:
    """One run: orders delivered per second, and the CPU that the worker, and everything of ours, took for each.

    The CPU counts until the last mail has left: in a burst many leave only when all keys are there.
    """

    rate: float
    worker_ms: float
    all_ms: float
    orders: int


@dataclass(frozen=True)
class Mails:
    """One run: from the money's arrival at the provider to the mail with the key's link, in seconds."""

    p50: float
    p95: float
    orders: int


class NotDelivered(Exception):
    """Some orders did not arrive in time."""


def forget_webhooks(stack: Stack) -> None:
    """Let the worker skip the webhooks that were only sent to measure their acknowledgement."""
    with psycopg.connect(stack.postgres.url, autocommit=True) as database:
        database.execute("UPDATE webhooks_webhooklog SET next_attempt_at = NULL WHERE next_attempt_at IS NOT NULL")


def burst(stack: Stack, *, orders: int, supplier_ms: int) -> Deliveries:
    """Let all orders be paid at once, and wait until the last one is delivered. The worker has to be running."""
    payments = _waiting_payments(stack, orders, supplier_ms)
    ids = list(payments)
    worker, everything = stack.worker_meter(), stack.meter()
    worker.start()
    everything.start()
    started = time.time()
    done = load.run(
        [_money(stack, payment) for payment in payments.values()],
        port=stack.store.sandbox_port, connections=PRESSERS, seconds=DELIVERY_SECONDS,
    )  # fmt: skip
    if set(done.statuses) != {200}:
        raise NotDelivered(f"the sandbox answered {dict(done.statuses)}")
    with psycopg.connect(stack.postgres.url, autocommit=True) as database:
        _wait_for(database, ids)
        _wait_settled(database)
        spent = worker.used(), everything.used()
        last = float(_value(database, _LAST, ids))
    return Deliveries(orders / (last - started), spent[0] / orders * 1000, spent[1] / orders * 1000, orders)


def deliver(stack: Stack, orders: list[dict[str, Any]]) -> None:
    """Have these orders, whose payments wait, paid and delivered. The worker has to be running."""
    ids = [order["id"] for order in orders]
    with psycopg.connect(stack.postgres.url, autocommit=True) as database:
        _wait_settled(database)
        payments = database.execute(_PAYMENTS, [ids]).fetchall()
        money = [_money(stack, {"id": payment, "amount": amount}) for _, payment, amount in payments]
        load.run(money, port=stack.store.sandbox_port, connections=PRESSERS, seconds=DELIVERY_SECONDS)
        _wait_for(database, ids)


def process_ipns(stack: Stack, *, count: int) -> float:
    """Return how many IPNs the worker handles a second, from the first that comes to the last that is done."""
    messages = list(itertools.islice(bodies.distinct_ipns(stack), count))
    started = time.time()
    load.run(messages, port=stack.port, connections=PRESSERS, seconds=SETTLE_SECONDS)
    with psycopg.connect(stack.postgres.url, autocommit=True) as database:
        _wait_settled(database)
        last = float(_value(database, _LAST_IPN))
    return count / (last - started)


def steady(stack: Stack, *, orders: int, supplier_ms: int) -> Mails:
    """Let STEADY_RATE orders be paid each second, and see when their mails leave."""
    payments = _waiting_payments(stack, orders, supplier_ms)
    paid_at: dict[str, float] = {}
    started = time.time()
    for number, (order, payment) in enumerate(payments.items()):
        time.sleep(max(0.0, started + number / STEADY_RATE - time.time()))
        paid_at[order] = time.time()
        load.run([_money(stack, payment)], port=stack.store.sandbox_port, connections=1, seconds=30)
    with psycopg.connect(stack.postgres.url, autocommit=True) as database:
        _wait_for(database, list(payments))
        _wait_settled(database)
        sent = {order: float(at) for order, at in database.execute(_MAILED, [list(payments)]).fetchall() if at}
    if len(sent) != len(payments):
        raise NotDelivered(f"{len(payments) - len(sent)} of {len(payments)} mails are missing")
    waits = sorted(sent[order] - paid_at[order] for order in payments)
    return Mails(waits[len(waits) // 2], waits[int(len(waits) * 0.95)], len(waits))


def _waiting_payments(stack: Stack, count: int, supplier_ms: int) -> dict[str, dict[str, Any]]:
    """Return new orders with the payments that wait for coins, once BitLoot has nothing else to do."""
    stack.sandbox("config", {"delay_ms": 0})
    orders = http.place(stack, count)
    http.start_payments(stack, orders)
    with psycopg.connect(stack.postgres.url, autocommit=True) as database:
        _wait_settled(database)
        rows = database.execute(_PAYMENTS, [[order["id"] for order in orders]]).fetchall()
    stack.sandbox("config", {"delay_ms": supplier_ms})
    if len(rows) != count:
        raise NotDelivered(f"{count - len(rows)} of {count} payments are missing")
    return {order: {"id": payment, "amount": amount} for order, payment, amount in rows}


def _money(stack: Stack, payment: dict[str, Any]) -> bytes:
    """Return the sandbox's own request that finishes a payment: the sandbox then sends the signed IPN."""
    body = json.dumps({"status": "finished", "actually_paid": payment["amount"]}).encode()
    return load.request("POST", f"/control/payments/{payment['id']}/status", host="127.0.0.1", body=body)


def _wait_for(database: psycopg.Connection[Any], orders: list[str]) -> None:
    def delivered() -> bool:
        return bool(_value(database, _DELIVERED, orders) == len(orders))

    wait_until(delivered, seconds=DELIVERY_SECONDS, what=f"the delivery of {len(orders)} orders")


def _wait_settled(database: psycopg.Connection[Any]) -> None:
    wait_until(lambda: _value(database, _LEFT) == 0, seconds=SETTLE_SECONDS, what="the end of the work before")


def _value(database: psycopg.Connection[Any], sql: str, *values: Any) -> Any:
    row = database.execute(sql, values).fetchone()
    return row[0] if row else None

"""The HTTP rows of the table: how fast, how long, how much CPU for a thousand."""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tools.bench import bodies, load
from tools.bench.lookups import filled_with_products
from tools.bench.stack import Stack

# More than any machine of ours answers in a second; what is built and not sent is only memory.
BUILT_PER_SECOND = 6000
WARM_UP_SECONDS = 1.0
REVEALS = 100
PRODUCTS = 10_000
PAGES = {
    "shop window": "/",
    "product": f"/products/{bodies.PRODUCT}",
    "checkout": f"/checkout?product={bodies.PRODUCT}",
    "find my order": "/orders/find",
    "order": "/orders/5e0a3c39-7a3d-4b0e-9f55-0d8f6a1c2b3d",
    "terms": "/pages/terms",
}


@dataclass(frozen=True)
class Sample:
    """One run of one row."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_per_1000: float
    answers: int


@dataclass(frozen=True)
class Row:
    name: str
    requests: Callable[[Stack], Iterator[bytes]]
    expected: tuple[int, ...]
    around: Callable[[Stack], AbstractContextManager[None]] = lambda stack: contextlib.nullcontext()
    rate: float = 0.0  # so many a second; otherwise as many as there can be


class WrongAnswers(Exception):
    """BitLoot gave another answer than the one that the row measures."""


def measure(stack: Stack, row: Row, *, runs: int, seconds: float, connections: int) -> list[Sample]:
    """Return one sample per run, after a warm-up that counts for nothing."""
    with row.around(stack):
        endless = row.requests(stack)
        _once(stack, row, endless, min(WARM_UP_SECONDS, seconds), connections)
        return [_once(stack, row, endless, seconds, connections) for _ in range(runs)]


def _once(stack: Stack, row: Row, endless: Iterator[bytes], seconds: float, connections: int) -> Sample:
    requests = list(itertools.islice(endless, max(connections, int((row.rate or BUILT_PER_SECOND) * seconds))))
    meter = stack.meter()
    meter.start()
    if row.rate:
        done = load.run_paced(requests, port=stack.port, connections=connections, rate=row.rate)
    else:
        done = load.run(requests, port=stack.port, connections=connections, seconds=seconds)
    cpu = meter.used()
    if not set(done.statuses) <= set(row.expected):
        raise WrongAnswers(f"{row.name}: expected {row.expected}, got {dict(done.statuses)}")
    count = len(done.latencies)
    return Sample(done.rate, done.percentile(0.5) * 1000, done.percentile(0.99) * 1000, cpu / count * 1000, count)


def rows(orders: list[dict[str, Any]], paying: list[dict[str, Any]], delivered: list[dict[str, Any]]) -> list[Row]:
    """Return every row of the table, in the order they are measured.

    Of the orders, the first have no payment yet, the second a quote that runs, and the third everything.
    """
    stopped, running = "worker stopped", "worker running"
    order = "/api/orders/{}"
    return [
        Row(f"IPN, distinct, {stopped}", bodies.distinct_ipns, (200,)),
        Row(f"IPN, distinct, members in another order, {stopped}", bodies.unsorted_ipns, (200,)),
        Row(f"IPN, repeated, {stopped}", bodies.repeated_ipns, (200,)),
        Row("IPN, forged", bodies.forged_ipns, (401, 429)),
        Row(f"IPN, distinct, Redis stopped, {stopped}", bodies.distinct_ipns, (200,), Stack.redis_stopped),
        Row(f"IPN, distinct, {running}", bodies.distinct_ipns, (200,), Stack.worker),
        Row(f"Kinguin webhook, {stopped}", bodies.kinguin_webhooks, (204,)),
        Row("Order status read", lambda stack: bodies.reads(stack, orders, "/api/fulfillment/{}/status"), (200,)),
        Row("Whole order read, just placed", lambda stack: bodies.reads(stack, orders, order), (200,)),
        Row("Whole order read, being paid", lambda stack: bodies.reads(stack, paying, order), (200,)),
        Row("Whole order read, delivered", lambda stack: bodies.reads(stack, delivered, order), (200,)),
        Row("Order polled, nothing changed", lambda stack: bodies.polls(stack, paying, order), (304,)),
        Row("Product list", bodies.products, (200,)),
        Row("Product list, nothing changed", bodies.known_products, (304,)),
        Row("Order creation", bodies.new_orders, (201,)),
        Row(f"Key revealed, {REVEALS} a second", lambda stack: bodies.reveals(stack, delivered), (200,), rate=REVEALS),
        *(_page(name, path) for name, path in PAGES.items()),
    ]


def _page(name: str, path: str) -> Row:
    return Row(f"Page: {name}, {PRODUCTS} products", lambda stack: bodies.pages(stack, path), (200,), filled)


def filled(stack: Stack) -> AbstractContextManager[None]:
    return filled_with_products(stack, PRODUCTS)


def place(stack: Stack, count: int) -> list[dict[str, Any]]:
    """Place orders over the API and return what it answered."""
    wanted = list(itertools.islice(bodies.new_orders(stack), count))
    return _answers(stack, wanted, {201})


def start_payments(stack: Stack, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # Few requests of a process may wait for the provider; the others are told 202, and their address comes soon.
    return _answers(stack, list(bodies.new_payments(stack, orders)), {201, 202})


def _answers(stack: Stack, requests: list[bytes], expected: set[int]) -> list[dict[str, Any]]:
    done = load.run(requests, port=stack.port, connections=8, seconds=600, keep_bodies=True)
    if not set(done.statuses) <= expected or len(done.bodies) != len(requests):
        raise WrongAnswers(f"expected {len(requests)} times {expected}, got {dict(done.statuses)}: {done.bodies[:1]!r}")
    return [json.loads(body) for body in done.bodies]

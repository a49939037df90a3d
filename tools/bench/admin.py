"""python -m tools.bench.admin [--orders N] [--sqlite]: what the pages of staff take with a million orders.

A PostgreSQL of its own is filled by `manage.py seed_large`. Then a superuser opens home, every list, every choice of
every filter, the finder with each kind of id, and an order's page through Django's test client. The table has the
median of three runs (of a list's filters: the slowest choice, once) and the number of statements; what takes longer
than 300 ms is shown with the plan of its slowest statement.
`DATABASE_URL=… python -m tools.bench.admin --here` asks a database that is filled already.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tools.dev.devenv import process_environment
from tools.dev.services import THROW_AWAY, Postgres

RUNS, SLOW_MS = 3, 300.0
SETTINGS = (*THROW_AWAY, "autovacuum=off", "shared_buffers=2GB", "maintenance_work_mem=256MB", "max_wal_size=8GB")


@dataclass(frozen=True)
class Cost:
    name: str
    milliseconds: float
    statements: int
    slowest_ms: float
    slowest: str  # of the statements

    @property
    def line(self) -> str:
        return f"| {self.name} | {self.milliseconds:.0f} | {self.statements} | {self.slowest_ms:.0f} |"


def main() -> None:
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bitloot-admin-")))
        if options.here:
            overrides = {"DATABASE_URL": os.environ["DATABASE_URL"]}
        else:
            overrides = {} if options.sqlite else {"DATABASE_URL": _postgres(stack)}
        os.environ.update(process_environment(folder, port=8000, sandbox_port=8001, THROTTLE_SCALE="0", **overrides))
        _prepare(None if options.here else options.orders)
        print(
            f"load {os.getloadavg()[0]:.1f}\n| page | ms | statements | the slowest of them, ms |\n|---|---|---|---|",
            flush=True,
        )
        slow = [cost for cost in _costs() if cost.milliseconds > SLOW_MS]
        print(f"load {os.getloadavg()[0]:.1f}")
        for cost in slow:
            print(f"\n{cost.name}, {cost.milliseconds:.0f} ms: {cost.slowest}\n{_plan(cost.slowest)}", flush=True)


def _options() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--orders", type=int, default=1_000_000)
    asked.add_argument("--sqlite", action="store_true", help="SQLite instead of PostgreSQL")
    asked.add_argument("--here", action="store_true", help="ask the database of DATABASE_URL, and fill nothing")
    return asked.parse_args()


def _postgres(stack: ExitStack) -> str:
    postgres = stack.enter_context(Postgres(settings=SETTINGS))
    print(f"DATABASE_URL={postgres.url}", file=sys.stderr, flush=True)
    return postgres.url


def _prepare(orders: int | None) -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    if orders is not None:
        started = time.monotonic()
        call_command("migrate", verbosity=0)
        call_command("seed_large", "--orders", str(orders))
        print(f"filled in {time.monotonic() - started:.0f} s", flush=True)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            if orders is not None:
                cursor.execute("VACUUM (ANALYZE)")  # a shop that grows slowly has had it from autovacuum


def _costs() -> Iterator[Cost]:
    """Print each line as soon as it is known, and yield all that was measured."""
    from django.apps import apps
    from django.contrib import admin
    from django.test import Client
    from django.urls import reverse

    client = Client()
    client.force_login(_superuser())
    for name, url in _pages():
        yield _shown(_measure(client, name, url))
    anew = ("local", "default")
    yield _shown(
        _measure(client, "home, 30 days, all of them read anew", f"{reverse('admin:index')}?period=30d", forget=anew)
    )
    for model in filter(admin.site.is_registered, apps.get_models()):
        name, url = str(model._meta.verbose_name_plural), _list(model)
        yield _shown(_measure(client, name, url))
        filtered = [_measure(client, f"{name} {query}", f"{url}{query}", runs=1) for query in _choices(client, url)]
        if filtered:
            _shown(max(filtered, key=lambda cost: cost.milliseconds))
        yield from filtered


def _superuser() -> Any:
    from django.contrib.auth import get_user_model

    users = get_user_model().objects
    return users.filter(username="bench").first() or users.create_superuser("bench")


def _shown(cost: Cost) -> Cost:
    print(cost.line, flush=True)
    return cost


def _pages() -> Iterator[tuple[str, str]]:
    from django.urls import reverse

    from orders.models import Order

    index = reverse("admin:index")
    yield "home", index
    yield "home, 30 days", f"{index}?period=30d"
    delivered = Order.objects.filter(status="fulfilled").first()
    if delivered is None:
        raise SystemExit("There is no delivered order; run manage.py seed_large first.")
    yield "an order", reverse("admin:orders_order_change", args=[delivered.pk])
    for kind, term in _terms(delivered):
        yield f"finder: {kind}", f"{index}?{urlencode({'q': term})}"
    yield "orders, found by half an e-mail", f"{_list(Order)}?{urlencode({'q': delivered.email[:12]})}"


def _terms(order: Any) -> Iterator[tuple[str, str]]:
    from payments.models import Refund

    payment, item = order.payments.first(), order.items.first()
    purchase, key, refund = item.reservations.first(), item.keys.first(), Refund.objects.filter(status="done").first()
    yield "order", str(order.pk)
    yield "its first characters", str(order.pk)[:8]
    yield "e-mail", order.email
    yield "payment", payment.external_id
    yield "address", payment.pay_address
    yield "transaction", payment.payin_hash
    yield "purchase", purchase.external_id
    yield "supplier's order", purchase.supplier_order_id
    yield "key", str(key.pk)
    yield "request", str(payment.request_id)
    yield "transaction of a refund", refund.transaction_id if refund else ""
    yield "what is nowhere", "zebracrossing"


def _list(model: Any) -> str:
    from django.urls import reverse

    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def _choices(client: Any, url: str) -> list[str]:
    """Return every choice of every filter of a list, as its query."""
    changes = client.get(url).context_data["cl"]
    choices = (choice for spec in changes.filter_specs for choice in spec.choices(changes))
    return [choice["query_string"] for choice in choices if not choice["selected"]]


def _measure(client: Any, name: str, url: str, runs: int = RUNS, forget: Sequence[str] = ("local",)) -> Cost:
    from django.db import connection, reset_queries
    from django.test.utils import CaptureQueriesContext

    reset_queries()  # Django keeps no more than 9000, and filling the tables left them
    with CaptureQueriesContext(connection) as statements:
        times = [_ask(client, url, forget)]
        asked = statements.captured_queries
    times += [_ask(client, url, forget) for _ in range(runs - 1)]
    slowest = max(asked, key=lambda one: float(one["time"]))
    return Cost(name, statistics.median(times) * 1000, len(asked), float(slowest["time"]) * 1000, slowest["sql"])


def _ask(client: Any, url: str, forget: Sequence[str]) -> float:
    from django.core.cache import caches

    for name in forget:
        caches[name].clear()
    started = time.perf_counter()
    answer = client.get(url)
    if answer.status_code != 200:
        raise SystemExit(f"{url} was answered {answer.status_code}")
    return time.perf_counter() - started


def _plan(statement: str) -> str:
    from django.db import connection

    explain = "EXPLAIN (ANALYZE, BUFFERS)" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {statement}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


if __name__ == "__main__":
    main()

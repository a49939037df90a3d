"""python -m tools.bench.catalogue [--sqlite]: what the shop window costs with 10,000 products.

A database of its own is filled and then asked through Django's test client, with nothing kept from one request to the
next. The table has the fastest run, the processor time of one (this process and PostgreSQL), and the statements.
"""

import argparse
import os
import random
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tools.bench.cpu import Meter
from tools.dev.devenv import process_environment
from tools.dev.services import Postgres

PRODUCTS, RUNS = 10_000, 20
FIRST = ["Ember", "Harbour", "Tiny", "Nightline", "Saltmarsh", "Lumen", "Silent", "Crimson", "Frozen", "Iron", "Velvet"]
SECOND = ["Drift", "Glass", "Orchard", "Courier", "Signals", "Wallet", "Empire", "Valley", "Frontier", "Legends"]
THIRD = ["", "", "II", "III", "DLC", "Deluxe Edition", "Season Pass", "Soundtrack"]
PLATFORMS = ["Steam", "GOG", "Epic Games", "Xbox", "PlayStation", "Nintendo", "EA App", "Ubisoft Connect"]
REGIONS = ["Region free", "Europe", "Germany", "United States", "United Kingdom"]
DESCRIPTION = "Race gliders down the flanks of sleeping volcanoes. They do not stay asleep. " * 12
ASKED = [
    "/",
    "/?page=150",
    "/?q=ember+drift",
    "/?q=embr+drift",
    "/?q=e",
    "/?in_stock=true",
    "/?platform=Steam&region=Europe&min_price=5&max_price=20&in_stock=true&ordering=price",
    "/products/game-5",
    "/api/products",
    "/api/products?q=ember",
    "/api/products?in_stock=true&ordering=-price&offset=5000",
    "/sitemap.xml",
]


@dataclass(frozen=True)
class Cost:
    fastest_ms: float
    cpu_ms: float
    statements: int


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--sqlite", action="store_true", help="SQLite instead of PostgreSQL")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bitloot-catalogue-")))
        postgres = None if asked.parse_args().sqlite else stack.enter_context(Postgres())
        overrides = {"DATABASE_URL": postgres.socket_url} if postgres else {}
        os.environ.update(process_environment(folder, port=8000, sandbox_port=8001, THROTTLE_SCALE="0", **overrides))
        _prepare()
        meter = Meter([os.getpid()])  # and all that it started
        print("| asked for | ms | CPU ms | statements |\n|---|---|---|---|")
        for path in ASKED:
            cost = _measure(path, meter)
            print(f"| `{path}` | {cost.fastest_ms:.0f} | {cost.cpu_ms:.0f} | {cost.statements} |")


def _prepare() -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    _fill()
    with connection.cursor() as cursor:
        # As PostgreSQL does by itself within a minute of such an import.
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def _fill() -> None:
    from django.utils import timezone

    from fulfillment.models import SupplierStock
    from orders.models import Product

    chance, now = random.Random(1), timezone.now()  # noqa: S311  # the same in each run
    products = [Product(**_product(chance, number)) for number in range(PRODUCTS)]
    Product.objects.bulk_create(products, batch_size=1000)
    stock = [_stock(chance, product, now - timedelta(minutes=chance.randrange(90))) for product in products]
    SupplierStock.objects.bulk_create([SupplierStock(**row) for row in stock], batch_size=1000)


def _product(chance: random.Random, number: int) -> dict[str, Any]:
    price = Decimal(chance.randrange(99, 6999)) / 100
    return {
        "slug": f"game-{number}",
        "title": " ".join(chance.choice(words) for words in (FIRST, SECOND, THIRD)).strip(),
        "platform": chance.choice(PLATFORMS),
        "region": chance.choice(REGIONS),
        "genres": ["Racing", "Indie"],
        "description": DESCRIPTION,
        "price": price,
        "max_cost": price,
        "supplier_product_id": str(number),
    }


def _stock(chance: random.Random, product: Any, seen_at: Any) -> dict[str, Any]:
    number = chance.choice([0, 1, 5, 500])
    cost = product.price * Decimal("0.8")
    return {"product": product, "price": cost, "quantity": number, "text_quantity": number, "seen_at": seen_at}


def _measure(path: str, meter: Meter) -> Cost:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    _ask(path)
    meter.start()
    took = [_ask(path) for _ in range(RUNS)]
    cpu = meter.used()
    with CaptureQueriesContext(connection) as statements:
        _ask(path)
    return Cost(min(took) * 1000, cpu / RUNS * 1000, len(statements))


def _ask(path: str) -> float:
    from django.core.cache import caches
    from django.test import Client

    caches["pages"].clear()
    started = time.perf_counter()
    answer = Client().get(path)
    if answer.status_code != 200:
        raise SystemExit(f"{path} was answered {answer.status_code}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

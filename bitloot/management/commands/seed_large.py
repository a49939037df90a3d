import itertools
import math
import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import connection, transaction
from django.utils import timezone

from bitloot.management.operator import OperatorCommand, whole
from bitloot.management.seeding.copies import Copier, Copy
from bitloot.management.seeding.stories import ENDED, MODELS, OPEN, Stories
from orders.models import Product

BATCH = 500
YEAR = timedelta(days=365)
MOST_OPEN = 500
NUMBER_OF_OPEN = 50_000  # apart from the numbers of the batches
FIRST = ("Ember", "Harbour", "Tiny", "Nightline", "Saltmarsh", "Lumen", "Silent", "Crimson", "Frozen", "Iron")
SECOND = ("Drift", "Glass", "Orchard", "Courier", "Signals", "Empire", "Valley", "Frontier", "Legends", "Tides")
THIRD = ("", " II", " Deluxe")


class Command(OperatorCommand):
    help = (
        "With DEBUG only: fill the database with invented orders of a year, to see how quick pages are then. Continues"
        " where an interrupted run ended. The worker has nothing to do with them, and their books do not balance."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--orders", type=whole(1, 100_000_000), default=1_000_000, metavar="N",
            help=f"how many there are in the end, in batches of {BATCH} (default: 1000000); some more are open",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("seed_large is for development: it fills the database with invented orders.")
        batches = math.ceil(options["orders"] / BATCH)
        made = self._fill(batches, timezone.now())
        with connection.cursor() as cursor:
            for model in MODELS:
                cursor.execute(f"ANALYZE {model._meta.db_table}")
        self.stdout.write(f"{made * BATCH} orders made, {(batches - made) * BATCH} were there.")

    def _fill(self, batches: int, now: datetime) -> int:
        """Store the batches that are missing, the oldest first; return how many those were."""
        products, span = _products(), YEAR / batches
        open_ones = Stories(
            "open", products, kinds=OPEN, count=min(MOST_OPEN, batches * 25), now=now, span=timedelta(1)
        )
        ended = Copier(Stories("ended", products, kinds=ENDED, count=BATCH, now=now, span=span).rows)
        made = 0
        with self.progress(batches * BATCH, "orders") as step:
            for number in reversed(range(batches)):
                made += _store(ended, Copy(number, span * number))
                step(BATCH)
        _store(Copier(open_ones.rows), Copy(NUMBER_OF_OPEN, timedelta(0)))
        return made


def _store(copier: Copier, copy: Copy) -> bool:
    """Store all of a batch or nothing; return False if it is there."""
    if copier.is_there(copy):
        return False
    with transaction.atomic():
        copier.store(copy)
    return True


def _products() -> list[Product]:
    """Return the invented products, which are made unless they are there."""
    titles = [f"{first} {second}{third}" for first, second, third in itertools.product(FIRST, SECOND, THIRD)]
    products = [
        Product(
            id=uuid.uuid5(uuid.NAMESPACE_OID, title), slug=f"large-{number}", title=title, platform="PC",
            price=Decimal(499 + number * 17) / 100, max_cost=Decimal(399 + number * 16) / 100,
            supplier_product_id=f"large-{number}", cover="",
        )
        for number, title in enumerate(titles)
    ]  # fmt: skip
    Product.objects.bulk_create(products, ignore_conflicts=True)
    return products

import uuid
from argparse import ArgumentParser
from typing import Any

from bitloot.management.operator import OperatorCommand, UsageError
from bitloot.ops.customers import export_order
from orders.models import Order


class Command(OperatorCommand):
    help = "Print as JSON everything that is kept about an order, with its whole timeline; no key and no link is in it."
    exit_codes = {0: "done"}

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("order", type=uuid.UUID, help="the order's id")

    def handle(self, *, order: uuid.UUID, **options: Any) -> None:
        row = Order.objects.filter(pk=order).first()
        if row is None:
            raise UsageError(f"There is no order {order}.")
        self.write_json(export_order(row))

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from bitloot.management.operator import OperatorCommand
from bitloot.ops.customers import export_customer


class Command(OperatorCommand):
    help = (
        "Print as JSON everything that is kept about a customer: orders, payments, refunds, mails, and when keys were"
        " opened. No key and no link is in it. Send it to nobody but that address."
    )
    exit_codes = {0: "done", 1: "nothing is kept about this address"}

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", help="the customer's address, in any case")

    def handle(self, *, email: str, **options: Any) -> None:
        document = export_customer(email)
        self.write_json(document)
        if not document["orders"] and not document["other_mails"]:
            raise CommandError(f"Nothing is kept about {email}.")

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from bitloot.core.decisions import DecisionRefused
from bitloot.management.operator import OperatorCommand
from bitloot.ops.customers import erase_customer, objection_to_erasing, orders_of
from bitloot.ops.operator import whoami


class Command(OperatorCommand):
    help = (
        "Erase a customer's address and the networks of their browsers from orders, mails, deliveries and the staff"
        " log; a stand-in takes the address's place. Amounts, coins, addresses of refunds and the timeline stay: the"
        " books need them. Keys stay until their retention ends. All or nothing, and it cannot be undone."
    )
    exit_codes = {0: "erased, or nothing was kept", 1: "refused: one of their orders is open"}
    has_json = has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", help="the customer's address, in any case")

    def handle(self, *, email: str, dry_run: bool, **options: Any) -> None:
        objections = [found for order in orders_of(email) if (found := objection_to_erasing(order))]
        count = orders_of(email).count()
        if not dry_run and not objections:
            try:
                count = erase_customer(email, actor=whoami())
            except DecisionRefused as err:  # one was opened since
                objections = [str(err)]
        if options["json"]:
            self.write_json({"ok": not objections, "dry_run": dry_run, "orders": count, "objections": objections})
        elif not objections:
            self.stdout.write(f"{'To be erased' if dry_run else 'Erased'}: the address of {count} orders.")
        if objections:
            raise CommandError("Nothing was erased. " + " ".join(objections))

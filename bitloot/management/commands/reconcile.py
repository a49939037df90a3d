import json
import uuid
from argparse import ArgumentTypeError
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandError, CommandParser

from bitloot.accounting import provider_checks
from bitloot.accounting.checks import Difference, differences, unacknowledged
from bitloot.accounting.ledger import Book, Scope, books, lines
from bitloot.accounting.models import Acknowledgement
from bitloot.core import wakeup
from bitloot.core.database import one_moment
from bitloot.core.money import plain
from bitloot.management.operator import OperatorCommand, UsageError
from bitloot.ops.operator import whoami
from orders.models import Order

SINGLE_BOOKS = 100
INCOMPLETE = 2
LONGEST_DAYS = 36_500


class Command(OperatorCommand):
    help = (
        "Add up what came in, what the supplier took, what was delivered and what is owed back, from the rows"
        " themselves, and say what does not fit and what to do. Changes nothing, unless told to --adopt."
    )
    has_json = True
    exit_codes = {
        0: "everything fits",
        1: "something does not fit",
        INCOMPLETE: "everything fits, but a provider could not be asked about all of it",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--ask", action="store_true", help="also read payments and purchases at both providers")
        parser.add_argument("--since", type=_days, metavar="DAYS", help="only orders placed in the last days")
        parser.add_argument("--order", type=uuid.UUID, metavar="ID", help="only this order")
        parser.add_argument(
            "--adopt",
            action="store_true",
            help="with --ask, after restoring a backup: take over purchases that our rows never heard of",
        )

    def handle(
        self, *, ask: bool, adopt: bool, since: timedelta | None, order: uuid.UUID | None, **options: Any
    ) -> None:
        if adopt and not ask:
            raise UsageError("--adopt needs --ask: only the supplier knows what there is to adopt.")
        if order is not None and not Order.objects.filter(pk=order).exists():
            raise UsageError(f"There is no order {order}.")
        scope = Scope(since=since, order=order)
        with one_moment():
            summed = books(scope)
            found = list(differences(scope))
        # Providers after that snapshot: they take their time, and what a worker moves meanwhile is no difference.
        complaints: list[str] = []
        for answers in [provider_checks.ask_nowpayments(scope), provider_checks.ask_supplier(scope)] if ask else []:
            found += unacknowledged(answers.differences)
            complaints += answers.complaints
        (self._write_json if options["json"] else self._write)(summed, found, complaints)
        if adopt:
            self._adopt(found)
        if found:
            raise CommandError(f"{len(found)} differences. Each says what to do.")
        if complaints:
            raise CommandError("No difference, but not everything could be asked.", returncode=INCOMPLETE)

    def _write(self, summed: dict[str, Book], found: list[Difference], complaints: list[str]) -> None:
        for book in summed.values():
            self.stdout.write("\n".join(lines(book)))
        for difference in found:
            self.stdout.write(self.style.ERROR(f"DIFFERENCE {difference.kind}: {difference.message}"))
            if difference.facts:
                command = f"manage.py acknowledge_difference {difference.kind} {difference.external_id} --reason …"
                self.stdout.write(f"  Once it is dealt with, and stays all the same: {command}")
        if acknowledged := Acknowledgement.objects.count():
            self.stdout.write(f"{acknowledged} differences were acknowledged; the admin lists them.")
        for complaint in complaints:
            self.stdout.write(self.style.WARNING(complaint))
        if not found and not complaints:
            self.stdout.write(self.style.SUCCESS("The books balance."))

    def _write_json(self, summed: dict[str, Book], found: list[Difference], complaints: list[str]) -> None:
        concerned = sorted({difference.order for difference in found})[:SINGLE_BOOKS]
        document = {
            "ok": not found and not complaints,
            "books": {currency: book.as_json() for currency, book in summed.items()},
            "differences": [asdict(difference) for difference in found],
            "not_asked": complaints,
            # The books of each order that something is wrong with.
            "orders": {order: _single(uuid.UUID(order)) for order in concerned},
        }
        self.stdout.write(json.dumps(document, indent=2, default=_amount))

    def _adopt(self, found: list[Difference]) -> None:
        wanted = [difference.external_id for difference in found if difference.kind == provider_checks.ADOPTABLE]
        taken = [external_id for external_id in wanted if provider_checks.let_search(external_id, actor=whoami())]
        wakeup.notify("fulfillment")
        self.stderr.write(f"{len(taken)} purchases are searched for and adopted; run this again in a minute.")


def _days(text: str) -> timedelta:
    try:
        days = float(text)
    except ValueError:
        days = 0
    if not 0 < days <= LONGEST_DAYS:  # not a number is refused here as well
        raise ArgumentTypeError(f"has to be more than 0 and at most {LONGEST_DAYS} days")
    return timedelta(days=days)


def _single(order: uuid.UUID) -> dict[str, Any]:
    return {currency: book.as_json() for currency, book in books(Scope(order=order)).items()}


def _amount(value: Decimal) -> str:
    return plain(value)

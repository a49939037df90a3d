from argparse import ArgumentParser, ArgumentTypeError
from datetime import date, timedelta
from typing import Any

from bitloot.accounting.journal import KINDS, journal
from bitloot.accounting.spreadsheet import spreadsheet
from bitloot.core import replica
from bitloot.management.operator import OperatorCommand, UsageError


class Command(OperatorCommand):
    help = (
        "Print what happened to money in a span of days, as CSV for a spreadsheet: orders as they were placed, payments"
        " as they finished, refunds as they were sent, purchases as they were made. Days are UTC. No customer is named."
    )
    exit_codes = {0: "done"}
    has_json = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", type=day, required=True, metavar="DATE", help="the first day: 2026-03-01")
        parser.add_argument("--until", type=day, required=True, metavar="DATE", help="the last day, which is included")
        parser.add_argument("--only", choices=KINDS, help="only lines of this kind")

    def handle(self, *, since: date, until: date, only: str | None, **options: Any) -> None:
        if until < since:
            raise UsageError("--until is before --since.")
        lines = journal(since, until, kinds=[only] if only else KINDS, using=replica.for_lists())
        if options["json"]:
            self.write_json(list(lines))
            return
        for row in spreadsheet(lines):
            self.stdout.write(row, ending="")


def day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
        found + timedelta(days=1)  # the midnight that ends it
    except (ValueError, OverflowError):
        raise ArgumentTypeError("has to be a date like 2026-03-01") from None
    return found

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from bitloot.management.operator import OperatorCommand
from bitloot.ops import partitions


class Command(OperatorCommand):
    help = (
        "Partition the orders' timeline by month, in PostgreSQL, or make it one table again. The table becomes the"
        " first partition, without a row copied: orders wait for moments. `prune` makes the coming months from then on."
        " Runs as the owner of the tables. May be interrupted and run again. docs/capacity.md says when it pays."
    )
    exit_codes = {0: "done, or nothing to do", 1: "refused, or the table was never free; nothing was changed"}
    has_json = has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--undo", action="store_true", help="make one plain table of the partitions again")

    def handle(self, *, undo: bool, dry_run: bool, **options: Any) -> None:
        to_do = partitions.applies() and partitions.is_partitioned() == undo
        if to_do and not dry_run:
            self._change(undo)
        answer = {
            "dry_run": dry_run,
            "table": partitions.TABLE,
            "to_do": to_do,
            "partitions": [vars(each) for each in partitions.partitions()] if partitions.applies() else [],
        }
        if options["json"]:
            self.write_json(answer)
            return
        self.stdout.write(_sentence(undo, to_do=to_do, dry_run=dry_run))
        for each in answer["partitions"]:  # type: ignore[attr-defined]
            self.stdout.write(f"  {each['name']}: {each['bound']}")

    def _change(self, undo: bool) -> None:
        try:
            if undo:
                partitions.undo()
            else:
                partitions.partition(timezone.now().date())
        except partitions.CannotPartition as err:
            raise CommandError(f"Nothing was changed: {err}.") from err


def _sentence(undo: bool, *, to_do: bool, dry_run: bool) -> str:
    wanted = "one plain table" if undo else "partitioned by month"
    if not partitions.applies():
        return "SQLite has no partitions: there is nothing to do."
    if not to_do:
        return f"{partitions.TABLE} is {wanted}: there is nothing to do."
    first = f", beginning with {partitions.first_month(timezone.now().date()):%B %Y}" if not undo else ""
    return f"{partitions.TABLE} {'would become' if dry_run else 'is'} {wanted}{first}."

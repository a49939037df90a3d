from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from bitloot.management.operator import OperatorCommand, batch_size
from bitloot.ops import partitions
from bitloot.ops.retention import BATCH, RULES, Covers, Rule


class Command(OperatorCommand):
    help = (
        "Forget what its retention has ended for: bodies of webhooks, e-mail addresses of orders that nobody paid,"
        " mails, openings of keys, sessions, covers that no product has. The rows of the books stay. Makes the coming"
        " months of a timeline that `partition_tables` has partitioned. Every six hours the worker does the same, if"
        " its database role may. It may be interrupted and run again at any time."
    )
    has_json = has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--only", choices=[rule.name for rule in RULES], help="only this kind")
        parser.add_argument("--batch", type=batch_size, default=BATCH, help=f"rows in one transaction ({BATCH})")

    def handle(self, *, only: str | None, batch: int, dry_run: bool, **options: Any) -> None:
        rules = [rule for rule in RULES if only in (None, rule.name)]
        counted: dict[Rule | Covers, int] = {}
        troubles, months = [], []
        for rule in rules:
            try:
                counted[rule] = rule.count() if dry_run else self._prune(rule, batch)
            except OSError as err:  # the object store; a worker, which has a way there, takes the covers as well
                troubles.append(f"{rule.what}: {err}")
        try:
            months = [] if only or dry_run else partitions.prepare_months(timezone.now().date())
        except partitions.CannotPartition as err:
            troubles.append(f"the coming months have no partition yet: {err}")
        self._say(counted, months, dry_run=dry_run, as_json=options["json"])
        if troubles:
            raise CommandError(f"Not all done: {'; '.join(troubles)}.")

    def _say(self, counted: dict[Rule | Covers, int], months: list[str], *, dry_run: bool, as_json: bool) -> None:
        if as_json:
            rows = {rule.name: {"days": rule.days, "rows": count} for rule, count in counted.items()}
            self.write_json({"dry_run": dry_run, "pruned": rows, "partitions": months})
            return
        for rule, count in counted.items():
            days = "a day" if rule.days == 1 else f"{rule.days} days"
            after = f", after {days}" if rule.days else ""
            self.stdout.write(f"{'Due' if dry_run else 'Forgotten'}: {count} {rule.what}{after}.")
        for name in months:
            self.stdout.write(f"Made the partition {name}.")

    def _prune(self, rule: Rule | Covers, batch: int) -> int:
        done = 0
        with self.progress(rule.count(), "rows") as step:
            for count in rule.prune(batch=batch):
                step(count)
                done += count
        return done

import math
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from bitloot.management.operator import OperatorCommand, UsageError
from bitloot.ops.backup.places import made_at, place
from bitloot.ops.backup.services import BackupFailed, demand_readable, restore
from storage.objects import ObjectUnavailable
from storage.services import missing_objects

MARGIN_DAYS = 2  # what was placed shortly before the backup may have been paid, and bought, after it
SHOWN = 20
NEXT = """{chosen} is restored; purchases are stopped. Next:
1. Start web, worker and beat. Within five minutes open payments are read again.
2. `manage.py reconcile --ask --adopt --since {days}`, until it exits 0; docs/runbook.md explains each difference.
3. Take SAFE_MODE out of the environment, restart, and `manage.py safe_mode off`. The waiting orders are bought.
What the providers say now:"""

GONE = """{count} keys are not in the object store any more: {shown}.
Those that were shredded after the backup are right to be gone. The others come from a copy of the bucket, or from the
supplier's order once more (`key_integrity` in docs/runbook.md)."""


class Command(OperatorCommand):
    help = (
        "Replace the database by a backup, all or nothing, and stop every purchase: the supplier may have sold since"
        " what the backup takes for unsold. Then ask both providers, adopt what was bought, and name what is left. Stop"
        " web, worker and beat first, and set SAFE_MODE=1 for all of them."
    )
    exit_codes = {0: "restored, and the books balance", 1: "not restored, or differences are left; the text says which",
                  2: "restored; a provider could not be asked about all of it"}  # fmt: skip
    has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="as `backup --list` has it, or latest")
        parser.add_argument("--yes", action="store_true", help="replace the database that is there now")

    def handle(self, *, name: str, yes: bool, dry_run: bool, **options: Any) -> None:
        chosen = self._chosen(name)
        if dry_run:
            self._demand_readable(chosen)
            self.stdout.write(f"{chosen} of {made_at(chosen):%Y-%m-%d %H:%M} UTC would replace the database.")
            return
        if not yes:
            raise UsageError(f"This replaces the database by {chosen}. Say --yes.")
        try:
            restore(chosen)
        except (BackupFailed, OSError) as err:
            raise CommandError(f"Nothing was restored. {err}") from err
        # Before anything else: nothing is running yet that could buy.
        call_command("migrate", verbosity=0, interactive=False)
        if settings.MIGRATE_DATABASE_URL:  # tables that came anew know nothing of the application's role
            call_command("grant_rights", stdout=self.stdout)
        call_command("safe_mode", "on", "--reason", f"{chosen} was restored", stdout=self.stdout)
        self._continue(chosen)

    def _demand_readable(self, chosen: str) -> None:
        try:
            demand_readable(chosen)
        except (BackupFailed, OSError) as err:
            raise CommandError(f"It could not be restored. {err}") from err

    def _chosen(self, name: str) -> str:
        there = place().names()
        if name != "latest" and name not in there:
            raise UsageError(f"There is no {name} in {place()}; `backup --list` names them.")
        if not there:
            raise UsageError(f"There is no backup in {place()}.")
        return there[0] if name == "latest" else name

    def _name_missing_objects(self) -> None:
        """Name the keys that the backup has and the object store has not: shredded since, or lost with the bucket."""
        try:
            missing = missing_objects()
        except ObjectUnavailable as err:
            self.stdout.write(self.style.WARNING(f"The object store could not be compared with the keys: {err}."))
            return
        if missing:
            shown = ", ".join(map(str, missing[:SHOWN]))
            self.stdout.write(self.style.WARNING(GONE.format(count=len(missing), shown=shown)))

    def _continue(self, chosen: str) -> None:
        age = datetime.now(UTC) - made_at(chosen)
        days = str(math.ceil(age.total_seconds() / 86_400) + MARGIN_DAYS)
        self.stdout.write(NEXT.format(chosen=chosen, days=days))
        self._name_missing_objects()
        call_command("reconcile", "--ask", "--adopt", "--since", days, stdout=self.stdout, stderr=self.stderr)

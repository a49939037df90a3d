from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from bitloot.management.operator import OperatorCommand
from bitloot.ops.backup.places import place
from bitloot.ops.backup.services import BackupFailed, demand_secret, make_backup


class Command(OperatorCommand):
    help = (
        "Dump the whole database as of one moment, encrypt it under BACKUP_SECRET, put it into BACKUP_TARGET, read it"
        " back, and remove all but the newest BACKUP_KEEP. Everything continues meanwhile. Sealed keys in R2 are not in"
        " it: they are written once and need no backup. Secrets are not in it: keep a copy of them elsewhere."
    )
    exit_codes = {0: "made and read back", 1: "not made; older ones are all there"}
    has_json = has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--list", action="store_true", help="only name the backups that are there, newest first")

    def handle(self, *, dry_run: bool, **options: Any) -> None:
        if options["list"]:
            self._show(options["json"])
            return
        try:
            if dry_run:
                demand_secret()
                self._show(options["json"])
                return
            made = make_backup()
        except (BackupFailed, OSError) as err:
            raise CommandError(f"No backup was made. {err}") from err
        if options["json"]:
            self.write_json(vars(made))
        else:
            removed = f"; {len(made.removed)} older removed" if made.removed else ""
            self.stdout.write(f"{made.name}: {made.bytes} bytes in {made.where}{removed}.")

    def _show(self, as_json: bool) -> None:
        names = place().names()
        if as_json:
            self.write_json({"where": str(place()), "keep": settings.BACKUP_KEEP, "backups": names})
        else:
            self.stdout.write("\n".join([f"{place()}, the newest {settings.BACKUP_KEEP} are kept:", *names]))

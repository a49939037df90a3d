from argparse import ArgumentParser
from typing import Any

from bitloot.management.operator import OperatorCommand
from storage.services import expire_deliveries, expired_deliveries


class Command(OperatorCommand):
    help = (
        "Destroy the keys whose retention (KEY_RETENTION_DAYS) has ended and that their customer has opened. The worker"
        " does the same every ten minutes, and with those that were never opened."
    )
    has_json = has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--unviewed", action="store_true", help="also keys that their customer never opened")

    def handle(self, *, unviewed: bool, dry_run: bool, **options: Any) -> None:
        due = expired_deliveries(unviewed=unviewed).count()
        kept = expired_deliveries(unviewed=True).count() - due
        destroyed = 0
        with self.progress(0 if dry_run else due, "keys") as step:
            while not dry_run and (count := expire_deliveries(unviewed=unviewed)):
                step(count)
                destroyed += count
        if options["json"]:
            self.write_json({"dry_run": dry_run, "due": due, "destroyed": destroyed, "never_opened": kept})
            return
        never = f" {kept} expired ones were never opened: --unviewed destroys those, too." if kept else ""
        self.stdout.write(f"{due} keys are due, {destroyed} were destroyed.{never}")

from typing import Any

from django.core.management.base import CommandError, CommandParser

from bitloot.management.operator import OperatorCommand, UsageError
from storage.sealing import MasterKeys
from storage.services import keys_under_other_masters, rewrap_keys


class Command(OperatorCommand):
    help = (
        "Wrap every key under the current KEY_ENCRYPTION_SECRET and in the current format (docs/key-format.md)."
        " May be interrupted and run again at any time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batch", type=int, default=500, help="Rows read at a time.")

    def handle(self, *, batch: int, **options: Any) -> None:
        if batch < 1:
            raise UsageError("--batch has to be at least 1.")
        done = rewrap_keys(batch=batch)
        self.stdout.write(f"{done} keys are now under master key {MasterKeys.from_settings().primary.id}.")
        if left := keys_under_other_masters():
            rest = ", ".join(f"{count} under {name}" for name, count in left.items())
            raise CommandError(f"Not re-wrapped: {rest}. Keep KEY_ENCRYPTION_SECRET_FALLBACKS and read the alerts.")
        self.stdout.write(self.style.SUCCESS("None is left under another: KEY_ENCRYPTION_SECRET_FALLBACKS can go."))

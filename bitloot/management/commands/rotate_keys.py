from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from bitloot.management.operator import OperatorCommand, batch_size
from storage.models import Key
from storage.sealing import MasterKeys
from storage.services import closed_keys, keys_under_other_masters, rewrap_keys


class Command(OperatorCommand):
    help = (
        "Wrap every key under the current KEY_ENCRYPTION_SECRET and in the current format (docs/key-format.md), then"
        " say whether the earlier secret may go. Customers open their keys all the while, and no object is touched."
    )
    exit_codes = {
        0: "every key is under the current secret; KEY_ENCRYPTION_SECRET_FALLBACKS can go",
        1: "keys are left under another, or do not open; keep the fallbacks",
    }
    has_json = has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--batch", type=batch_size, default=500, help="keys in one transaction (500)")
        parser.add_argument("--verify", action="store_true", help="then unwrap every key once")

    def handle(self, *, batch: int, dry_run: bool, verify: bool, **options: Any) -> None:
        done = 0 if dry_run else self._rotate(batch)
        left, closed = keys_under_other_masters(), self._verify() if verify else []
        if options["json"]:
            self.write_json({"ok": not left and not closed, "dry_run": dry_run, "rotated": done, "left": left,
                             "primary": MasterKeys.from_settings().primary.id, "closed": closed})  # fmt: skip
        else:
            self.stdout.write(f"{done} keys are now under master key {MasterKeys.from_settings().primary.id}.")
        if left:
            rest = ", ".join(f"{count} under {name}" for name, count in left.items())
            raise CommandError(f"Not re-wrapped: {rest}. Keep KEY_ENCRYPTION_SECRET_FALLBACKS and read the alerts.")
        if closed:
            raise CommandError(f"{len(closed)} keys do not open, the first is {closed[0]}. Keep every earlier secret.")
        if not options["json"]:
            message = "None is left under another: KEY_ENCRYPTION_SECRET_FALLBACKS can go."
            self.stdout.write(self.style.SUCCESS(message))

    def _rotate(self, batch: int) -> int:
        with self.progress(sum(keys_under_other_masters().values()), "keys") as step:
            return rewrap_keys(batch=batch, step=step)

    def _verify(self) -> list[str]:
        with self.progress(Key.objects.exclude(status=Key.Status.SHREDDED).count(), "keys") as step:
            return [str(key) for key in closed_keys(step=step)]

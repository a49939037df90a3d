from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from bitloot.core.providers import ProviderError
from bitloot.management.operator import OperatorCommand
from fulfillment import sync


class Command(OperatorCommand):
    help = (
        "Ask Kinguin what the products on sale cost and how many there are, those that are due, and let automatic"
        " price rules follow. The worker does the same every minute. It makes KINGUIN_LOOKS_PER_MINUTE calls a minute"
        " at most, waits for the next minute's, and continues where an interrupted run ended."
    )
    exit_codes = {0: "all that was due was looked at", 1: "the supplier did not answer; what is left stays due"}
    has_json = has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--all", action="store_true", help="everything on sale, whether it is due or not")

    def handle(self, *, dry_run: bool, **options: Any) -> None:
        if options["all"] and not dry_run:
            sync.look_again_at_all()
        count = sync.on_sale().count() if options["all"] else sync.due().count()
        answered, trouble = (0, "") if dry_run else self._look(count)
        left = sync.due().count()
        if options["json"]:
            self.write_json({"dry_run": dry_run, "due": count, "answered": answered, "left": left, "trouble": trouble})
        else:
            self.stdout.write(f"{count} products due, {answered} answered about, {left} left.")
        if trouble:
            raise CommandError(f"Kinguin did not answer: {trouble}. What is left stays due.")

    def _look(self, count: int) -> tuple[int, str]:
        answered = 0
        with self.progress(count, "products") as step:
            try:
                for number in sync.look_at_due(is_patient=True):
                    answered += number
                    step(number)
            except (ProviderError, ImproperlyConfigured) as err:
                return answered, str(err)
        return answered, ""

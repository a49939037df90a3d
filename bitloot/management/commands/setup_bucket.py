from typing import Any

from django.core.management.base import CommandError, CommandParser

from bitloot.management.operator import OperatorCommand
from storage import bucket, probe
from storage.objects import ObjectUnavailable, key_store


class Command(OperatorCommand):
    help = (
        "Set the CORS and lifecycle rules of the bucket; rules of others stay. Needs a token with Admin Read & Write,"
        " for this command only."
    )
    exit_codes = {0: "the bucket is set up", 1: "something is wrong, or no bucket is configured; see the output"}

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only report, and change nothing")

    def handle(self, **options: Any) -> None:
        store = key_store()
        if not store.signs_urls:
            raise CommandError("No bucket is set (R2_BUCKET): keys are kept in files under var/, nothing to set up.")
        try:
            if not options["check"]:
                bucket.set_up(store)
            found = [*bucket.differences(store), *probe.problems()]
        except ObjectUnavailable as err:
            raise CommandError(str(err)) from err
        for problem in found:
            self.stdout.write(self.style.ERROR(f"WRONG: {problem}"))
        if found:
            raise CommandError(f"{len(found)} problems.")
        self.stdout.write("The bucket is set up: browsers on our pages may read, and nothing is left lying about.")

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from bitloot.management.operator import OperatorCommand
from bitloot.ops.doctor import LOOKS, Finding, Level, examine

ONLY_TO_LOOK_AT = 2


class Command(OperatorCommand):
    help = (
        "Check everything that the shop needs, and say what is wrong and how to fix it. Changes nothing, apart from a"
        " probe that it writes to the object store and deletes."
    )
    exit_codes = {0: "all is well", 1: "something is wrong", ONLY_TO_LOOK_AT: "it works; something should be looked at"}
    has_json = True
    requires_system_checks = []  # what they find is said with the rest

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--only", choices=list(LOOKS), action="append", help="only this; may be repeated")

    def handle(self, *, only: list[str] | None, **options: Any) -> None:
        looks = {name: take for name, take in LOOKS.items() if not only or name in only}
        found = []
        for finding in examine(looks):
            found.append(finding)
            if not options["json"]:
                self._write(finding)
        wrong, to_look_at = (sum(each.level == level for each in found) for level in (Level.WRONG, Level.LOOK))
        if options["json"]:
            findings = [vars(finding) for finding in found]
            self.write_json({"ok": not wrong, "wrong": wrong, "look": to_look_at, "findings": findings})
        if wrong:
            raise CommandError(f"{wrong} wrong, {to_look_at} to look at.")
        if to_look_at:
            raise CommandError(f"Nothing is wrong, {to_look_at} to look at.", returncode=ONLY_TO_LOOK_AT)

    def _write(self, finding: Finding) -> None:
        style = {Level.OK: self.style.SUCCESS, Level.LOOK: self.style.WARNING, Level.WRONG: self.style.ERROR}
        self.stdout.write(f"{style[finding.level](f'{finding.level:<5}')} {finding.about}: {finding.message}")
        if finding.remedy:
            self.stdout.write(f"      → {finding.remedy}")

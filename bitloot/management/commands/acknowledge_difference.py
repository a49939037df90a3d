from typing import Any

from django.core.management.base import CommandError, CommandParser

from bitloot.accounting.acknowledging import KINDS, NothingToAcknowledge, acknowledge
from bitloot.management.operator import OperatorCommand, UsageError
from bitloot.ops.operator import whoami


class Command(OperatorCommand):
    help = (
        "Record that staff dealt with a difference that stays in the rows, so that `reconcile` skips it from now on."
        " If any of its facts changes, reconcile names it again. Exits 1 if there is no such difference."
    )

    exit_codes = {0: "acknowledged, now or before", 1: "there is no such difference"}
    has_json = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", choices=KINDS, help="as `reconcile` names it")
        parser.add_argument("subject", help="the payment's or purchase's id, as `reconcile` names it")
        parser.add_argument("--reason", required=True, help="what was done about it; kept")

    def handle(self, *, kind: str, subject: str, reason: str, **options: Any) -> None:
        if not reason.strip():
            raise UsageError("Write what was done about the difference: --reason TEXT.")
        try:
            recorded = acknowledge(kind, subject, reason=reason.strip(), actor=whoami())
        except NothingToAcknowledge as err:
            raise CommandError(str(err)) from err
        if options["json"]:
            self.write_json({"kind": kind, "subject": subject, "acknowledged": len(recorded)})
        else:
            done = (
                "is acknowledged; reconcile skips it until its facts change."
                if recorded
                else "was acknowledged before."
            )
            self.stdout.write(f"{kind} of {subject} {done}")

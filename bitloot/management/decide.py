"""Decisions of the admin's buttons on the command line: the same objections, the same effect, the same timeline."""

import uuid
from argparse import ArgumentParser
from typing import Any, ClassVar

from django.core.management.base import CommandError

from bitloot.core.decisions import Decision, DecisionRefused
from bitloot.management.operator import OperatorCommand, UsageError
from bitloot.ops.operator import whoami
from orders.models import Order


class OrderDecisionCommand(OperatorCommand):
    """Carries one decision out for one order. The timeline names the account of the shell."""

    decision: ClassVar[Decision[Order]]
    exit_codes = {0: "done; with --dry-run: nothing stands against it", 1: "refused; the text says why"}
    has_json = has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("order", type=uuid.UUID, help="the order's id")
        if self.decision.form is not None:
            parser.add_argument("--reason", required=True, help="why, in a few words; kept on the timeline")

    def handle(self, *, order: uuid.UUID, dry_run: bool, **options: Any) -> None:
        row = Order.objects.filter(pk=order).first()
        if row is None:
            raise UsageError(f"There is no order {order}.")
        fields = self._fields(options.get("reason"))
        objection = self.decision.objection(row) if dry_run else self._carry_out(row, fields)
        if options["json"]:
            row.refresh_from_db()
            self.write_json({"ok": not objection, "dry_run": dry_run, "order": row.pk, "status": row.status,
                             "objection": objection})  # fmt: skip
        if objection:
            raise CommandError(f"{row}: {objection}")
        if not options["json"]:
            done = f"“{self.decision.label}” is possible." if dry_run else self.decision.done
            self.stdout.write(f"{row}: {done}")

    def _carry_out(self, row: Order, fields: dict[str, Any]) -> str | None:
        try:
            self.decision.carry_out(row, actor=whoami(), **fields)
        except DecisionRefused as err:
            err.afterwards()
            return str(err)
        return None

    def _fields(self, reason: str | None) -> dict[str, Any]:
        if self.decision.form is None:
            return {}
        form = self.decision.form({"reason": reason})
        if not form.is_valid():
            raise UsageError(" ".join(str(message) for messages in form.errors.values() for message in messages))
        return form.cleaned_data

import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandError

from bitloot.core.providers import OverBudget
from bitloot.management.operator import OperatorCommand, whole
from bitloot.ops.operator import whoami
from webhooks.choosing import Chosen, chosen
from webhooks.foresight import foreseen_or_left
from webhooks.models import WebhookLog
from webhooks.services import replay_each

MOST_ID = 2**63 - 1


class Command(OperatorCommand):
    help = (
        "Hand stored webhooks to their handlers once more, oldest first: those that failed, or what the options choose."
        " A webhook is only a hint, so a repeat moves nothing that the provider does not confirm. --dry-run lets each"
        " handler run and undoes all of it: it says what would change."
    )
    exit_codes = {0: "all were handed over, or none was chosen", 1: "some were left; the text says why"}
    has_json = has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--id", type=whole(1, MOST_ID), nargs="+", default=[], help="these rows only")
        parser.add_argument("--status", choices=WebhookLog.Status.values, help="failed, unless --id is given")
        parser.add_argument("--provider", choices=WebhookLog.Provider.values)
        parser.add_argument("--event-type", default="", help="as the provider names it: finished, order.status")
        parser.add_argument("--external-id", default="", help="of a payment or purchase")
        parser.add_argument("--search", default="", help="what the admin's search finds: an order, an address, any id")
        parser.add_argument(
            "--since", type=moment, metavar="TIME", help="received at or after: 2026-03-01, 2026-03-01T12:00"
        )
        parser.add_argument(
            "--until", type=moment, metavar="TIME", help="received before; UTC unless it says otherwise"
        )

    def handle(self, *, dry_run: bool, **options: Any) -> None:
        wanted = Chosen(
            ids=options["id"],
            status=options["status"] or ("" if options["id"] else WebhookLog.Status.FAILED),
            provider=options["provider"] or "",
            event_type=options["event_type"],
            external_id=options["external_id"],
            search=options["search"],
            since=options["since"],
            until=options["until"],
        )
        count = chosen(wanted).count()
        foreseen = list(self._foresee(wanted, count)) if dry_run else []
        replayed, left = (0, {}) if dry_run else self._replay(wanted, count)
        if options["json"]:
            counts = {"dry_run": dry_run, "chosen": count, "replayed": replayed, "left": left}
            self.write_json({**counts, "foreseen": foreseen})
        else:
            for each in foreseen:
                self.stdout.write(f"{each['id']} {each['webhook']}: {each['verdict']}. {each['text']}")
            self.stdout.write(f"{count} webhooks chosen, {replayed} handed to their handlers.")
        if left:
            raise CommandError(" ".join(f"{number} left: {reason}" for reason, number in left.items()))

    def _foresee(self, wanted: Chosen, count: int) -> Iterator[dict[str, Any]]:
        with self.progress(count, "webhooks") as step:
            for log in chosen(wanted).order_by("pk").iterator(chunk_size=50):
                verdict, text = patiently(log)
                yield {"id": log.pk, "webhook": str(log), "verdict": verdict, "text": text}
                step(1)

    def _replay(self, wanted: Chosen, count: int) -> tuple[int, dict[str, int]]:
        left: dict[str, int] = {}
        with self.progress(count, "webhooks") as step:
            for objection in replay_each(wanted, actor=whoami()):
                step(1)
                if objection:
                    left[objection] = left.get(objection, 0) + 1
        return count - sum(left.values()), left


def patiently(log: WebhookLog) -> tuple[str, str]:
    """Foresee once the provider's budget has room for the question."""
    while True:
        try:
            return foreseen_or_left(log)
        except OverBudget as err:
            time.sleep(err.seconds)


def moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError("has to be a date or a time like 2026-03-01T12:00") from None

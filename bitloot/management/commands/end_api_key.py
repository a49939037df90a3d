from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from bitloot.core import logs
from bitloot.core.decisions import DecisionRefused
from bitloot.management.operator import OperatorCommand, UsageError
from bitloot.ops.operator import whoami
from bitloot.partners import services
from bitloot.partners.models import ApiKey


class Command(OperatorCommand):
    help = "End an API key for good: requests with it are refused, its webhooks stop. Its orders are still delivered."
    exit_codes = {0: "ended", 1: "it had ended before"}
    has_json = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("prefix", help="how it begins: blk_5e0a3c39")
        parser.add_argument("--reason", required=True)

    def handle(self, *, prefix: str, reason: str, **options: Any) -> None:
        key = ApiKey.objects.filter(prefix=prefix.removeprefix("blk_")[:8]).first()
        if key is None:
            raise UsageError(f"There is no API key that begins with blk_{prefix.removeprefix('blk_')[:8]}.")
        try:
            with logs.about(staff=whoami()):
                services.end_key(key, actor=whoami(), reason=reason)
        except DecisionRefused as err:
            raise CommandError(f"{key}: {err}") from err
        if options["json"]:
            self.write_json({"id": key.pk, "name": key.name, "ended": True})
        else:
            self.stdout.write(f"{key}: {services.END_KEY.done}")

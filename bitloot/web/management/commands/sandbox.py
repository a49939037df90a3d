import argparse
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from bitloot.sandbox.config import DELIVERY_MODES, SCRIPT_NAMES, Config
from bitloot.sandbox.server import run


class Command(BaseCommand):
    help = "Run stand-ins for Kinguin and NOWPayments, with a page to steer them."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        default = {name: field.default for name, field in Config.__dataclass_fields__.items()}
        parser.add_argument("--host", default=default["host"])
        parser.add_argument("--port", type=int, default=default["port"])
        parser.add_argument(
            "--mail-port", type=int, default=default["mail_port"], help="also be a mail server, at this port"
        )
        parser.add_argument(
            "--db", default=default["db"], help="the file that holds everything (delete it to start anew)"
        )
        parser.add_argument("--store-url", default=default["store_url"], help="where webhooks go")
        parser.add_argument("--script", choices=SCRIPT_NAMES, default=default["script"], help="what goes wrong")
        parser.add_argument("--seed", type=int, default=default["seed"], help="the same seed fails the same calls")
        parser.add_argument("--delay-ms", type=int, default=default["delay_ms"], help="added to every supplier call")
        parser.add_argument("--deliver", choices=DELIVERY_MODES, default=default["deliver"])
        parser.add_argument("--deliver-after-ms", type=int, default=default["deliver_after_ms"])
        parser.add_argument("--step-ms", type=int, default=default["step_ms"], help="between a payment's statuses")
        parser.add_argument("--retry-ms", type=int, default=default["retry_ms"], help="before a webhook's next try")
        parser.add_argument(
            "--enforce-external-id", action=argparse.BooleanOptionalAction, default=default["enforce_external_id"]
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError(
                "The sandbox invents money and keys, so it runs only with DEBUG on. Set DEBUG=1 and retry."
            )
        names = set(Config.__dataclass_fields__) & set(options)
        config = Config(**{name: options[name] for name in names}, **_secrets())
        self.stdout.write(f"Sandbox: http://{config.host}:{config.port}/ (its state is in {config.db})")
        self.stdout.flush()
        try:
            run(config)
        except RuntimeError as err:
            raise CommandError(f"The sandbox did not start. {err}") from err


def _secrets() -> dict[str, Any]:
    return {
        "kinguin_api_key": settings.KINGUIN_API_KEY,
        "kinguin_client_id": settings.KINGUIN_CLIENT_ID,
        "kinguin_client_secret": settings.KINGUIN_CLIENT_SECRET,
        "kinguin_webhook_secret": settings.KINGUIN_WEBHOOK_SECRET[0],
        "nowpayments_api_key": settings.NOWPAYMENTS_API_KEY,
        "nowpayments_ipn_secret": settings.NOWPAYMENTS_IPN_SECRET[0],
    }

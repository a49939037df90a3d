from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from bitloot.core import logs
from bitloot.core.clients import Scope
from bitloot.management.commands.replay_webhooks import moment
from bitloot.management.operator import OperatorCommand, UsageError, named
from bitloot.ops.operator import whoami
from bitloot.partners import services
from bitloot.partners.events import Event
from bitloot.partners.models import ApiKey, Endpoint

USUAL = [Scope.PRODUCTS, Scope.PLACE, Scope.READ]


class Command(OperatorCommand):
    help = (
        "Make an API key for a shop built on the API, with an endpoint for its webhooks if one is named. It is printed"
        " once and kept nowhere; if it is lost, “New secret” in the admin makes another that opens the same orders."
    )
    exit_codes = {0: "made", 1: "not made; the text says why"}
    has_json = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="whose it is, and for what")
        parser.add_argument("--email", required=True, help="who hears of it when its webhooks stop")
        parser.add_argument(
            "--scope", action="append", choices=Scope.values, help=f"may be repeated; without it: {', '.join(USUAL)}"
        )
        parser.add_argument("--requests-per-minute", type=int, default=600)
        parser.add_argument("--unpaid-per-hour", type=int, default=100, help="unpaid orders of the last hour")
        parser.add_argument("--expires", type=moment, metavar="TIME", help="2027-03-01; without it: never")
        parser.add_argument("--webhook", default="", metavar="URL", help="where its events go")
        parser.add_argument("--event", action="append", choices=Event.values, help="may be repeated; without it: all")

    def handle(self, **options: Any) -> None:
        _check(**{name: options[name] for name in ("expires", "webhook", "event")})
        try:
            with logs.about(staff=whoami()), transaction.atomic():
                key, text = services.create_key(
                    name=options["name"],
                    email=options["email"],
                    scopes=options["scope"] or USUAL,
                    requests_per_minute=options["requests_per_minute"],
                    unpaid_per_hour=options["unpaid_per_hour"],
                    expires_at=options["expires"],
                )
                endpoint = self._endpoint(key, options["webhook"], options["event"])
        except ValidationError as err:
            raise UsageError(named(err)) from err
        self._print(key, str(text), endpoint, options["json"])

    def _endpoint(self, key: ApiKey, url: str, events: list[str] | None) -> Endpoint | None:
        return services.add_endpoint(key, url=url, events=events or Event.values) if url else None

    def _print(self, key: ApiKey, text: str, endpoint: Endpoint | None, as_json: bool) -> None:
        secret = services.secret_of(endpoint) if endpoint else None
        if as_json:
            webhook = endpoint and {"id": endpoint.pk, "url": endpoint.url, "secret": secret, "events": endpoint.events}
            self.write_json(
                {"id": key.pk, "name": key.name, "api_key": text, "scopes": key.scopes, "expires_at": key.expires_at,
                 "webhook": webhook}
            )  # fmt: skip
            return
        self.stdout.write(f"{key.name} may: {', '.join(key.scopes)}.\nAPI key: {text}")
        if secret:
            self.stdout.write(f"Webhook secret: {secret}")


def _check(*, expires: datetime | None, webhook: str, event: list[str] | None) -> None:
    if expires is not None and expires <= timezone.now():
        raise UsageError("--expires has to be a time to come.")
    if event and not webhook:
        raise UsageError("--event needs --webhook: where do the events go?")
    try:
        if webhook:
            services.validate_url(webhook)
    except ValidationError as err:
        raise UsageError(f"--webhook: {' '.join(err.messages)}") from err

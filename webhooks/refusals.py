"""Webhooks that nobody signed: counted in Redis for all processes where there is one, and in no row."""

import logging

from django.http import HttpRequest

from bitloot.core.api import client_address
from bitloot.core.limits import Refusals, client_bucket, count_here
from orders.alerts import WEBHOOKS, raise_alert
from orders.choices import AlertKind
from webhooks.models import WebhookLog

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
TOO_MANY = 300
TELL_STAFF_AT = 10
PROVIDERS = ("nowpayments", "kinguin", "mail")
_of = {name: Refusals(f"webhooks:{name}", TOO_MANY, WINDOW_SECONDS, count_here) for name in PROVIDERS}
# Without a lock: adding and popping are one step each, and the same provider twice is still one alert.
_to_report: set[str] = set()


def are_too_many(request: HttpRequest, provider: str) -> bool:
    """Return whether this address was refused too often in the last minute; then nothing of it is verified.

    The provider's own webhooks come from other addresses. If one is refused here all the same, the provider sends it
    again, and payments are also read without webhooks.
    """
    return _of[provider].are_too_many(client_bucket(client_address(request)))


def add(request: HttpRequest, provider: str) -> bool:
    """Count one more unsigned webhook of this address; return whether they are too many now.

    At the tenth a note is left for an alert: perhaps the secret was changed over there.
    """
    if _of[provider].add(client_bucket(client_address(request))) == TELL_STAFF_AT:
        logger.warning("many webhooks of %s are refused; is the secret in its dashboard ours?", provider)
        _to_report.add(provider)  # nobody unsigned gets to write: the watchdog of this process does
    return are_too_many(request, provider)


def report() -> None:
    """Tell staff of the refusals that requests to this process left a note of."""
    while _to_report:
        provider = WebhookLog.Provider(_to_report.pop())
        raise_alert(
            AlertKind.WEBHOOKS_REFUSED,
            WEBHOOKS,
            f"Many webhooks of {provider.label} came without the right signature. If a secret was changed over there,"
            " set both here; otherwise somebody may be forging them. Orders are safe: payments are also read without"
            " webhooks.",
        )

"""Webhooks that nobody signed: counted in Redis for all processes where there is one, and in no row."""

import logging

from django.conf import settings
from django.core.cache import caches
from django.http import HttpRequest

from bitloot.core.api import client_address
from bitloot.core.limits import client_bucket, count_here
from orders.alerts import WEBHOOKS, raise_alert
from orders.choices import AlertKind
from webhooks.models import WebhookLog

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
TOO_MANY = 300
TELL_STAFF_AT = 10
_to_report: set[str] = set()


def is_flooding(request: HttpRequest, provider: str) -> bool:
    """Return whether this address was refused too often in the last minute.

    What this process remembers, so that a webhook costs no way to Redis. A provider behind the same address loses
    nothing: bytes that are signed just as they come are accepted all the same, the others come again.
    """
    return _name(request, provider) in caches["local"]


def status_for(request: HttpRequest, provider: str) -> int:
    """Count one more unsigned webhook of this address; return 401, or 429 once there are too many in a minute.

    Signed ones are never counted. At the tenth a note is left for an alert: perhaps the secret was changed over there.
    """
    if is_flooding(request, provider):
        return 429
    name = _name(request, provider)
    counted = count_here(f"count:{name}", seconds=WINDOW_SECONDS)
    if counted == TELL_STAFF_AT:
        logger.warning("many webhooks of %s are refused; is the secret in its dashboard ours?", provider)
        _to_report.add(provider)  # nobody unsigned gets to write: the watchdog of this process does
    if not settings.THROTTLE_SCALE or counted <= TOO_MANY * settings.THROTTLE_SCALE:
        return 401
    caches["local"].set(name, True, WINDOW_SECONDS)
    return 429


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


def _name(request: HttpRequest, provider: str) -> str:
    return f"refused:{provider}:{client_bucket(client_address(request))}"

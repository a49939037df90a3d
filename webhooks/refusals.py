"""Webhooks that nobody signed: counted in Redis for all processes, and never in the database."""

import logging

from django.conf import settings
from django.core.cache import caches
from django.http import HttpRequest

from bitloot.core import wakeup
from bitloot.core.api import client_address
from bitloot.core.limits import client_bucket, count_here

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
TOO_MANY = 300
TELL_STAFF_AT = 10


def is_flooding(request: HttpRequest, provider: str) -> bool:
    """Return whether this address was refused too often in the last minute.

    What this process remembers, so that a webhook costs no way to Redis. A provider behind the same address loses
    nothing: bytes that are signed just as they come are accepted all the same, the others come again.
    """
    return _name(request, provider) in caches["local"]


def status_for(request: HttpRequest, provider: str) -> int:
    """Count one more unsigned webhook of this address; return 401, or 429 once there are too many in a minute.

    Signed ones are never counted. At the tenth a task is sent for an alert: perhaps the secret was changed over there.
    """
    if is_flooding(request, provider):
        return 429
    name = _name(request, provider)
    counted = count_here(f"count:{name}", seconds=WINDOW_SECONDS)
    if counted == TELL_STAFF_AT:
        logger.warning("many webhooks of %s are refused; is the secret in its dashboard ours?", provider)
        # By message, because nobody unsigned gets to write; without a broker (embedded mode) the log has to do.
        wakeup.notify_now("refusals")
    if not settings.THROTTLE_SCALE or counted <= TOO_MANY * settings.THROTTLE_SCALE:
        return 401
    caches["local"].set(name, True, WINDOW_SECONDS)
    return 429


def _name(request: HttpRequest, provider: str) -> str:
    return f"refused:{provider}:{client_bucket(client_address(request))}"

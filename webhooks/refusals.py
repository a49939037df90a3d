"""Webhooks that nobody signed: counted in this process, without database or broker, until there are many."""

import logging

from django.conf import settings
from django.core.cache import caches
from django.http import HttpRequest

from bitloot.core import wakeup
from bitloot.core.api import client_address
from bitloot.core.limits import client_bucket

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
TOO_MANY = 300
TELL_STAFF_AT = 10


def status_for(request: HttpRequest, provider: str) -> int:
    """Count one more unsigned webhook of this address; return 401, or 429 once there are too many in a minute.

    Signed ones are never counted. At the tenth a task is sent for an alert: perhaps the secret was changed over there.
    """
    count = _count(f"{provider}:{client_bucket(client_address(request))}")
    if count == TELL_STAFF_AT:
        logger.warning("many webhooks of %s are refused; is the secret in its dashboard ours?", provider)
        # By message, because nobody unsigned gets to write; without a broker (embedded mode) the log has to do.
        wakeup.notify_now("refusals")
    flooded = settings.THROTTLE_SCALE and count > TOO_MANY * settings.THROTTLE_SCALE
    return 429 if flooded else 401


def _count(name: str) -> int:
    counters = caches["local"]
    counters.add(name, 0, WINDOW_SECONDS)
    try:
        return counters.incr(name)
    except ValueError:
        return 1  # the window ended in between

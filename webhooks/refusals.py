"""Webhooks that nobody signed: counted in this process, without the database, until there are many."""

import logging

from django.conf import settings
from django.core.cache import caches
from django.db import DatabaseError
from django.http import HttpRequest

from bitloot.core.api import client_address
from orders.alerts import raise_alert

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
TOO_MANY = 300
TELL_STAFF_AT = 10


def status_for(request: HttpRequest, provider: str) -> int:
    """Count one more unsigned webhook of this address; return 401, or 429 once there are too many in a minute.

    Signed ones are never counted. At the tenth staff get an alert: perhaps the secret was changed over there.
    """
    count = _count(f"{provider}:{client_address(request)}")
    if count == TELL_STAFF_AT:
        logger.warning("many webhooks of %s are refused; is the secret in its dashboard ours?", provider)
        _tell_staff(provider)
    flooded = settings.THROTTLE_SCALE and count > TOO_MANY * settings.THROTTLE_SCALE
    return 429 if flooded else 401


def _count(name: str) -> int:
    counters = caches["local"]
    counters.add(name, 0, WINDOW_SECONDS)
    try:
        return counters.incr(name)
    except ValueError:
        return 1  # the window ended in between


def _tell_staff(provider: str) -> None:
    # Once a minute, from however many addresses a flood comes: nobody unsigned gets to write more than that.
    if not caches["local"].add(f"told:{provider}", True, WINDOW_SECONDS):
        return
    try:
        raise_alert(
            "webhooks_refused",
            "webhooks",
            "Many webhooks came without the right signature. If a secret was changed at a provider, set both here;"
            " otherwise somebody is trying. Orders are safe: payments are also read without webhooks.",
        )
    except DatabaseError as err:
        logger.error("the alert about refused webhooks could not be stored: %s", type(err).__name__)

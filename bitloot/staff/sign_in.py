"""Who may try a password, the second factor, and the record of every try."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django_otp import devices_for_user, user_has_device
from django_otp.models import Device
from django_otp.plugins.otp_totp.models import TOTPDevice

from bitloot.core.api import client_network
from bitloot.staff.models import SignIn
from orders.alerts import STAFF_SIGN_IN, raise_alert
from orders.choices import AlertKind

logger = logging.getLogger(__name__)

WINDOW = timedelta(minutes=15)
# A name from one network; a name from everywhere, so that many addresses do not help; a network with many names.
TRIES_OF_NAME_AND_NETWORK = 10
TRIES_OF_NAME = 50
TRIES_OF_NETWORK = 50


class TooManyTries(Exception):
    """This name or network has failed too often lately; no password was checked."""


@contextmanager
def attempt(request: Any, *, name: str, way: str) -> Iterator[None]:
    """Let one try happen, and record its outcome: it is good unless the block raises. Raises TooManyTries.

    Must not run in a transaction: other tries have to see this one at once.
    """
    row = SignIn.objects.create(name=name.strip().lower()[:150], network=client_network(request), way=way)
    # Written before it is counted: of any number of parallel tries, no more than the limit find fewer rows before
    # theirs. The database counts, so there is nothing to fall back to: without it no password could be checked either.
    if _is_over_limit(row):
        _record(row, SignIn.Outcome.LOCKED)
        message = "Sign-ins were refused after too many wrong passwords. Look at the list of sign-ins: which name?"
        raise_alert(AlertKind.STAFF_LOCKED, STAFF_SIGN_IN, message)
        raise TooManyTries
    try:
        yield
    except BaseException:
        _record(row, SignIn.Outcome.FAILED)
        raise
    _record(row, SignIn.Outcome.GOOD)


def passes_second_factor(user: Any, code: str) -> bool:
    """Check the one-time or recovery code where one is demanded, and remember the device for the session."""
    if not (settings.STAFF_OTP_REQUIRED or user_has_device(user)):
        return True
    user.otp_device = _matching_device(user, code.replace(" ", ""))
    return user.otp_device is not None


def _matching_device(user: Any, code: str) -> Device | None:
    is_one_time = len(code) == 6 and code.isdigit()
    with transaction.atomic():
        for device in devices_for_user(user, for_verify=True):
            # Each code is tried on its own kind only: a wrong one slows its device down, and no other.
            if isinstance(device, TOTPDevice) == is_one_time and device.verify_token(code):
                return device
    return None


def _is_over_limit(row: SignIn) -> bool:
    recent = SignIn.objects.filter(
        outcome__in=(SignIn.Outcome.TRIED, SignIn.Outcome.FAILED), at__gt=Now() - WINDOW
    ).order_by()
    of_name, of_network = recent.filter(name=row.name), recent.filter(network=row.network)
    return (
        of_name.filter(network=row.network).count() > TRIES_OF_NAME_AND_NETWORK
        or of_name.count() > TRIES_OF_NAME
        or of_network.count() > TRIES_OF_NETWORK
    )


def _record(row: SignIn, outcome: SignIn.Outcome) -> None:
    SignIn.objects.filter(pk=row.pk).update(outcome=outcome)
    level = logging.INFO if outcome == SignIn.Outcome.GOOD else logging.WARNING
    # Not the name: people type their password there. The row has it.
    logger.log(level, "staff sign-in %s (%s) from %s: %s", row.pk, row.way, row.network, outcome.value)

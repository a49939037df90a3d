"""Who may try a password, the second factor, and the record of every try."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django_otp import devices_for_user, user_has_device
from django_otp.models import Device
from django_otp.plugins.otp_totp.models import TOTPDevice

from bitloot.core.api import client_network
from bitloot.staff.models import SignIn
from bitloot.staff.notices import notify
from orders.alerts import STAFF_SIGN_IN, raise_alert
from orders.choices import AlertKind

logger = logging.getLogger(__name__)

WINDOW = timedelta(minutes=15)
# A name from one network, and a network with many names, are refused for the rest of the window.
TRIES_OF_NAME_AND_NETWORK = 10
TRIES_OF_NETWORK = 50
# A name from everywhere, so that many addresses do not help: then a pause after each failure, which doubles. Nothing is
# locked, or a stranger could lock it; and networks where the name has signed in well lately do not wait for strangers.
TRIES_WITHOUT_PAUSE = 10
LONGEST_PAUSE = 60
KNOWN_FOR = timedelta(days=90)


class TooManyTries(Exception):
    """This name or network has failed too often lately; no password was checked. The message says how long to wait."""

    def __init__(self, retry_after: int) -> None:
        wait = "a quarter of an hour" if retry_after == WINDOW.total_seconds() else f"{retry_after} seconds"
        super().__init__(f"Wait {wait}, then try again.")
        self.retry_after = retry_after


@contextmanager
def attempt(request: Any, *, name: str, way: str) -> Iterator[None]:
    """Let one try happen, and record its outcome: it is good unless the block raises. Raises TooManyTries.

    Must not run in a transaction: other tries have to see this one at once.
    """
    row = SignIn.objects.create(name=name.strip().lower()[:150], network=client_network(request), way=way)
    # Written before it is counted: of any number of parallel tries, no more than the limit find fewer rows before
    # theirs. The database counts, so there is nothing to fall back to: without it no password could be checked either.
    if wait := _wait_for(row):
        _record(row, SignIn.Outcome.LOCKED)
        message = "Sign-ins were refused after too many wrong passwords. Look at the list of sign-ins: which name?"
        raise_alert(AlertKind.STAFF_LOCKED, STAFF_SIGN_IN, message)
        raise TooManyTries(wait)
    try:
        yield
    except BaseException:
        _record(row, SignIn.Outcome.FAILED)
        raise
    # In this order: recorded as good, this very sign-in would make the network a known one.
    _tell_of_new_network(row)
    _record(row, SignIn.Outcome.GOOD)


def passes_second_factor(user: Any, code: str) -> bool:
    """Check the one-time or recovery code where one is demanded, and remember the device for the session."""
    if not (settings.STAFF_OTP_REQUIRED or user_has_device(user)):
        return True
    # Recovery codes are typed from paper: phones make the first letter a capital one.
    user.otp_device = _matching_device(user, code.replace(" ", "").lower())
    return user.otp_device is not None


def _matching_device(user: Any, code: str) -> Device | None:
    is_one_time = len(code) == 6 and code.isdigit()
    # `for_verify` locks the devices: of two requests with the same code, only one gets in.
    with transaction.atomic():
        for device in devices_for_user(user, for_verify=True):
            # Each code is tried on its own kind only: a wrong one slows its device down, and no other.
            if isinstance(device, TOTPDevice) == is_one_time and device.verify_token(code):
                return device
    return None


def _wait_for(row: SignIn) -> int:
    """Return how many seconds to wait before a password is checked; 0 if it may be checked now."""
    # Refused tries do not count, or a stranger who keeps trying would keep the owner out for good.
    recent = SignIn.objects.filter(
        outcome__in=(SignIn.Outcome.TRIED, SignIn.Outcome.FAILED), at__gt=Now() - WINDOW
    ).order_by()
    of_name, of_network = recent.filter(name=row.name), recent.filter(network=row.network)
    if of_name.filter(network=row.network).count() > TRIES_OF_NAME_AND_NETWORK or of_network.count() > TRIES_OF_NETWORK:
        return int(WINDOW.total_seconds())
    return 0 if _is_known(row) else _pause_after(of_name.exclude(pk=row.pk))


def _pause_after(tries: QuerySet[SignIn]) -> int:
    """Return the seconds of the pause if it still runs. It counts from the last try whose password was checked."""
    over = tries.count() - TRIES_WITHOUT_PAUSE
    if over < 1:
        return 0
    pause = min(2 ** min(over, 10), LONGEST_PAUSE)
    return pause if tries.filter(at__gt=Now() - timedelta(seconds=pause)).exists() else 0


def _is_known(row: SignIn) -> bool:
    """Whether this name has signed in well from this network lately."""
    return _good(row).filter(network=row.network).exists()


def _good(row: SignIn) -> QuerySet[SignIn]:
    return SignIn.objects.filter(name=row.name, outcome=SignIn.Outcome.GOOD, at__gt=Now() - KNOWN_FOR)


def _tell_of_new_network(row: SignIn) -> None:
    """Mail the account's owner, but not about its first sign-in, of which they know."""
    if _is_known(row) or not _good(row).exists():
        return
    for user in get_user_model().objects.filter(username__iexact=row.name).exclude(email=""):
        sentence = f"The account {user.get_username()} has signed in from a network that is new to it, {row.network}."
        notify(user, f"{sentence} If that was not you, tell an administrator at once and change the password.")


def _record(row: SignIn, outcome: SignIn.Outcome) -> None:
    SignIn.objects.filter(pk=row.pk).update(outcome=outcome)
    level = logging.INFO if outcome == SignIn.Outcome.GOOD else logging.WARNING
    # Not the name: people type their password there. The row has it.
    logger.log(level, "staff sign-in %s (%s) from %s: %s", row.pk, row.way, row.network, outcome.value)

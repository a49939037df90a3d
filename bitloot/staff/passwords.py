import logging
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django_pwned.api import PwnedRequestError, get_pwned_count
from knox.models import AuthToken

from bitloot.staff.audit import record
from bitloot.staff.notices import notify

logger = logging.getLogger(__name__)

LEAST_SCORE = 3  # of 4: about a hundred million guesses and more
READ = 72  # characters; the library reads no more
PATIENCE = 2.0  # seconds


class RefusesGuessable:
    """For AUTH_PASSWORD_VALIDATORS: refuses common passwords, names and words also put together or spelled otherwise.

    Django's list has 190 passwords of twelve characters or more, so it hardly judges what the length lets pass.
    """

    def validate(self, password: str, user: Any = None) -> None:
        # Here, because its lists take 15 MiB, and most processes never set a password.
        from zxcvbn import zxcvbn

        about = [settings.STORE_NAME, *(() if user is None else (user.get_username(), user.email))]
        if zxcvbn(password[:READ], user_inputs=about)["score"] < LEAST_SCORE:
            raise ValidationError(
                "This password is easy to guess: lists of common passwords, names and words lead to it. Use four or"
                " more words that have nothing to do with each other, or have a password manager make one.",
                code="password_guessable",
            )

    def get_help_text(self) -> str:
        return "Neither a common password nor one made of names, dates and a few words."


class RefusesBreached:
    """For AUTH_PASSWORD_VALIDATORS: refuses passwords that Have I Been Pwned knows from data breaches.

    It gets the first five of the forty digits of the password's SHA-1 and returns all that it knows with these. While
    it is down only the other validators judge, so that nobody is kept from setting a password.
    """

    def validate(self, password: str, user: Any = None) -> None:
        try:
            is_breached = get_pwned_count(password, PATIENCE) > 0
        except PwnedRequestError:
            # The error's text contains the digits.
            logger.warning("api.pwnedpasswords.com is down; a new password was checked against our own lists only")
            return
        if is_breached:
            raise ValidationError(
                "This password has appeared in a data breach, so attackers will try it. Choose a different one here,"
                " and change it everywhere else you use it.",
                code="password_breached",
            )

    def get_help_text(self) -> str:
        return "Not a password that has appeared in a data breach."


class EndsTokens:
    """For AUTH_PASSWORD_VALIDATORS: Django tells these of every change, from whichever form or command it comes."""

    def validate(self, password: str, user: Any = None) -> None:
        """Accept every password; the other validators judge."""

    def password_changed(self, password: str, user: Any = None) -> None:
        if user is not None:
            AuthToken.objects.filter(user=user).delete()
            record(user, "password set")
            notify(user, f"Your account {user.get_username()} has a new password.")

    def get_help_text(self) -> str:
        return "A new password ends every token of the staff API."

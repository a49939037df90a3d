from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from knox.models import AuthToken

from bitloot.staff.audit import record
from bitloot.staff.notices import notify

LEAST_SCORE = 3  # of 4: about a hundred million guesses and more
READ = 72  # characters; the library reads no more


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

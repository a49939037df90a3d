from typing import Any

from knox.models import AuthToken

from bitloot.staff.audit import record
from bitloot.staff.notices import notify


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

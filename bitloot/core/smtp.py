"""Connections to the mail server that stay open between mails: to dial, encrypt and log in costs more than a mail."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from smtplib import SMTPException
from typing import Any

from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.smtp import EmailBackend

from bitloot.core import turns
from bitloot.core.sockets import is_quiet

# Servers hang up on those who are silent for minutes, and some after a hundred mails.
REST_SECONDS = 10.0
MAILS = 100
_resting: list["Line"] = []
_lock = threading.Lock()


class Line(EmailBackend):
    """One connection; it dials when a mail is there, and anew after MAILS of them."""

    mails = 0
    used_at = 0.0

    def open(self) -> bool | None:
        if self.connection is not None and self.mails >= MAILS:
            self.hang_up()
        opened: bool | None = super().open()
        if opened:
            self.mails = 0
        return opened

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        self.open()  # Django would close what it opened here
        sent: int = super().send_messages(email_messages)
        self.mails += sent
        self.used_at = time.monotonic()
        return sent

    def hang_up(self) -> None:
        """Say goodbye, to a server that may not answer."""
        with turns.waiting(), suppress(SMTPException, OSError):
            self.close()

    def has_rested_too_long(self) -> bool:
        return time.monotonic() - self.used_at > REST_SECONDS

    def is_up(self) -> bool:
        connection: Any = self.connection
        try:
            return connection is not None and is_quiet(connection.sock.fileno())
        except (AttributeError, OSError, ValueError):
            return False  # it is closed on our side


def take() -> Line | None:
    """Return a line for this thread alone, to be given to `leave`; None where Django does not send by SMTP."""
    end_old()
    while (line := _pop()) is not None:
        if line.is_up():
            return line
        line.hang_up()
    return Line() if isinstance(get_connection(), EmailBackend) else None


def leave(line: Line) -> None:
    """Let others use this line; one that nobody uses is ended by whoever wants a line next."""
    if line.connection is not None:
        with _lock:
            _resting.append(line)


def end_old() -> None:
    """Hang up the lines that have rested too long."""
    with _lock:
        old = [line for line in _resting if line.has_rested_too_long()]
        _resting[:] = [line for line in _resting if line not in old]
    for line in old:
        line.hang_up()


def _pop() -> Line | None:
    with _lock:
        return _resting.pop() if _resting else None

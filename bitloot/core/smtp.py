"""Mail to names such as 山田@example.jp over SMTP, which Django 5.2 writes in a form that leads to another mailbox."""

from collections.abc import Sequence
from copy import copy
from email import message_from_bytes, policy
from email.message import EmailMessage as Message
from smtplib import SMTP, SMTPException
from typing import cast

from django.core.mail import EmailMessage
from django.core.mail.backends import smtp
from django.utils.encoding import punycode


class NoSMTPUTF8(SMTPException):
    """The server does not take such names: it does not announce SMTPUTF8 (RFC 6531)."""


class EmailBackend(smtp.EmailBackend):
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        lettered = [message for message in email_messages if not all(map(has_plain_name, message.to))]
        is_mine = self.open()
        try:
            sent = super().send_messages([message for message in email_messages if message not in lettered])
            for message in lettered:
                self._send_as_utf8(message)
        finally:
            if is_mine:
                self.close()
        return sent + len(lettered)

    def takes_letters(self) -> bool:
        """Return whether the server takes such names. The connection is open."""
        server = cast(SMTP, self.connection)
        server.ehlo_or_helo_if_needed()
        return server.has_extn("smtputf8")

    def _send_as_utf8(self, message: EmailMessage) -> None:
        if not self.takes_letters():
            raise NoSMTPUTF8
        recipients = [_with_ascii_host(recipient) for recipient in message.to]
        written = _written(message, recipients)
        sender = written["From"].addresses[0].addr_spec
        # The standard library asks for SMTPUTF8 itself as soon as one address has letters.
        cast(SMTP, self.connection).send_message(written, sender, recipients)


def has_plain_name(address: str) -> bool:
    """Return whether the part before the @ is written in ASCII, as every mail server takes it."""
    return address.rpartition("@")[0].isascii()


def _written(message: EmailMessage, recipients: list[str]) -> Message:
    without = copy(message)
    without.to = []
    # Read again under a policy that writes UTF-8 into the headers: Django's own message cannot.
    written = message_from_bytes(without.message().as_bytes(), policy=policy.SMTPUTF8)
    written["To"] = ", ".join(recipients)
    return written


def _with_ascii_host(address: str) -> str:
    name, at, host = address.rpartition("@")
    return f"{name}{at}{punycode(host)}"

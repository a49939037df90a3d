"""A mail server that takes every mail and keeps the newest in memory, for a shop that is tried out or measured."""

from collections import deque
from email import message_from_bytes, policy
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

KEPT = 100
MAX_BYTES = 1024 * 1024


class Mailbox:
    def __init__(self) -> None:
        self.taken = 0
        self._newest: deque[Envelope] = deque(maxlen=KEPT)
        self._server: Controller | None = None

    def listen(self, host: str, port: int) -> None:
        """Take mails at this port, without TLS and login; raises OSError if it is not free."""
        self._server = Controller(self, hostname=host, port=port, data_size_limit=MAX_BYTES)
        self._server.start()

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self._newest.append(envelope)
        self.taken += 1
        return "250 OK"

    def newest(self) -> list[dict[str, Any]]:
        """Return the mails kept, the newest first."""
        return [_shown(envelope) for envelope in reversed(self._newest)]


def _shown(envelope: Envelope) -> dict[str, Any]:
    content = envelope.content
    message = message_from_bytes(content if isinstance(content, bytes) else b"", policy=policy.default)
    body = message.get_body(("plain",))
    return {
        "to": envelope.rcpt_tos,
        "subject": message["subject"],
        "text": body.get_content().replace("\r\n", "\n") if body is not None else "",
    }

"""Mails to a member of staff about their own account."""

from typing import Any

from bitloot.core import wakeup
from orders.models import Email


def notify(user: Any, sentence: str) -> None:
    """Owe the account's owner a mail with this sentence, if we know their address."""
    if user.email:
        Email.objects.create(kind=Email.Kind.STAFF_NOTICE, to=user.email, reason=sentence[:300])
        wakeup.notify("orders")

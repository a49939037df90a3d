"""Mails are rendered when they are sent, from the row and the order: no link and no token rests in the database."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from email.utils import parseaddr
from smtplib import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPException,
    SMTPHeloError,
    SMTPRecipientsRefused,
    SMTPResponseException,
)
from typing import Any

from anymail.exceptions import AnymailError, AnymailRecipientsRefused
from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction

from bitloot.core.clock import GIVE_UP_AFTER
from bitloot.core.database import leave_connection
from bitloot.core.faults import failpoint
from bitloot.core.signing import keyed_digest
from bitloot.core.smtp import NoSMTPUTF8, has_plain_name
from orders import mail_letters, notifications
from orders.access import order_link
from orders.alerts import MAIL_SERVER, STAFF_MAIL, close_alert, raise_alert
from orders.choices import AlertKind
from orders.codes import code_to_mail, digits_of
from orders.erasure import is_erased
from orders.mailboxes import NO_LETTERS, deliverable
from orders.models import Email, Order, OrderItem

logger = logging.getLogger(__name__)

# A day of backoff takes about this many tries.
MAX_ATTEMPTS = 10 + GIVE_UP_AFTER // 900
LISTED = 50  # orders in one mail
# Said before a mail was offered: about us, not about the mail.
_ABOUT_US = (SMTPConnectError, SMTPHeloError, SMTPAuthenticationError)
_KEY_REFUSED = (401, 403)
# The errors of a mail server, of a provider's API, and of the way there.
NOT_SENT = (SMTPException, AnymailError, OSError)


@contextmanager
def sending(mails: Sequence[Email]) -> Iterator[Callable[[Email], None]]:
    """Yield what sends each of these claimed mails, over one connection; the items of their orders are read at once."""
    orders = {mail.order_id for mail in mails if mail.order_id is not None}
    items: dict[uuid.UUID | None, list[OrderItem]] = defaultdict(list)
    for item in OrderItem.objects.filter(order__in=orders).select_related("order", "product"):
        items[item.order_id].append(item)
    # It dials with the first mail that was rendered, and again after an error.
    with closing(get_connection()) as server:
        yield lambda mail: _send(mail, items[mail.order_id], server)


def send(mail: Email) -> None:
    """Send one claimed mail, and record the outcome; a refused address goes to staff."""
    with sending([mail]) as send_one:
        send_one(mail)


def _send(mail: Email, items: list[OrderItem], server: BaseEmailBackend) -> None:
    try:
        if items:
            mail.order = items[0].order
        if mail.order is not None and mail.kind not in Email.WITHOUT_LINK:
            # The address beside the link, out of one reading of the order: a mail that was owed to an address that
            # staff have corrected since must not carry the new link there.
            mail.to = mail.order.email
        secrets = _secrets(mail)
        if mail.is_overtaken or _lacks_its_code(mail, secrets):
            return mail.mark_overtaken()
        if hopeless := _why_hopeless(mail.to):
            return _give_up(mail, hopeless)
        message = _message(mail, items, secrets)
        failpoint("mail.rendered")
        leave_connection()
        server.open()  # Django would close what it opened for one message
        message.connection = server
        message.send()
        failpoint("mail.sent")
    except NOT_SENT as err:
        with suppress(*NOT_SENT):
            server.close()  # whatever it was, the next mail gets a new connection
        _record_failure(mail, err)
    else:
        mail.mark_sent()
        _record(mail)
        if mail.attempts:
            close_alert(AlertKind.MAIL_FAILED, MAIL_SERVER, by="automatic: a mail was sent")


def _lacks_its_code(mail: Email, secrets: dict[str, object]) -> bool:
    """Whether the code that this mail is for has ended meanwhile: nobody could enter it."""
    return mail.kind == Email.Kind.ACCESS_CODE and "code" not in secrets


def _why_hopeless(address: str) -> str | None:
    if is_erased(address):
        # Some mail servers take it and send a bounce to nobody who reads it.
        return "The customer's address was erased."
    return None if settings.EMAIL_TAKES_LETTERS or has_plain_name(address) else NO_LETTERS


def _record_failure(mail: Email, err: Exception) -> None:
    """Try again later, for a day, unless the mail server refused this mail for good."""
    name = _in_words(err)
    logger.warning("mail %s of %s failed: %s", mail.pk, mail.order_id, name)
    about_us = isinstance(err, _ABOUT_US) or _status(err) in _KEY_REFUSED
    if isinstance(err, NoSMTPUTF8):
        _give_up(mail, NO_LETTERS)  # it would say the same all day
    elif _is_final(err) and not about_us:
        _give_up(mail, f"The mail server refused it for good: {name}.")
    elif mail.attempts + 1 >= MAX_ATTEMPTS:
        _give_up(mail, f"The mail server did not take it for a day: {name}.")
    else:
        _record(mail, error=name)
        mail.retry(error=name)
        # A wrong password must not fail every customer's mail: they wait, and leave once it is right.
        if about_us and _is_final(err):
            _alert_refusing_us(name)


def _alert_refusing_us(name: str) -> None:
    raise_alert(
        AlertKind.MAIL_FAILED,
        MAIL_SERVER,
        f"The mail server refuses us: {name}. Mails wait and are tried for a day. Check EMAIL_URL, and whether the"
        " mail provider blocked this account or address; the mails leave once it answers.",
    )


def _status(err: BaseException) -> int | None:
    return err.status_code if isinstance(err, AnymailError) else None


def _codes(err: BaseException) -> list[int]:
    if status := _status(err):
        return [status]
    if isinstance(err, SMTPRecipientsRefused):
        return [code for code, _ in err.recipients.values()]
    return [err.smtp_code] if isinstance(err, SMTPResponseException) else []


def _is_final(err: BaseException) -> bool:
    """Whether the server answered 5xx, whatever the command; 4xx (greylisting, a full box, a rate limit) passes.

    Of a provider's API, which mixes up who is meant, only the refusal of the reader or of our key is final.
    """
    if isinstance(err, AnymailError):
        return isinstance(err, AnymailRecipientsRefused) or _status(err) in _KEY_REFUSED
    codes = _codes(err)
    return bool(codes) and all(500 <= code < 600 for code in codes)


def _in_words(err: BaseException) -> str:
    # Never the server's text: it may hold the address.
    return " ".join([type(err).__name__, *map(str, _codes(err))])


def give_up(mail: Email) -> None:
    """End a mail that crashed its worker again and again."""
    _give_up(mail, "Sending it crashed the worker three times.")


def _give_up(mail: Email, error: str) -> None:
    _record(mail, error=error)
    # One alert for all failed mails to staff: one for each would owe them another mail, and so on without end.
    about: Email | str = STAFF_MAIL if mail.kind == Email.Kind.ALERT else mail
    with transaction.atomic():
        mail.mark_failed(error=error)
        # Staff corrected an address because it was wrong: that the farewell to it bounces is no news.
        if mail.kind == Email.Kind.ADDRESS_REPLACED:
            return
        raise_alert(
            AlertKind.MAIL_FAILED,
            about,
            f"The mail “{mail.kind}” could not be delivered. {error} Check the address with the"
            " customer and correct it on the order if it is wrong, then press “Send again” on the mail.",
            order=mail.order,
        )


def _record(mail: Email, *, error: str = "") -> None:
    """Remember of an alert's mail when that address was last reached: doctor and the first page show it."""
    if mail.kind == Email.Kind.ALERT:
        notifications.record(notifications.mail_channel(mail.to), error=error)


class _WithPicture(EmailMultiAlternatives):
    """Its picture belongs to its text: mail programs show it there instead of below, and as no attachment."""

    def message(self, *args: Any, **kwargs: Any) -> Any:
        made = super().message(*args, **kwargs)
        made.set_type("multipart/related")
        return made


def _message(mail: Email, items: list[OrderItem], secrets: dict[str, object]) -> EmailMultiAlternatives:
    letter = mail_letters.write(mail, items, **secrets)
    kind = EmailMultiAlternatives if letter.cover is None else _WithPicture
    message = kind(
        letter.subject,
        letter.text,
        settings.DEFAULT_FROM_EMAIL,
        [deliverable(mail.to)],
        reply_to=[settings.SUPPORT_EMAIL],
        headers=_headers(mail),
    )
    message.metadata = {"mail": str(mail.pk)}  # type: ignore[attr-defined]  # what orders.bounces is told again
    message.attach_alternative(letter.html, "text/html")
    if letter.cover is not None:
        message.attach(letter.cover)
    return message


def _headers(mail: Email) -> dict[str, str]:
    host = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    # The same for a mail that leaves twice because its worker died in between, so that mail programs show it once; but
    # another one when staff send it again.
    name = keyed_digest("bitloot.orders.mail", f"{mail.pk}:{mail.sent_at or ''}")
    return {
        "Message-ID": f"<{name[:32]}@{host}>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",  # Exchange would answer with absence notes
    }


def _secrets(mail: Email) -> dict[str, object]:
    """Return what may stand in a mail and nowhere else: the link, the code."""
    order, found = mail.order, dict[str, object]()
    if order is not None and mail.kind in mail_letters.BRING_TOKEN:
        found["link"] = order_link(order)
    if order is not None and mail.kind == Email.Kind.ACCESS_CODE and (code := code_to_mail(order)) is not None:
        found |= {"code": digits_of(code), "code_ends_at": code.expires_at}
    if mail.kind == Email.Kind.YOUR_ORDERS:
        found["found"] = _orders_of(mail.to)
    return found


def _orders_of(address: str) -> list[dict[str, object]]:
    newest = Order.objects.filter(email=address).prefetch_related("items").order_by("-created_at")[:LISTED]
    return [
        {"order": order, "title": ", ".join(f"{item.quantity} × {item.title}" for item in order.items.all()),
         "link": order_link(order)}
        for order in newest
    ]  # fmt: skip

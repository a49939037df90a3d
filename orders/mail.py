"""Mails are rendered when they are sent, from the row and the order: no link and no token rests in the database."""

import logging
from smtplib import SMTPException, SMTPRecipientsRefused

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.db.models.functions import Now
from django.template.loader import render_to_string

from bitloot.core import queries, turns
from bitloot.core.clock import GIVE_UP_AFTER
from bitloot.core.faults import failpoint
from bitloot.core.smtp import Line
from orders import notifications
from orders.access import order_link
from orders.alerts import raise_alert
from orders.models import Email, Order, OrderItem

logger = logging.getLogger(__name__)

# A day of backoff takes about this many tries.
MAX_ATTEMPTS = 10 + GIVE_UP_AFTER // 900


def send(mail: Email, line: Line | None = None) -> None:
    """Send one claimed mail, and record what came of it; a refused address goes to staff."""
    try:
        items = [] if mail.order_id is None else queries.select(OrderItem, {"order": mail.order_id}, join=("order",))
        if items:
            mail.order = items[0].order
        message = _message(mail, items)
        failpoint("mail.rendered")
        with turns.waiting():
            message.connection = line
            message.send()
        failpoint("mail.sent")
    except SMTPRecipientsRefused as err:
        _give_up(mail, f"The mail server refused the address: {type(err).__name__}")
    except (SMTPException, OSError) as err:
        if line is not None:
            line.hang_up()  # whatever it was, the next mail had better dial again
        logger.warning("mail %s of %s failed: %s", mail.pk, mail.order_id, type(err).__name__)
        _record(mail, error=type(err).__name__)
        if mail.attempts + 1 >= MAX_ATTEMPTS:
            _give_up(mail, f"The mail server did not take it for a day: {type(err).__name__}")
        else:
            mail.retry(error=type(err).__name__)
    else:
        mail.release(None, status=Email.Status.SENT, sent_at=Now(), error="")
        _record(mail)


def give_up(mail: Email) -> None:
    """End a mail that crashed its worker again and again."""
    _give_up(mail, "Sending it crashed three times.")


def _give_up(mail: Email, error: str) -> None:
    # One alert for every mail to staff that fails: an alert of its own would owe them the next mail, for ever.
    subject = "mails to staff" if mail.kind == Email.Kind.ALERT else f"mail {mail.pk}"
    _record(mail, error=error)
    with transaction.atomic():
        mail.release(None, status=Email.Status.FAILED, error=error[:300])
        raise_alert(
            "mail_failed",
            subject,
            f"The mail “{mail.kind}” could not be delivered. {error} Check the address, then queue it again.",
            order=mail.order,
        )


def _record(mail: Email, *, error: str = "") -> None:
    """Remember of an alert's mail when that address was last reached: doctor and the first page show it."""
    if mail.kind == Email.Kind.ALERT:
        notifications.record(notifications.mail_channel(mail.to), error=error)


def _message(mail: Email, items: list[OrderItem]) -> EmailMultiAlternatives:
    context = _context(mail, mail.order, items)
    name = f"orders/email/{mail.kind}"
    subject = " ".join(render_to_string(f"{name}.subject.txt", context).split())
    message = EmailMultiAlternatives(
        subject, render_to_string(f"{name}.txt", context), settings.DEFAULT_FROM_EMAIL, [mail.to]
    )
    message.attach_alternative(render_to_string(f"{name}.html", context), "text/html")
    return message


def _context(mail: Email, order: Order | None, items: list[OrderItem]) -> dict[str, object]:
    context: dict[str, object] = {"mail": mail, "order": order, "reason": mail.reason, "site_url": settings.SITE_URL}
    if order is not None:
        context |= {"items": sorted(items, key=lambda item: item.title), "link": order_link(order)}
    if mail.alert is not None:
        context["alert_url"] = notifications.link_to(mail.alert)
    return context

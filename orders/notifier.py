"""Sends alerts through the services of ALERT_URL. Its URLs hold tokens: none is logged, shown or kept."""

import logging

from django.conf import settings
from django.db import transaction

from bitloot.core.clock import GIVE_UP_AFTER
from bitloot.core.database import leave_connection
from orders import notifications
from orders.alerts import raise_alert
from orders.choices import AlertKind
from orders.models import Notification

logger = logging.getLogger(__name__)

# A day of backoff takes about this many tries.
MAX_ATTEMPTS = 10 + GIVE_UP_AFTER // 900
REFUSED = "The service did not take the message. Check its URL in ALERT_URL and try it with manage.py test_alert."


class NotDelivered(Exception):
    """The service cannot be reached, or refused the message."""


def send(row: Notification) -> None:
    """Send one claimed notification and record the outcome. apprise names no final refusal: each is tried for a day."""
    url = notifications.url_channels().get(row.channel)
    if url is None:
        row.mark_failed(error="This channel is no longer in ALERT_URL.")
        return
    if row.is_overtaken:
        row.mark_overtaken()
        return
    try:
        deliver(url, title=_title(row), body=_text(row))
    except NotDelivered as err:
        logger.warning("notification %s to %s failed", row.pk, row.channel)
        notifications.record(row.channel, error=str(err))
        if row.attempts + 1 >= MAX_ATTEMPTS:
            _give_up(row, "The service took nothing for a day.")
        else:
            row.retry(error=str(err))
    else:
        row.mark_sent()
        notifications.record(row.channel)


def give_up(row: Notification) -> None:
    """End a notification that crashed its worker again and again."""
    _give_up(row, "Sending it crashed the worker three times.")


def deliver(url: str, *, title: str, body: str) -> None:
    """Post a message to one service. Raises NotDelivered."""
    from apprise import Apprise  # only where it is used: it takes 2 MiB of a process

    service = Apprise()
    # apprise's own log is off (settings.LOGGING): it names hosts, and with some services the host is the token.
    leave_connection()
    if not (service.add(url) and service.notify(title=title, body=body)):
        raise NotDelivered(REFUSED)


def _give_up(row: Notification, error: str) -> None:
    # One open alert for each channel, however many notifications fail: the channel is owed no endless chain of them.
    with transaction.atomic():
        row.mark_failed(error=error)
        message = f"Alerts do not reach {row.channel}. {error} {REFUSED}"
        raise_alert(AlertKind.ALERT_UNDELIVERED, row.channel, message)


def _title(row: Notification) -> str:
    return f"{settings.STORE_NAME}: {row.alert.get_kind_display()}{' (still open)' if row.number else ''}"


def _text(row: Notification) -> str:
    alert = row.alert
    lines = [
        alert.message,
        f"Still open since {alert.opened_at:%d %B %Y, %H:%M} UTC." if row.number else "",
        f"Order {alert.order_id}" if alert.order_id else "",
        notifications.link_to(alert),
    ]
    return "\n".join(filter(None, lines))

"""Who hears of an alert: a mail for each address of STAFF_EMAIL, a row for each channel of ALERT_URL."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.crypto import salted_hmac

from bitloot.core import wakeup
from orders.models import Alert, AlertChannel, Email, Notification


@dataclass(frozen=True)
class LastDelivery:
    channel: str
    delivered_at: datetime | None
    failed_at: datetime | None
    error: str


def announce(alert: Alert) -> None:
    """Owe a new alert to everybody who should hear of it; call it in the transaction that opens the alert."""
    for address in settings.STAFF_EMAIL:
        Email.objects.create(
            kind=Email.Kind.ALERT, to=address, order=alert.order, alert=alert, reason=alert.message[:300]
        )
    owed = [Notification(alert=alert, channel=channel) for channel in url_channels()]
    if owed:
        Notification.objects.bulk_create(owed, ignore_conflicts=True)
        wakeup.notify("notifications")


def url_channels() -> dict[str, str]:
    """Return the URLs of ALERT_URL by the names that rows and pages may show.

    A name is the service and a mark of the whole URL, which tells two channels of one service apart. A keyed mark:
    without SECRET_KEY nobody can try passwords against it.
    """
    urls: tuple[str, ...] = settings.ALERT_URL
    return {f"{url.partition(':')[0]} {_mark(url)}": url for url in urls}


def mail_channel(address: str) -> str:
    return f"mail to {address}"


def link_to(alert: Alert) -> str:
    return f"{settings.SITE_URL}{reverse('admin:orders_alert_change', args=[alert.pk])}"


def record(channel: str, *, error: str = "") -> None:
    """Keep when the channel last delivered, or what it failed with."""
    outcome = {"failed_at": Now(), "error": error[:300]} if error else {"delivered_at": Now(), "error": ""}
    AlertChannel.objects.update_or_create(name=channel, defaults=outcome)


def last_deliveries() -> list[LastDelivery]:
    """Return how each channel of the settings did last; one that never delivered has no times."""
    rows = AlertChannel.objects.in_bulk()
    names = [*map(mail_channel, settings.STAFF_EMAIL), *url_channels()]
    known = [rows.get(name) or AlertChannel(name=name) for name in names]
    return [LastDelivery(row.name, row.delivered_at, row.failed_at, row.error) for row in known]


def _mark(url: str) -> str:
    return salted_hmac("orders.notifications", url).hexdigest()[:6]

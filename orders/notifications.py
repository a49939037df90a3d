"""Who hears of an alert: a mail for each address of STAFF_EMAIL, a row for each channel of ALERT_URL."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from bitloot.core import wakeup
from bitloot.core.clock import delay
from bitloot.core.quiet_hours import QuietHours
from bitloot.core.signing import keyed_digest
from orders.choices import AlertKind
from orders.models import Alert, AlertChannel, Email, Notification

DAY = timedelta(days=1)


@dataclass(frozen=True)
class LastDelivery:
    channel: str
    delivered_at: datetime | None
    failed_at: datetime | None
    error: str


def announce(alert: Alert) -> None:
    """Tell everybody of a new alert, or once the quiet hours end; call it in the transaction that opens the alert."""
    if quiet_until := _quiet_until(alert, timezone.now()):
        Alert.objects.filter(pk=alert.pk).update(notify_at=quiet_until)
    else:
        _tell(alert)


def remind(now: datetime) -> int:
    """Tell everybody of the alerts that are due to be told of, the first time or once more; return how many."""
    due = Alert.objects.filter(status=Alert.Status.OPEN, notify_at__lte=now)
    return sum(_tell(alert) for alert in due.order_by("notify_at") if not _put_off(alert, now))


def _put_off(alert: Alert, now: datetime) -> bool:
    quiet_until = _quiet_until(alert, now)
    return quiet_until is not None and bool(Alert.objects.filter(pk=alert.pk).update(notify_at=quiet_until))


def _quiet_until(alert: Alert, now: datetime) -> datetime | None:
    hours: QuietHours | None = settings.ALERT_QUIET_HOURS
    return None if hours is None or _is_urgent(alert) else hours.until(now)


def _tell(alert: Alert) -> bool:
    """Owe a notice to everybody. Return False if somebody else did, or the alert was closed."""
    with transaction.atomic():
        # Compare-and-set on the number of notices: of two sweeps only one owes the next.
        untold = Alert.objects.filter(pk=alert.pk, status=Alert.Status.OPEN, notices=alert.notices)
        if not untold.update(notices=F("notices") + 1, notify_at=_next(alert)):
            return False
        _owe(alert)
    return True


def _next(alert: Alert) -> datetime | None:
    """Return when an alert that stays open is told of again: after twice as long each time, within bounds."""
    if not settings.ALERT_REPEAT_HOURS:
        return None
    longest = DAY if _is_urgent(alert) else 7 * DAY
    pause = min(timedelta(hours=settings.ALERT_REPEAT_HOURS) * 2 ** min(alert.notices, 10), longest)
    return timezone.now() + delay(pause.total_seconds())


def _is_urgent(alert: Alert) -> bool:
    # A row may hold a kind that a later version dropped.
    return alert.kind in AlertKind.values and AlertKind(alert.kind).is_urgent


def _owe(alert: Alert) -> None:
    facts = {"again": True} if alert.notices else {}
    for address in settings.STAFF_EMAIL:
        Email.objects.create(
            kind=Email.Kind.ALERT, to=address, order=alert.order, alert=alert, reason=alert.message[:300], facts=facts
        )
    owed = [Notification(alert=alert, number=alert.notices, channel=channel) for channel in url_channels()]
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
    return keyed_digest("orders.notifications", url)[:6]

"""What a mail provider says of a mail after it took it: it arrived, it came back, or its reader called it spam."""

import logging
from typing import Any

from anymail.signals import AnymailTrackingEvent, EventType, tracking
from django.db import transaction
from django.dispatch import receiver
from django.utils.translation import gettext_noop

from orders.alerts import STAFF_MAIL, close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Alert, Email, Order

logger = logging.getLogger(__name__)

# What a customer reads on the order's page.
NOTES = {
    EventType.BOUNCED: gettext_noop("Our mail to you came back. Is the e-mail address right?"),
    EventType.COMPLAINED: gettext_noop("A mail of ours was reported as spam. The next ones may not reach you."),
}
_SAME = {EventType.REJECTED: EventType.BOUNCED, EventType.FAILED: EventType.BOUNCED}


@receiver(tracking)
def note_outcome(event: AnymailTrackingEvent, **_: Any) -> None:
    """Record one event; the same one again changes nothing."""
    outcome = _SAME.get(event.event_type, event.event_type)
    if outcome != EventType.DELIVERED and outcome not in NOTES:
        return
    mail = _mail_of(event)
    if mail is None:
        logger.warning("the mail provider tells of a mail that is not ours, or no longer there: %s", event.event_type)
    elif outcome == EventType.DELIVERED:
        _arrived(mail, event)
    else:
        _came_back(mail, outcome, event)


def _mail_of(event: AnymailTrackingEvent) -> Email | None:
    number = str((event.metadata or {}).get("mail", ""))
    is_number = number.isascii() and number.isdigit() and len(number) < 19
    return Email.objects.select_related("order").filter(pk=int(number)).first() if is_number else None


def _arrived(mail: Email, event: AnymailTrackingEvent) -> None:
    about = _about(mail)
    if about is None:
        return
    opened = Alert.objects.filter(
        kind=AlertKind.MAIL_BOUNCED, status=Alert.Status.OPEN, **Alert.key_of(about)
    ).first()  # fmt: skip
    # The news of an earlier mail may come after that of a later one.
    if opened is not None and (event.timestamp is None or event.timestamp > opened.last_at):
        close_alert(AlertKind.MAIL_BOUNCED, about, by="automatic: a mail was delivered")


def _came_back(mail: Email, outcome: str, event: AnymailTrackingEvent) -> None:
    why = f" ({event.reject_reason})" if event.reject_reason else ""
    error = f"It came back{why}." if outcome == EventType.BOUNCED else "Its reader called it spam."
    about = _about(mail)
    with transaction.atomic():
        # Compare-and-set: a provider that gets no answer tells again.
        if not Email.objects.filter(pk=mail.pk).exclude(error=error).update(error=error) or about is None:
            return
        if mail.order is not None:
            mail.order.note("mail", NOTES[outcome])
        raise_alert(
            AlertKind.MAIL_BOUNCED,
            about,
            # Without the address, which ends where the order's does.
            f"The mail “{mail.get_kind_display()}”: {error} {_remedy(mail)}",
            order=mail.order,
        )


def _about(mail: Email) -> Order | str | None:
    """Return what an alert about this mail stands at; None if its outcome is no news."""
    if mail.kind in Email.TO_STAFF:
        return STAFF_MAIL
    order = mail.order
    # Staff or the customer corrected the address because it was wrong.
    return order if order is not None and order.email.lower() == mail.to.lower() else None


def _remedy(mail: Email) -> str:
    if mail.kind in Email.TO_STAFF:
        return "Check STAFF_EMAIL, and look at the admin meanwhile."
    return "Ask the customer by another way, and correct the address on the order."

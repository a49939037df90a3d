"""What staff have to look at: opened where the trouble is seen, closed where its cause ends."""

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from bitloot.core import queries
from orders.models import Alert, Email, Order


def raise_alert(kind: str, subject: str, message: str, *, order: Order | None = None) -> Alert:
    """Open an alert and mail staff, or count one more on the alert that is open already."""
    with transaction.atomic():
        counted = Alert.objects.filter(kind=kind, subject=subject, status=Alert.Status.OPEN).update(
            times=F("times") + 1, last_at=Now(), message=message[:500]
        )
        if counted:
            return Alert.objects.get(kind=kind, subject=subject, status=Alert.Status.OPEN)
        alert, made = Alert.objects.get_or_create(
            kind=kind, subject=subject, status=Alert.Status.OPEN, defaults={"message": message[:500], "order": order}
        )
        if made and settings.STAFF_EMAIL:
            Email.objects.create(kind=Email.Kind.ALERT, to=settings.STAFF_EMAIL, order=order, reason=message[:300])
    return alert


def close_alert(kind: str, subject: str, *, by: str = "") -> int:
    open_alert = {"kind": kind, "subject": subject, "status": Alert.Status.OPEN}
    return queries.update(Alert, open_alert, {"status": Alert.Status.CLOSED, "closed_at": Now(), "closed_by": by})

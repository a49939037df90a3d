"""What staff have to look at: opened where the trouble is seen, closed where its cause ends."""

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from bitloot.core import queries
from orders.models import Alert, Order
from orders.notifications import announce


def raise_alert(kind: str, subject: str, message: str, *, order: Order | None = None) -> Alert:
    """Open an alert and tell staff, or count one more on the alert that is open already."""
    with transaction.atomic():
        counted = Alert.objects.filter(kind=kind, subject=subject, status=Alert.Status.OPEN).update(
            times=F("times") + 1, last_at=Now(), message=message[:500]
        )
        if counted:
            return Alert.objects.get(kind=kind, subject=subject, status=Alert.Status.OPEN)
        alert, made = Alert.objects.get_or_create(
            kind=kind, subject=subject, status=Alert.Status.OPEN, defaults={"message": message[:500], "order": order}
        )
        if made:
            announce(alert)
    return alert


def close_alert(kind: str, subject: str, *, by: str = "") -> int:
    open_alert = {"kind": kind, "subject": subject, "status": Alert.Status.OPEN}
    return queries.update(Alert, open_alert, {"status": Alert.Status.CLOSED, "closed_at": Now(), "closed_by": by})

"""What staff have to look at: opened where the trouble is seen, closed where its cause ends."""

from django.db import transaction
from django.db.models import F, Model
from django.db.models.functions import Now

from bitloot.core import queries
from orders.choices import AlertKind
from orders.models import Alert, Order
from orders.notifications import announce

STAFF_MAIL = "mails to staff"
MAIL_SERVER = "mail server"
OBJECT_STORE = "object store"
WEBHOOKS = "webhooks"
WORKERS = "workers"
STAFF_SIGN_IN = "staff sign-in"


def raise_alert(kind: AlertKind, about: Model | str, message: str, *, order: Order | None = None) -> Alert:
    """Open an alert about a row and tell staff, or count one more on the alert that is open already.

    What has no row of its own is named by one of the constants above, or by a name that stays the same.
    """
    key = {"kind": kind, **Alert.key_of(about), "status": Alert.Status.OPEN}
    with transaction.atomic():
        while True:
            if Alert.objects.filter(**key).update(times=F("times") + 1, last_at=Now(), message=message[:500]):
                return Alert.objects.get(**key)
            alert = Alert(**key, message=message[:500], order=order)
            # Two workers may see the same trouble at once: the unique constraint lets one of them open it and tell
            # staff. The other counts on that row, or opens one of its own if that was closed again by then.
            if queries.insert_if_unique(alert):
                announce(alert)
                return alert


def close_alert(kind: AlertKind, about: Model | str, *, by: str = "") -> int:
    """Close the open alert of this kind about this row or name, if there is one; return how many were open."""
    return Alert.close_open(kind, about, by=by)

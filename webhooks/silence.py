"""Payments that finish although no IPN came for them: as they are read as well, only time is lost, unseen."""

from datetime import timedelta

from django.db.models.functions import Now

from orders.alerts import WEBHOOKS, close_alert, raise_alert
from orders.choices import AlertKind
from payments.models import Payment
from webhooks.models import WebhookLog

WINDOW = timedelta(hours=6)
# An IPN may come after the payment was read.
GRACE = timedelta(minutes=15)
NEWEST = 100


def look() -> None:
    """Alert when payments finished and not one of them had an IPN; an IPN for a newer one closes the alert."""
    finished = Payment.objects.filter(finished_at__gt=Now() - WINDOW, finished_at__lt=Now() - GRACE)
    named = list(
        finished.exclude(external_id=None).order_by("-finished_at").values_list("external_id", flat=True)[:NEWEST]
    )
    if not named:
        return
    heard = WebhookLog.objects.filter(provider=WebhookLog.Provider.NOWPAYMENTS, external_id__in=named)
    if heard.exists():
        close_alert(AlertKind.IPNS_SILENT, WEBHOOKS, by="automatic: an IPN came")
    else:
        raise_alert(
            AlertKind.IPNS_SILENT,
            WEBHOOKS,
            f"{len(named)} payments finished in the last {WINDOW.seconds // 3600} hours, and no IPN came for any of"
            " them. Check the IPN address and the IPN secret in NOWPayments' dashboard. Payments are read all the same,"
            " but customers wait longer.",
        )

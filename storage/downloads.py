"""What browsers report of their downloads: handing a key out is not yet opening it, and their trouble is ours."""

import uuid
from datetime import timedelta

from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now

from orders.alerts import OBJECT_STORE, close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Order
from storage.exceptions import KeyBelongsElsewhere
from storage.models import Key, KeyDeliveryLog
from storage.objects import key_store

# Who bought one key must not be able to have staff mailed at will.
TROUBLE_COUNTS_EVERY = timedelta(hours=1)


class DownloadResult(models.TextChoices):
    OPENED = "opened"
    OPENED_FROM_SHOP = "opened_from_shop", "Opened, but not from the object store"
    NOT_OPENED = "not_opened"


def report_download(*, order: Order, key_id: uuid.UUID, result: str) -> None:
    """Record what the customer's browser says of a key that was handed out to it. Raises KeyBelongsElsewhere."""
    mine = Key.objects.filter(pk=key_id, item__order=order, delivery__status__in=KeyDeliveryLog.HANDED_OUT)
    key = mine.select_related("item__order").defer("ciphertext").first()
    if key is None:
        raise KeyBelongsElsewhere("this order was not handed such a key")
    with transaction.atomic():
        if result != DownloadResult.NOT_OPENED:
            KeyDeliveryLog.objects.filter(key=key).record_opened()
            close_alert(AlertKind.KEY_NOT_OPENED, key, by="automatic: the customer opened it")
        # A key that our own database served says nothing about the object store.
        from_store = key.status == Key.Status.STORED and key_store().signs_urls
        if result == DownloadResult.NOT_OPENED:
            _alert_not_opened(key)
        elif from_store and result == DownloadResult.OPENED:
            close_alert(AlertKind.BROWSER_DOWNLOAD, OBJECT_STORE, by="automatic: a browser downloaded from it")
        elif from_store:
            _alert_browser_download(key)


def _alert_not_opened(key: Key) -> None:
    if _counts(key):
        raise_alert(
            AlertKind.KEY_NOT_OPENED,
            key,
            "The customer's browser could neither download nor open this key, also not from our own server. Look at the"
            " log of the web process and at the object store; write to the customer if it does not open within the"
            " hour.",
            order=key.item.order,
        )


def _alert_browser_download(key: Key) -> None:
    if _counts(key):
        raise_alert(
            AlertKind.BROWSER_DOWNLOAD,
            OBJECT_STORE,
            "A customer's browser could not download from the object store; our own server handed out the sealed key"
            " instead, so nobody is stuck. Run `manage.py check_providers`: if it finds the CORS rule missing, run"
            " `manage.py setup_bucket`. If it finds nothing, it may be that customer's network.",
        )


def _counts(key: Key) -> bool:
    """Claim the hour in which this key's trouble counts once."""
    is_new = Q(trouble_at=None) | Q(trouble_at__lte=Now() - TROUBLE_COUNTS_EVERY)
    # One UPDATE: of two reports at the same moment only one counts.
    return KeyDeliveryLog.objects.filter(is_new, key=key).update(trouble_at=Now()) == 1

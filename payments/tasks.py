from celery import shared_task

from bitloot.core.queue import drain
from payments import coins, sync
from payments.models import Payment


@shared_task(name="payments.drain")
def drain_payments() -> int:
    """Re-read the payments that are due."""
    return drain("payments", Payment.objects.all(), sync.watch, give_up=sync.give_up)


@shared_task(name="payments.coins")
def refresh_coins() -> int:
    """Keep the list of coins fresh."""
    return coins.refresh_if_stale()

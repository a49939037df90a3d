from celery import shared_task

from bitloot.core.queue import drain
from webhooks import services
from webhooks.models import WebhookLog


@shared_task(name="webhooks.drain")
def drain_webhooks() -> int:
    """Handle the webhooks that wait in the inbox."""
    return drain("webhooks", WebhookLog.objects.all(), services.process, give_up=services.give_up, batch=2)

from celery import shared_task

from bitloot.core.queue import drain
from bitloot.partners import delivery
from bitloot.partners.models import OutgoingWebhook


@shared_task(name="partners.drain")
def drain_outgoing_webhooks() -> int:
    """Send the webhooks that are due to shops built on the API."""
    return drain("partners", OutgoingWebhook.objects.all(), delivery.send, give_up=delivery.give_up)

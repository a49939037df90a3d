from celery import shared_task

from bitloot.core.queue import drain
from webhooks import replays, services, silence
from webhooks.models import ReplayRun, WebhookLog


@shared_task(name="webhooks.drain")
def drain_webhooks() -> int:
    """Handle the webhooks that wait in the inbox."""
    return drain("webhooks", WebhookLog.objects.all(), services.handle_row, give_up=services.give_up, batch=2)


@shared_task(name="replays.drain")
def drain_replays() -> int:
    """Take the replays of many webhooks one part further."""
    return drain("replays", ReplayRun.objects.all(), replays.advance, give_up=replays.give_up)


@shared_task(name="webhooks.silence")
def look_for_silence() -> None:
    """Notice when payments move and no IPN comes."""
    silence.look()

from celery import shared_task

from bitloot.core.queue import drain
from orders.alerts import WEBHOOKS, raise_alert
from orders.choices import AlertKind
from webhooks import replays, services
from webhooks.models import ReplayRun, WebhookLog


@shared_task(name="webhooks.drain")
def drain_webhooks() -> int:
    """Handle the webhooks that wait in the inbox."""
    return drain("webhooks", WebhookLog.objects.all(), services.handle_row, give_up=services.give_up, batch=2)


@shared_task(name="replays.drain")
def drain_replays() -> int:
    """Take the replays of many webhooks one part further."""
    return drain("replays", ReplayRun.objects.all(), replays.advance, give_up=replays.give_up)


@shared_task(name="refusals.drain")
def report_refusals() -> None:
    """Tell staff that many webhooks came without a signature of ours."""
    raise_alert(
        AlertKind.WEBHOOKS_REFUSED,
        WEBHOOKS,
        "Many webhooks came without the right signature. If a secret was changed at a provider, set both here;"
        " otherwise somebody may be forging them. Orders are safe: payments are also read without webhooks.",
    )

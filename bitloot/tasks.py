from celery import shared_task

from bitloot.ops import retention


@shared_task(name="bitloot.prune")
def prune() -> dict[str, int]:
    """Forget what nobody needs any more: bodies of webhooks, addresses of unpaid orders, old mails."""
    return retention.prune_all()

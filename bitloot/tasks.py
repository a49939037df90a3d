from celery import shared_task

from bitloot.ops import retention, rights
from storage.models import KeyAccess


@shared_task(name="bitloot.prune")
def prune() -> dict[str, int]:
    """Forget what nobody needs any more: bodies of webhooks, addresses of unpaid orders, old mails."""
    # Under the small role the bodies and openings are evidence; a process of the owner's runs `manage.py prune`.
    return retention.prune_all() if rights.is_given("DELETE", KeyAccess) else {}

from celery import shared_task
from django.utils import timezone

from bitloot.accounting import stuck
from bitloot.ops import partitions, retention, rights, watch
from storage.models import KeyAccess


@shared_task(name="bitloot.prune")
def prune() -> dict[str, int]:
    """Forget what nobody needs any more: bodies of webhooks, addresses of unpaid orders, old mails."""
    # Under the small role the bodies and openings are evidence; a process of the owner's runs `manage.py prune`.
    if not rights.is_given("DELETE", KeyAccess):
        return {}
    forgotten = retention.prune_all()
    partitions.prepare_months(timezone.now().date())
    return forgotten


@shared_task(name="bitloot.watch")
def look_around() -> None:
    """Notice stuck orders, and what ends with time: the certificate, the backups' freshness, the room on the disk."""
    stuck.look()
    watch.look()

from celery import shared_task
from django.utils import timezone

from bitloot.accounting import stuck
from bitloot.evidence import terms
from bitloot.ops import partitions, retention, rights
from bitloot.ops.doctor import alarms
from bitloot.staff import today
from storage.models import KeyAccess


@shared_task(name="bitloot.prune")
def prune() -> dict[str, int]:
    """Forget what nobody needs any more: bodies of webhooks, addresses of unpaid orders, old mails, old covers."""
    # Under the small role the bodies and openings are evidence; a process of the owner's runs `manage.py prune`.
    is_owner = rights.is_given("DELETE", KeyAccess)
    forgotten = retention.prune_all(of_owner=is_owner)
    if is_owner:
        partitions.prepare_months(timezone.now().date())
    return forgotten


@shared_task(name="bitloot.watch")
def look_around() -> None:
    """Notice stuck orders, and what ends with time: the certificate, the backups' freshness, the room on the disk.

    And read ahead what staff look at.
    """
    stuck.look()
    alarms.look()
    terms.keep_texts()  # those that were changed in SQL
    today.renew_closed_days()

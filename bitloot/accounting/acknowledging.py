"""Differences that stay in the rows although staff dealt with them: recorded with a reason, void once facts change."""

from django.db import transaction

from bitloot.accounting.checks import CHECKS, Difference, found_by
from bitloot.accounting.ledger import Scope
from bitloot.accounting.models import Acknowledgement

KINDS = tuple(check.kind for check in CHECKS if check.subject)


class NothingToAcknowledge(Exception):
    """There is no such difference now."""


def acknowledge(kind: str, subject: str, *, reason: str, actor: str) -> list[Difference]:
    """Record that this difference was dealt with; return what was not recorded before. Raises NothingToAcknowledge."""
    (check,) = (check for check in CHECKS if check.kind == kind)
    found = [difference for difference in found_by(check, Scope()) if difference.external_id == subject]
    if not found:
        raise NothingToAcknowledge(f"reconcile finds no {kind} of {subject}. Copy both from its output.")
    with transaction.atomic():
        return [difference for difference in found if _record(difference, reason=reason, actor=actor)]


def _record(difference: Difference, *, reason: str, actor: str) -> bool:
    _, is_new = Acknowledgement.objects.get_or_create(
        kind=difference.kind,
        facts=difference.facts,
        defaults={
            "subject": difference.external_id,
            "order": difference.order,
            "message": difference.message[:500],
            "reason": reason[:300],
            "acknowledged_by": actor[:150],
        },
    )
    return is_new

"""Differences that stay in the rows although staff dealt with them: recorded with a reason, void once facts change."""

from collections.abc import Iterable

from django.db import transaction

from bitloot.accounting import provider_checks
from bitloot.accounting.checks import CHECKS, Difference, found_by
from bitloot.accounting.ledger import Scope
from bitloot.accounting.models import Acknowledgement
from fulfillment.models import Reservation
from payments.models import Payment

_OF_ROWS = {check.kind: check for check in CHECKS if check.subject}
KINDS = tuple(sorted({*_OF_ROWS, *provider_checks.OF_A_PAYMENT, *provider_checks.OF_A_PURCHASE}))


class NothingToAcknowledge(Exception):
    """There is no such difference now."""


def acknowledge(kind: str, subject: str, *, reason: str, actor: str) -> list[Difference]:
    """Record that this difference was dealt with; return what was not recorded before.

    The provider is asked about what only it can say. Raises NothingToAcknowledge.
    """
    found = _named(_in_rows(kind), kind, subject) or _named(_at_provider(kind, subject), kind, subject)
    if not found:
        raise NothingToAcknowledge(f"reconcile finds no {kind} of {subject}. Copy both from its output.")
    with transaction.atomic():
        return [difference for difference in found if _record(difference, reason=reason, actor=actor)]


def _named(differences: Iterable[Difference], kind: str, subject: str) -> list[Difference]:
    return [one for one in differences if (one.kind, one.external_id) == (kind, subject) and one.facts]


def _in_rows(kind: str) -> Iterable[Difference]:
    return found_by(_OF_ROWS[kind], Scope()) if kind in _OF_ROWS else ()


def _at_provider(kind: str, subject: str) -> Iterable[Difference]:
    if kind in provider_checks.OF_A_PAYMENT:
        for payment in Payment.objects.filter(external_id=subject):
            yield from provider_checks.ask_nowpayments(Scope(order=payment.order_id)).differences
    if kind in provider_checks.OF_A_PURCHASE:
        for reservation in Reservation.objects.filter(external_id=subject).select_related("item"):
            yield from provider_checks.ask_supplier(Scope(order=reservation.item.order_id)).differences


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

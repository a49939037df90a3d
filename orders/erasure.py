"""Personal data that ends: an address becomes one that stands for nobody, and the order stays for the books."""

import re
import secrets

from django.db.models import Model, QuerySet

from orders.models import Approval, Email, Order

# No mail server takes mail for .invalid (RFC 2606).
STAND_IN_HOST = "@erased.invalid"


def pseudonym() -> str:
    """Return a new address that stands for nobody: random, so that nobody can try addresses against it."""
    return f"erased-{secrets.token_hex(6)}{STAND_IN_HOST}"


def is_erased(address: str) -> bool:
    return address.endswith(STAND_IN_HOST)


def erase_address(order: Order, *, stand_in: str) -> None:
    """Put `stand_in` in the place of every address the order ever had, wherever the order's rows write one.

    The caller holds the order's lock. Mails that have not left are dropped: there is nobody to write to.
    """
    to_customer = order.emails.exclude(kind=Email.Kind.ALERT)
    # Every address that it ever had: a mail keeps the one that it went to.
    written = {order.email, *to_customer.values_list("to", flat=True)}
    # Not what a worker is sending right now: it still needs the row, to record the outcome.
    to_customer.filter(status=Email.Status.QUEUED, claim_token=None).delete()
    for address in written:
        if not is_erased(address):
            replace_text(order.events.all(), "message", address, stand_in)
            replace_text(order.emails.all(), "reason", address, stand_in)
            replace_text(order.alerts.all(), "message", address, stand_in)
            erase_in_approvals(order.approvals.all(), address, stand_in=stand_in)
    to_customer.update(to=stand_in)
    Order.objects.filter(pk=order.pk).update(email=stand_in)


def replace_text(rows: QuerySet[Model], column: str, text: str, by: str) -> int:
    """Replace a text wherever it stands in a column of these rows; return how many had it."""
    found = list(rows.filter(**{f"{column}__icontains": text}).values_list("pk", column))
    longest: int | None = getattr(rows.model._meta.get_field(column), "max_length", None)
    for pk, value in found:
        rows.model._default_manager.filter(pk=pk).update(**{column: _replaced(value, text, by)[:longest]})
    return len(found)


def erase_in_approvals(approvals: QuerySet[Approval], address: str, *, stand_in: str) -> None:
    """Replace the address in what was typed for decisions that take two, such as the correction of an address."""
    for approval in approvals:
        fields = {
            name: _replaced(value, address, stand_in) if isinstance(value, str) else value
            for name, value in approval.fields.items()
        }
        if fields != approval.fields:
            Approval.objects.filter(pk=approval.pk).update(fields=fields)


def _replaced(value: str, text: str, by: str) -> str:
    # Not within another address: kim@shop.example ends joakim@shop.example, and begins kim@shop.example.org.
    whole = rf"(?<![\w.+-]){re.escape(text)}(?![\w-]|\.\w)"
    # A function, because backslashes in a replacement text would be read.
    return re.sub(whole, lambda _: by, value, flags=re.IGNORECASE)

"""A customer who mistyped the e-mail address corrects it, as long as nothing is paid."""

from django.db import transaction
from django.utils.translation import gettext as _

from orders.access import Purpose, lock_for_holder
from orders.exceptions import AddressStays
from orders.mailboxes import TOO_MANY_ORDERS, is_mailed_too_often, tidy
from orders.models import Email, Order
from orders.services import correct_address

CHANGES = 3  # each mails two addresses
_UNPAID = (Order.Status.PENDING, Order.Status.UNDERPAID)


def objection_to_changing(order: Order, purpose: Purpose) -> str | None:
    """Say why the address stays; the words are for the customer. Asks the database nothing."""
    # A link that was mailed to a wrong address must not let its reader take the order over.
    if purpose != "api":
        return _("Only the page where you placed the order can change its address. Write to us if it is wrong.")
    if order.status not in _UNPAID or order.paid_at is not None:
        return _("This order's address can no longer be changed here. Write to us if it is wrong.")
    return None


def change_address(order: Order, *, email: str, purpose: Purpose) -> None:
    """Give the order another address, as `correct_address` does.

    Raises AddressStays, OrderRefused for a bad one, and LinkReplaced if the links were ended since `order` was read.
    """
    if is_mailed_too_often(email):
        raise AddressStays(TOO_MANY_ORDERS)
    with transaction.atomic():
        # Under the lock: a payment that is recorded at the same moment comes before or after.
        locked = lock_for_holder(order)
        if objection := objection_to_changing(locked, purpose) or _objection_to(locked, email):
            raise AddressStays(objection)
        correct_address(locked, email=email, actor="", reason="the customer corrected it")
    order.refresh_from_db(fields=["email", "link_generation"])


def _objection_to(order: Order, email: str) -> str | None:
    if tidy(email).lower() == order.email.lower():
        return _("The order has this address already.")
    if order.emails.filter(kind=Email.Kind.ADDRESS_CORRECTED).count() >= CHANGES:
        return _("This address was changed too often. Write to us and we'll sort it out with you.")
    return None

"""A customer who does not want to wait for the supplier any longer gets the money back without staff."""

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from bitloot.core.decisions import demand
from fulfillment.exceptions import MoneyStays
from fulfillment.models import Reservation
from fulfillment.steps.holding import RESUMABLE, waits_for_a_purchase
from orders.alerts import close_alert
from orders.choices import AlertKind, OrderReason
from orders.models import Order
from storage.models import Key

_NOT_BOUGHT = (Reservation.Status.PENDING, Reservation.Status.HELD, Reservation.Status.CANCELLED)


def objection_to_money_back(order: Order) -> str | None:
    """Say why the customer may not end this order; the words are for the customer."""
    if not waits_for_a_purchase(order) or order.reason not in RESUMABLE:
        return _("This order does not wait for our supplier now. Write to us if you would rather have your money back.")
    if Key.objects.filter(item__order=order).exists():
        return _("A part of this order is delivered already. Write to us about the money for the rest.")
    mine = Reservation.objects.filter(item__order=order)
    if mine.filter(~Q(status__in=_NOT_BOUGHT) | Q(supplier_order_id__isnull=False) | Q(unknown_at__isnull=False)):
        return _("A key of this order may have been bought already. Our staff are finding out and write to you.")
    return None


def give_money_back(order: Order) -> None:
    """Owe the customer the money now; what was not bought stays unbought. Raises MoneyStays."""
    with transaction.atomic():
        # Under the order's lock, which a purchase takes as well before it is sent.
        order = order.lock()
        demand(objection_to_money_back(order), MoneyStays)
        order.mark_refund_due(
            reason=OrderReason.ASKED_BY_CUSTOMER, message=gettext_noop("You asked for your money back.")
        )
        close_alert(AlertKind.ORDER_HELD, order, by="automatic: the customer gets the money back")

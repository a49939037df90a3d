"""Paid orders that no worker will look at again: the difference `order_stuck`, told to staff while it is young."""

from bitloot.accounting.checks import CHECKS, found_by
from bitloot.accounting.ledger import IN_WORK, Scope
from fulfillment.models import Reservation
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Alert, Order


def look() -> None:
    """Raise an alert for each stuck order, and close those of orders that move again."""
    (check,) = (one for one in CHECKS if one.kind == "order_stuck")
    for difference in found_by(check, Scope()):
        order = Order.objects.get(pk=difference.order)
        raise_alert(AlertKind.ORDER_STUCK, order, difference.message, order=order)
    # Looked at one by one: the check above leaves out orders that have an open alert, so not to be found says nothing.
    for alert in Alert.objects.filter(kind=AlertKind.ORDER_STUCK, status=Alert.Status.OPEN).select_related("order"):
        if alert.order is not None and _moves(alert.order):
            close_alert(AlertKind.ORDER_STUCK, alert.order, by="automatic: it moves again")


def _moves(order: Order) -> bool:
    due = Reservation.objects.filter(item__order=order, next_attempt_at__isnull=False)
    return order.status not in IN_WORK or due.exists()

from celery import shared_task
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.core import limits
from bitloot.core.queue import drain, drain_batches
from orders import codes, idempotency, mail, notifications, notifier, workers
from orders.exceptions import InvalidTransition
from orders.models import Email, Notification, Order
from orders.services import expire


@shared_task(name="orders.drain")
def drain_mails() -> int:
    """Send the mails that are due, four over each connection to the mail server."""
    return drain_batches("orders", Email.objects.all(), mail.sending, give_up=mail.give_up, batch=4)


@shared_task(name="notifications.drain")
def drain_notifications() -> int:
    """Send the alerts that are due through ALERT_URL: a queue of its own, so that a slow service delays no mail."""
    return drain("notifications", Notification.objects.all(), notifier.send, give_up=notifier.give_up)


@shared_task(name="orders.remind")
def remind() -> int:
    """Tell staff of the alerts that quiet hours held back, and once more of those that stay open."""
    return notifications.remind(timezone.now())


@shared_task(name="orders.housekeeping")
def housekeeping() -> None:
    """Expire orders nobody paid, forget old Idempotency-Keys, codes and counters, and miss workers that are gone."""
    workers.watch()
    idempotency.reap()
    codes.reap()
    limits.reap()
    # An underpaid order holds money, so only the customer or staff may end it.
    unpaid = Order.objects.filter(status=Order.Status.PENDING, expires_at__lte=Now())
    for order in unpaid.order_by("expires_at")[:500]:  # the next run takes the rest
        try:
            expire(order)
        except InvalidTransition:
            continue  # it was paid in between

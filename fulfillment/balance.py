"""The balance at the supplier: does it cover this purchase, and all that waits? The supplier's own refusal decides."""

from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import F, Max, Min, Sum
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.core.money import plain
from bitloot.core.providers import Cause
from fulfillment import gate, kinguin
from fulfillment.kinguin import KinguinClient
from fulfillment.models import UNITS, Reservation, SupplierGate
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Product

DAY = timedelta(days=1)
PACE = 7 * DAY
_WAITING = (Reservation.Status.PENDING, Reservation.Status.HELD)


def shortage(balance: Decimal) -> str:
    """Return what a balance in EUR does not cover, or "": waiting orders, or one key of the most expensive product."""
    waiting = Reservation.objects.filter(
        status__in=_WAITING, supplier_order_id=None, item__order__paid_at__isnull=False
    )
    needed = waiting.aggregate(sum=Sum(F("item__product__max_cost") * UNITS))["sum"] or Decimal(0)
    if balance < needed:
        return (
            f"The balance of {plain(balance)} EUR does not cover what waiting orders may cost ({plain(needed)} EUR);"
            " top it up at Kinguin."
        )
    dearest = Product.objects.filter(is_active=True).aggregate(most=Max("max_cost"))["most"] or Decimal(0)
    if balance < dearest:
        return (
            f"The balance of {plain(balance)} EUR does not cover the most expensive product ({plain(dearest)} EUR);"
            " top it up at Kinguin."
        )
    return ""


def runway_days(balance: Decimal) -> float | None:
    """Return for how many days the balance lasts at the pace of the last week, or None if nothing was bought in it."""
    bought = Reservation.objects.filter(reserved_at__gt=Now() - PACE, cost__gt=0)
    seen = bought.aggregate(spent=Sum("cost"), first=Min("reserved_at"))
    if not seen["spent"]:
        return None
    # A shop of two days has two days' pace; one of an hour is not judged by that hour.
    days = max((timezone.now() - seen["first"]) / DAY, 1.0)
    return float(balance / seen["spent"]) * days


def watch() -> None:
    """Read the balance, keep it with the gate, and tell staff before it is too low for what is sold.

    And remind them while nothing is bought at all.
    """
    client = kinguin.client()
    gate.watch(client.host)
    gate.find_open(client)  # a pause whose cause is over ends here, even if nothing waits to be bought
    health = client.health()
    if health.cause is Cause.CREDENTIALS:
        gate.credentials_refused(client.host)
    elif health.ok:
        gate.accepts_us(client.host)
    balance = _keep(client, health.balance)
    if balance is None:
        return
    host = SupplierGate(pk=client.host)
    if sentence := shortage(balance):
        raise_alert(AlertKind.LOW_BALANCE, host, sentence)
    else:
        close_alert(AlertKind.LOW_BALANCE, host, by="automatic: it was topped up")
    _watch_runway(balance, host)


def _watch_runway(balance: Decimal, host: SupplierGate) -> None:
    days = runway_days(balance)
    if days is None or days >= settings.BALANCE_RUNWAY_DAYS:
        close_alert(AlertKind.BALANCE_RUNWAY, host, by="automatic: it lasts longer")
    else:
        raise_alert(
            AlertKind.BALANCE_RUNWAY,
            host,
            f"At the pace of the last week the balance of {plain(balance)} EUR lasts for {days:.1f} days, and you want"
            f" to hear of it below {settings.BALANCE_RUNWAY_DAYS}. Top it up at Kinguin, or orders will have to wait.",
        )


def lacks(needed: Decimal, seen: SupplierGate, client: KinguinClient) -> Decimal | None:
    """Return the balance if it does not cover `needed`, EUR, or None.

    The supplier is asked only if what it said last would not do: a top-up must not wait for the next regular look.
    """
    if seen.balance is None or seen.balance >= needed:
        return None
    balance = _ask(client)
    return balance if balance is not None and balance < needed else None


def _ask(client: KinguinClient) -> Decimal | None:
    """Return the balance now, None where the dialect or the supplier does not say it."""
    return _keep(client, client.health().balance)


def _keep(client: KinguinClient, balance: Decimal | None) -> Decimal | None:
    if balance is not None:
        gate.keep_balance(client, balance)
    return balance

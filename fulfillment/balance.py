"""The balance at the supplier: does it cover this purchase, and all that waits? The supplier's own refusal decides."""

from decimal import Decimal

from django.db.models import F, Max, Sum

from bitloot.core.money import plain
from bitloot.core.providers import Cause
from fulfillment import gate, kinguin
from fulfillment.kinguin import KinguinClient
from fulfillment.models import UNITS, Reservation, SupplierGate
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Product

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


def watch() -> None:
    """Read the balance, keep it with the gate, and tell staff before it is too low for what is sold."""
    client = kinguin.client()
    gate.find_open(client)  # a pause whose cause is over ends here, even if nothing waits to be bought
    health = client.health()
    if health.cause is Cause.CREDENTIALS:
        gate.credentials_refused(client.host)
    elif health.ok:
        gate.accepts_us(client.host)
    balance = _keep(client, health.balance)
    if balance is None:
        return
    if sentence := shortage(balance):
        raise_alert(AlertKind.LOW_BALANCE, SupplierGate(pk=client.host), sentence)
    else:
        close_alert(AlertKind.LOW_BALANCE, SupplierGate(pk=client.host), by="automatic: it was topped up")


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

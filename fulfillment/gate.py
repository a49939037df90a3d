"""SupplierGate: one row per provider host decides whether purchases may leave, and the permit reads it."""

from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from bitloot.core import queries
from bitloot.core.clock import delay
from bitloot.core.decisions import Decision, demand
from bitloot.core.faults import failpoint
from fulfillment.kinguin import KinguinClient
from fulfillment.models import SupplierGate
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind

FAILURES_TO_PAUSE = 5
PAUSE_SECONDS = 30


def find_open(client: KinguinClient) -> SupplierGate | None:
    """Return the gate if purchases may be sent now; a paused one whose time has come is tried by a harmless read."""
    if settings.SAFE_MODE:
        return None
    found = queries.select(SupplierGate, {"pk": client.host})
    gate = found[0] if found else SupplierGate.objects.get_or_create(pk=client.host)[0]
    if gate.status == SupplierGate.Status.PAUSED and _probe(client):
        gate.refresh_from_db()
    return gate if gate.status == SupplierGate.Status.OPEN else None


def failed(client: KinguinClient) -> None:
    """Count a failure to reach the host; five in a row pause every purchase there."""
    SupplierGate.objects.filter(pk=client.host).update(failures=F("failures") + 1)
    failpoint("gate.counted")
    with transaction.atomic():
        failing = SupplierGate.objects.filter(pk=client.host, failures__gte=FAILURES_TO_PAUSE)
        # Several purchases fail at once; the one that closes the gate tells staff.
        if failing.pause(reason="unreachable", probe_at=Now() + delay(PAUSE_SECONDS)):
            message = f"{client.host} cannot be reached. Purchases wait; orders are safe."
            raise_alert(AlertKind.SUPPLIER_DOWN, SupplierGate(pk=client.host), message)


def succeeded(seen: SupplierGate) -> None:
    """Let the count of failures start anew, if there were any when this purchase looked at the gate."""
    if seen.failures:
        SupplierGate.objects.filter(pk=seen.pk).update(failures=0)


def pause(client: KinguinClient, *, reason: str, needed_balance: Decimal | None = None) -> None:
    """Stop purchases for everybody until a probe succeeds, for a reason that is not one order's.

    With `needed_balance`, in EUR, the probe also wants to see that much on our account.
    """
    gates = SupplierGate.objects.filter(pk=client.host)
    gates.pause(reason=reason, needed_balance=needed_balance, probe_at=Now() + delay(PAUSE_SECONDS))


def stop(host: str, *, reason: str) -> None:
    SupplierGate.objects.get_or_create(pk=host)
    SupplierGate.objects.filter(pk=host).stop(reason=reason)


def open_again(host: str) -> None:
    SupplierGate.objects.get_or_create(pk=host)
    SupplierGate.objects.filter(pk=host).open()


def objection_to_stopping(gate: SupplierGate) -> str | None:
    return "It is stopped already." if gate.status == SupplierGate.Status.STOPPED else None


def objection_to_opening(gate: SupplierGate) -> str | None:
    return "It is open already." if gate.status == SupplierGate.Status.OPEN else None


def stop_by_hand(gate: SupplierGate, *, actor: str) -> None:
    """Stop all purchases at the host until staff open it again. Raises DecisionRefused."""
    with transaction.atomic():
        demand(objection_to_stopping(SupplierGate.objects.select_for_update().get(pk=gate.pk)))
        stop(gate.host, reason=f"stopped by {actor}"[:200])


def open_by_hand(gate: SupplierGate, *, actor: str) -> None:
    """Let purchases leave again, unless SAFE_MODE forbids them all. Raises DecisionRefused."""
    with transaction.atomic():
        demand(objection_to_opening(SupplierGate.objects.select_for_update().get(pk=gate.pk)))
        open_again(gate.host)


def keep_balance(client: KinguinClient, balance: Decimal) -> None:
    """Keep what the supplier said of our balance, EUR."""
    SupplierGate.objects.update_or_create(pk=client.host, defaults={"balance": balance})


def _probe(client: KinguinClient) -> bool:
    mine = SupplierGate.objects.filter(pk=client.host, status=SupplierGate.Status.PAUSED, probe_at__lte=Now())
    if not mine.update(probe_at=Now() + delay(PAUSE_SECONDS)):
        return False
    health = client.health()
    needed = SupplierGate.objects.values_list("needed_balance", flat=True).get(pk=client.host)
    short = needed is not None and health.balance is not None and health.balance < needed
    SupplierGate.objects.filter(pk=client.host).update(balance=health.balance)
    if not health.ok or short:
        return False
    failpoint("gate.probed")
    # Only a pause ends here: while the supplier was asked, somebody may have stopped all purchases.
    paused = SupplierGate.objects.filter(pk=client.host, status=SupplierGate.Status.PAUSED)
    if not paused.open():
        return SupplierGate.objects.filter(pk=client.host, status=SupplierGate.Status.OPEN).exists()
    close_alert(AlertKind.SUPPLIER_DOWN, SupplierGate(pk=client.host))
    return True


STOP = Decision(
    name="stop",
    label="Stop all purchases",
    permission="fulfillment.change_suppliergate",
    objection=objection_to_stopping,
    carry_out=stop_by_hand,
    done="no purchase leaves from now on; paid orders wait until it is opened",
)
OPEN = Decision(
    name="open_again",
    label="Open",
    permission="fulfillment.change_suppliergate",
    objection=objection_to_opening,
    carry_out=open_by_hand,
    done="purchases leave again; waiting orders follow automatically",
)

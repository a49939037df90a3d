"""SupplierGate, one row per supplier host: a circuit breaker for purchases, and the switch that stops them all."""

from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from bitloot.core import queries, wakeup
from bitloot.core.clock import delay
from bitloot.core.decisions import Decision, demand
from bitloot.core.faults import failpoint
from bitloot.core.providers import Cause, ProviderError
from fulfillment.kinguin import KinguinClient
from fulfillment.models import SupplierGate
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Alert

FAILURES_TO_PAUSE = 5
PAUSE_SECONDS = 30
CREDENTIALS = "credentials"


def find_open(client: KinguinClient) -> SupplierGate | None:
    """Return the gate if purchases may be sent now; a paused one whose time has come is tried by a harmless read."""
    if settings.SAFE_MODE:
        return None
    found = queries.select(SupplierGate, {"pk": client.host})
    gate = found[0] if found else SupplierGate.objects.get_or_create(pk=client.host)[0]
    if gate.status == SupplierGate.Status.PAUSED and _probe(client):
        gate.refresh_from_db()
    return gate if gate.status == SupplierGate.Status.OPEN else None


def failed(client: KinguinClient, err: ProviderError) -> None:
    """Count a failure to reach the host; five in a row pause every purchase there.

    A refusal or nonsense is one order's trouble, and so is an error that the host has for it alone.
    """
    if err.cause is not Cause.UNREACHABLE:
        return
    # Added up by the database: several workers fail at the same moment, and none may overwrite another's count.
    SupplierGate.objects.filter(pk=client.host).update(failures=F("failures") + 1)
    failpoint("gate.counted")
    failing = SupplierGate.objects.filter(pk=client.host, failures__gte=FAILURES_TO_PAUSE)
    if failing.exists() and answers_others(client, err):
        failing.update(failures=0)
        return
    with transaction.atomic():
        # Several purchases fail at once; the one that closes the gate tells staff.
        if failing.pause(reason="unreachable", probe_at=Now() + delay(PAUSE_SECONDS)):
            unreachable(client.host)


def answers_others(client: KinguinClient, err: ProviderError) -> bool:
    """Return whether a host that answered with an error is well when asked a harmless question."""
    return err.status is not None and client.health().ok


def unreachable(host: str) -> None:
    message = f"{host} cannot be reached. Purchases wait; orders are safe."
    raise_alert(AlertKind.SUPPLIER_DOWN, SupplierGate(pk=host), message)


def credentials_refused(host: str) -> None:
    """Pause every purchase at the host and tell staff; it resumes when a probe finds the credentials accepted."""
    SupplierGate.objects.get_or_create(pk=host)
    gates = SupplierGate.objects.filter(pk=host)
    with transaction.atomic():
        gates.pause(reason=CREDENTIALS, probe_at=Now() + delay(PAUSE_SECONDS))
        # It may have been paused as unreachable, and they are back with another answer.
        gates.filter(status=SupplierGate.Status.PAUSED).update(reason=CREDENTIALS)
        message = (
            f"{host} refuses our credentials. Purchases and the keys of bought ones wait. Correct"
            " KINGUIN_API_KEY (or client id and secret) and restart; everything resumes automatically."
        )
        raise_alert(AlertKind.PROVIDER_CREDENTIALS, SupplierGate(pk=host), message)
        close_alert(AlertKind.SUPPLIER_DOWN, SupplierGate(pk=host), by="automatic: it answers")


def accepts_us(host: str) -> None:
    close_alert(AlertKind.PROVIDER_CREDENTIALS, SupplierGate(pk=host), by="automatic: the credentials are accepted")


def succeeded(seen: SupplierGate) -> None:
    # Read before the call, so a purchase through a healthy gate costs no UPDATE of the row that all of them share.
    if seen.failures:
        SupplierGate.objects.filter(pk=seen.pk).update(failures=0)


def stop(host: str, *, reason: str) -> None:
    """Stop all purchases at the host until somebody opens it again, and tell staff; `reason` is by whom and why."""
    SupplierGate.objects.get_or_create(pk=host)
    with transaction.atomic():
        SupplierGate.objects.filter(pk=host).stop(reason=reason[:200])
        raise_alert(AlertKind.SAFE_MODE, SupplierGate(pk=host), _why_stopped(host))


def open_again(host: str, *, by: str) -> None:
    """Let purchases leave again, unless SAFE_MODE forbids them all; what waits is bought now."""
    SupplierGate.objects.get_or_create(pk=host)
    with transaction.atomic():
        SupplierGate.objects.filter(pk=host).open()
        # What they say is over: that somebody stopped all purchases, or that they wait for the supplier.
        for kind in (AlertKind.SAFE_MODE, AlertKind.SUPPLIER_DOWN):
            close_alert(kind, SupplierGate(pk=host), by=by)
        wakeup.notify("fulfillment")


def watch(host: str) -> None:
    """Keep an alert open while all purchases are stopped, also by what tells nobody: SAFE_MODE in the environment."""
    about = SupplierGate(pk=host)
    message = _why_stopped(host)
    if not message:
        close_alert(AlertKind.SAFE_MODE, about, by="automatic: purchases leave again")
        return
    open_alerts = Alert.objects.filter(kind=AlertKind.SAFE_MODE, status=Alert.Status.OPEN, **Alert.key_of(about))
    if not open_alerts.filter(message=message).exists():  # each look would count as one more time
        raise_alert(AlertKind.SAFE_MODE, about, message)


def _why_stopped(host: str) -> str:
    """Return what stops all purchases and how they leave again, or "" if they may leave."""
    nothing_leaves = f"Nothing is bought at {host}; paid orders wait."
    if settings.SAFE_MODE:
        remedy = "Take it out once the books balance, and restart web, worker and beat."
        return f"SAFE_MODE is set in the environment. {nothing_leaves} {remedy}"
    stopped = SupplierGate.objects.filter(pk=host, status=SupplierGate.Status.STOPPED).first()
    if stopped is None:
        return ""
    remedy = "`manage.py safe_mode off`, or “Open” on the supplier's gate, resumes them."
    return f"All purchases are stopped ({stopped.reason}). {nothing_leaves} {remedy}"[:500]


def objection_to_stopping(gate: SupplierGate) -> str | None:
    return "It is stopped already." if gate.status == SupplierGate.Status.STOPPED else None


def objection_to_opening(gate: SupplierGate) -> str | None:
    return "It is open already." if gate.status == SupplierGate.Status.OPEN else None


def stop_by_hand(gate: SupplierGate, *, actor: str) -> None:
    """Stop all purchases at the host until staff open it again. Raises DecisionRefused."""
    with transaction.atomic():
        demand(objection_to_stopping(SupplierGate.objects.select_for_update().get(pk=gate.pk)))
        stop(gate.host, reason=f"stopped by {actor}")


def open_by_hand(gate: SupplierGate, *, actor: str) -> None:
    """Let purchases leave again, unless SAFE_MODE forbids them all. Raises DecisionRefused."""
    with transaction.atomic():
        demand(objection_to_opening(SupplierGate.objects.select_for_update().get(pk=gate.pk)))
        open_again(gate.host, by=actor)


def keep_balance(client: KinguinClient, balance: Decimal) -> None:
    SupplierGate.objects.update_or_create(pk=client.host, defaults={"balance": balance})


def _probe(client: KinguinClient) -> bool:
    # Workers that find the pause over race for the next probe; the UPDATE lets one of them ask.
    mine = SupplierGate.objects.filter(pk=client.host, status=SupplierGate.Status.PAUSED, probe_at__lte=Now())
    if not mine.update(probe_at=Now() + delay(PAUSE_SECONDS)):
        return False
    health = client.health()
    # Overwritten even with None: a balance from before the outage may be out of date.
    SupplierGate.objects.filter(pk=client.host).update(balance=health.balance)
    if health.cause is Cause.CREDENTIALS:
        _tell_once_of_credentials(client.host)
    if not health.ok:
        return False
    failpoint("gate.probed")
    # Only a pause ends here: while the supplier was asked, somebody may have stopped all purchases.
    paused = SupplierGate.objects.filter(pk=client.host, status=SupplierGate.Status.PAUSED)
    if not paused.open():
        return SupplierGate.objects.filter(pk=client.host, status=SupplierGate.Status.OPEN).exists()
    close_alert(AlertKind.SUPPLIER_DOWN, SupplierGate(pk=client.host))
    accepts_us(client.host)
    return True


def _tell_once_of_credentials(host: str) -> None:
    if not SupplierGate.objects.filter(pk=host, reason=CREDENTIALS).exists():
        credentials_refused(host)


STOP = Decision(
    name="stop",
    label="Stop all purchases",
    permission="fulfillment.stop_gate",
    objection=objection_to_stopping,
    carry_out=stop_by_hand,
    done="no purchase leaves from now on; paid orders wait until it is opened",
)
OPEN = Decision(
    name="open_again",
    label="Open",
    permission="fulfillment.open_gate",
    objection=objection_to_opening,
    carry_out=open_by_hand,
    done="purchases leave again; waiting orders follow automatically",
)

"""What the supplier does not answer: whom it concerns, one purchase or all of them, and when staff hear of it."""

from django.db.models.functions import Now

from bitloot.core.clock import delay
from bitloot.core.providers import Cause, ProviderError
from fulfillment import gate
from fulfillment.call_log import CallLog
from fulfillment.choices import ReservationStatus as Status
from fulfillment.kinguin import KinguinClient
from fulfillment.models import Reservation, SupplierGate
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind

PATIENCE_SECONDS = 15 * 60
READ_AGAIN = "automatic: the supplier answers again"
# Where an answer is awaited; what is held was told already, with the reason.
OPEN = frozenset({Status.PENDING, Status.RESERVED, Status.GIVEN, Status.UNKNOWN})
OF_A_PURCHASE = {Cause.NONSENSE: AlertKind.PURCHASE_UNREADABLE, Cause.REQUEST: AlertKind.PURCHASE_REFUSED}


def note(reservation: Reservation, calls: CallLog, client: KinguinClient) -> None:
    """Judge a round of steps by its last call; nothing is written where all is well and was well before."""
    if calls.trouble is not None:
        _note_failure(reservation, calls.trouble, client)
    elif calls.asked and reservation.unread_since is not None:
        _note_success(reservation, client)


def _note_failure(reservation: Reservation, err: ProviderError, client: KinguinClient) -> None:
    # In any status of this row: refused credentials stop every other purchase, too.
    if err.cause is Cause.CREDENTIALS:
        gate.credentials_refused(client.host)
    if reservation.status not in OPEN:
        return
    since = reservation.unread_since
    # The first failure only starts the clock.
    if since is None:
        Reservation.objects.filter(pk=reservation.pk, unread_since=None).update(unread_since=Now())
        return
    if err.cause is Cause.CREDENTIALS or reservation.claimed_at - since < delay(PATIENCE_SECONDS):
        return
    if err.cause is Cause.UNREACHABLE and not gate.answers_others(client, err):
        gate.unreachable(client.host)
        return
    kind = OF_A_PURCHASE.get(err.cause, AlertKind.PURCHASE_UNREADABLE)
    message = (
        f"{reservation}: no usable answer from the supplier for a quarter of an hour: {str(err)[:200]}. It is asked"
        " again; look at the product’s id, and at the order in the supplier’s dashboard. Other orders continue."
    )
    raise_alert(kind, reservation, message, order=reservation.item.order)


def _note_success(reservation: Reservation, client: KinguinClient) -> None:
    Reservation.objects.filter(pk=reservation.pk).update(unread_since=None)
    for kind in OF_A_PURCHASE.values():
        close_alert(kind, reservation, by=READ_AGAIN)
    close_alert(AlertKind.PROVIDER_CREDENTIALS, SupplierGate(pk=client.host), by=READ_AGAIN)
    # A pause ends by its own probe, and the alert about it with the pause.
    if not SupplierGate.objects.filter(pk=client.host, status=SupplierGate.Status.PAUSED).exists():
        close_alert(AlertKind.SUPPLIER_DOWN, SupplierGate(pk=client.host), by=READ_AGAIN)

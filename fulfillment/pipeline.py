"""The only place that moves a reservation: claim, call, record, from `pending` to `delivered` or to staff.

Nothing outside our database happens inside a transaction. A purchase is sent at most once per committed permit. If a
send gets no answer, a worker searches the supplier by our external id and never sends it again. What each status does
next is a step, in `fulfillment.steps`.
"""

import uuid
from collections.abc import Callable

from django.db import transaction

from bitloot.core import logs, queries
from bitloot.core.clock import delay
from fulfillment import kinguin, unanswered
from fulfillment.call_log import CallLog
from fulfillment.choices import HoldReason
from fulfillment.kinguin import KinguinClient
from fulfillment.models import Reservation
from fulfillment.steps import buying, collecting, resuming, searching
from fulfillment.steps.holding import Next, StepResult, Wait, alert, hold
from fulfillment.steps.searching import SEARCH_HOURLY, become_unknown
from orders.models import OrderItem

Status = Reservation.Status
POISON = "Working on it crashed three times."
SETTLED = frozenset({Status.DELIVERED, Status.CANCELLED, Status.FAILED, Status.HELD})


def advance(reservation_id: uuid.UUID) -> bool:
    """Bring a reservation as far as it goes now, harmlessly repeated. Return False if somebody else is at it."""
    # Due first: a claim takes only rows that are due.
    Reservation(pk=reservation_id).wake()
    claimed = Reservation.objects.all().claim(only=reservation_id)
    for reservation in claimed:
        advance_claimed(reservation)
    return bool(claimed)


def advance_claimed(reservation: Reservation) -> None:
    """Run steps until one has to wait; ends the claim."""
    _load_order(reservation)
    client, calls = kinguin.client(), CallLog(reservation)
    if reservation.dialect != client.dialect and reservation.status not in SETTLED:
        _see_sending_as_unknown(reservation)
        sentence = f"It belongs to the dialect “{reservation.dialect}”."
        _release(reservation, hold(reservation, HoldReason.OTHER_DIALECT, sentence))
        return
    result: StepResult = Next.STEP
    while result is Next.STEP:
        result = STEPS[reservation.status](reservation, client, calls)
    unanswered.note(reservation, calls, client)
    if reservation.claim_token is None:
        return  # delivered, which ended the claim
    with transaction.atomic():
        calls.flush()
        _release(reservation, result)


def _release(reservation: Reservation, result: StepResult) -> None:
    reservation.release(result.time if isinstance(result, Wait) else None)


def give_up(reservation: Reservation) -> None:
    """Hold a reservation that crashed its worker three times, so that it stops nobody else.

    What was or may have been bought is looked at again in an hour: the crashes may have been the server's, not the
    row's, and the supplier has our money.
    """
    _load_order(reservation)
    _see_sending_as_unknown(reservation)
    if Status.HELD in Reservation.TRANSITIONS[reservation.status]:
        hold(reservation, HoldReason.POISON, POISON)
    elif reservation.status == Status.HELD:
        alert(reservation, HoldReason.POISON, f"{POISON} Use “Run now” once it is fixed.")
    bought = reservation.unknown_at is not None or reservation.supplier_order_id is not None
    reservation.release(delay(SEARCH_HOURLY) if reservation.status == Status.HELD and bought else None)


def _load_order(reservation: Reservation) -> None:
    """Load item, order and product, as they are now."""
    reservation.item = queries.get(OrderItem, reservation.item_id, join=("order", "product"))
    logs.note(order=reservation.item.order_id)


def _see_sending_as_unknown(reservation: Reservation) -> None:
    """Held while sending, it would look as if nothing had been sent, and staff might have it bought again."""
    if reservation.status == Status.SENDING:
        become_unknown(reservation, "the worker stopped while sending")


def _settled(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    return Next.NOTHING


STEPS: dict[str, Callable[[Reservation, KinguinClient, CallLog], StepResult]] = {
    Status.PENDING: buying.send,
    # Claimed in this status, it was left by a worker that died in mid-send.
    Status.SENDING: searching.after_a_crash,
    Status.UNKNOWN: searching.find_out,
    Status.RESERVED: collecting.give,
    Status.GIVEN: collecting.collect,
    Status.HELD: resuming.look_again,
    Status.DELIVERED: _settled,
    Status.CANCELLED: _settled,
    Status.FAILED: _settled,
}

"""held: what may pass is tried again, then bought or owed back; the rest waits for staff."""

import logging
from contextlib import suppress

from django.db import transaction

from bitloot.core.clock import delay
from bitloot.core.faults import failpoint
from bitloot.core.providers import ProviderError
from fulfillment.call_log import CallLog
from fulfillment.choices import HoldReason
from fulfillment.kinguin import KinguinClient
from fulfillment.models import Reservation
from fulfillment.steps.collecting import hand_over, take_keys
from fulfillment.steps.holding import (
    LOOK_AGAIN_SECONDS,
    NOT_WANTED,
    RESUMABLE,
    Next,
    StepResult,
    Wait,
    wait_or_give_up,
    waits_for_a_purchase,
)
from fulfillment.steps.quoting import Objection, objection_to_buying, price_cap
from fulfillment.steps.searching import SEARCH_HOURLY, find_out

logger = logging.getLogger(__name__)

Status = Reservation.Status


def look_again(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    """held: what may pass is tried again; the rest waits for staff."""
    if reservation.unknown_at is not None and reservation.supplier_order_id is None:
        return _search_on(reservation, client, calls)
    if reservation.supplier_order_id is not None:
        _look_for_keys(reservation, client, calls)
        return Next.NOTHING
    if reservation.item.order.status in NOT_WANTED:
        reservation.record(Status.CANCELLED, message="Not bought: the order's money goes back.")
        return Next.NOTHING
    if reservation.reason not in RESUMABLE:
        return Next.NOTHING
    if reservation.dialect != client.dialect:
        return Wait(delay(LOOK_AGAIN_SECONDS))
    try:
        objection = _objection(reservation, client, calls)
    except ProviderError as err:
        # Their silence says nothing about the key: it ends no patience.
        logger.warning("%s: no quote while it is held: %s", reservation, err)
        return Wait(delay(LOOK_AGAIN_SECONDS))
    if objection:
        return wait_or_give_up(reservation, HoldReason(reservation.reason), objection.sentence)
    _resume(reservation)
    return Next.STEP


def _search_on(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    """Nobody knows whether it was bought, so the search continues even when the order has ended."""
    if reservation.dialect != client.dialect:
        return Wait(delay(SEARCH_HOURLY))
    if not client.can_find:
        return Next.NOTHING
    result = find_out(reservation, client, calls)
    return Wait(delay(SEARCH_HOURLY)) if result is Next.NOTHING else result


def _look_for_keys(reservation: Reservation, client: KinguinClient, calls: CallLog) -> None:
    """It was bought, and somebody asked for another look: keys that came meanwhile are delivered."""
    order = reservation.item.order
    if order.status in NOT_WANTED or order.is_without_money or reservation.dialect != client.dialect:
        return
    # It may have been held before the hand-over; asking for that twice is harmless.
    with suppress(ProviderError):
        hand_over(reservation, client, calls)
    with suppress(ProviderError):
        take_keys(reservation, client, calls)


def _objection(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Objection | None:
    """Return why it still cannot be bought. Raises ProviderError."""
    objection = objection_to_buying(reservation, reservation.item.product, client, calls)
    if objection or reservation.reason != HoldReason.NO_FUNDS:
        return objection
    balance, needed = client.health().balance, price_cap(reservation) * reservation.quantity
    if balance is None or balance >= needed:
        return None
    return Objection(HoldReason.NO_FUNDS, f"Our balance is {balance} EUR, {needed} may be needed.")


def _resume(reservation: Reservation) -> None:
    with transaction.atomic():
        order = reservation.item.order.lock()
        # Asked before the next line empties the reason that it compares.
        resumes = waits_for_a_purchase(order)
        reservation.record(Status.PENDING, message="What held it is over; it is bought now.", reason="")
        if resumes:
            order.mark_fulfilling()
        failpoint("resume.recorded")
    # The alert stays open: the catalogue says yes, and the purchase itself may be refused all the same.
    reservation.item.order.refresh_from_db()

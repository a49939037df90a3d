"""held: what may resolve by itself is looked at again, bought or owed back; the rest waits for a person."""

import logging
from contextlib import suppress

from django.db import transaction

from bitloot.core.clock import delay
from bitloot.core.faults import failpoint
from bitloot.core.providers import ProviderError
from fulfillment.call_log import CallLog
from fulfillment.choices import HoldReason, Notice
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
    age,
    alert,
    owe_back,
    waits_for_a_purchase,
)
from fulfillment.steps.quoting import objection_to_buying, price_cap
from fulfillment.steps.searching import SEARCH_HOURLY, find_out
from orders.alerts import close_alert
from orders.choices import AlertKind

logger = logging.getLogger(__name__)

Status = Reservation.Status
# What the product's patience is for.
PATIENT = frozenset({HoldReason.OUT_OF_STOCK, HoldReason.TOO_EXPENSIVE})


def look_again(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    """held: what may resolve by itself is looked at again; the rest waits for a person."""
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
    if not _can_be_bought(reservation, client, calls):
        return _wait_or_refund(reservation)
    _resume(reservation)
    return Next.STEP


def _search_on(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    """Nobody knows whether it was bought, so it is searched for as long as it takes, whatever becomes of the order."""
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
    # It may be held since before this was done; once it is done, saying it again does no harm.
    with suppress(ProviderError):
        hand_over(reservation, client, calls)
    with suppress(ProviderError):
        take_keys(reservation, client, calls)


def _can_be_bought(reservation: Reservation, client: KinguinClient, calls: CallLog) -> bool:
    try:
        if objection_to_buying(reservation, reservation.item.product, client, calls):
            return False
    except ProviderError as err:
        logger.warning("%s: no quote while it is held: %s", reservation, err)
        return False
    if reservation.reason != HoldReason.NO_FUNDS:
        return True
    balance = client.health().balance
    return balance is None or balance >= price_cap(reservation) * reservation.item.quantity


def _resume(reservation: Reservation) -> None:
    with transaction.atomic():
        order = reservation.item.order.lock()
        goes_on = waits_for_a_purchase(order)
        reservation.record(Status.PENDING, message="What held it is over; it is bought now.", reason="")
        if goes_on:
            order.mark_fulfilling()
        failpoint("resume.recorded")
    reservation.item.order.refresh_from_db()
    close_alert(AlertKind.RESERVATION, reservation)


def _wait_or_refund(reservation: Reservation) -> StepResult:
    patience = reservation.item.product.stock_wait_hours * 3600
    if reservation.reason in PATIENT and age(reservation, reservation.created_at) > patience:
        with transaction.atomic():
            order = reservation.item.order.lock()
            reservation.record(Status.CANCELLED, message="It did not become available in time.")
            owe_back(order, HoldReason(reservation.reason), "The key did not become available in time.")
            alert(
                reservation,
                Notice.NEVER_AVAILABLE,
                f"{reservation} did not become available in time. Settle the order.",
            )
        return Next.NOTHING
    return Wait(delay(LOOK_AGAIN_SECONDS))

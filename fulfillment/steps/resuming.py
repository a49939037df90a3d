"""held: what may resolve by itself is looked at again, bought or owed back; the rest waits for a person."""

from datetime import timedelta

from django.db import transaction

from bitloot.lib.clock import delay
from bitloot.lib.failpoint import failpoint
from fulfillment.calls import CallLog
from fulfillment.kinguin import KinguinClient
from fulfillment.models import Reservation
from fulfillment.steps.holding import (
    GO_ON,
    LOOK_AGAIN_SECONDS,
    NOT_WANTED,
    RESUMABLE,
    STOP,
    Pause,
    age,
    alert,
    owe_back,
)
from fulfillment.steps.quoting import objection_to_buying, price_cap
from fulfillment.steps.searching import SEARCH_HOURLY, find_out
from orders.models import Order, close_alert

Status = Reservation.Status


def look_again(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Pause:
    """held: what may resolve by itself is looked at again; the rest waits for a person."""
    if reservation.unknown_at is not None and reservation.supplier_order_id is None and client.can_find:
        pause = find_out(reservation, client, calls)
        return delay(SEARCH_HOURLY) if pause is STOP else pause
    order, product = reservation.item.order, reservation.item.product
    if order.status in NOT_WANTED:
        if reservation.supplier_order_id is None:
            reservation.record(Status.CANCELLED, message="Not bought: the order's money goes back.")
        return STOP
    if reservation.reason not in RESUMABLE:
        return STOP
    objection = objection_to_buying(reservation, product, client, calls)
    if objection is None and reservation.reason == "no_funds":
        objection = _balance_objection(reservation, client)
    if objection is not None:
        return _wait_or_refund(reservation)
    with transaction.atomic():
        order = order.lock()
        reservation.record(Status.PENDING, message="What held it is over; it is bought now.", reason="")
        if order.status == Order.Status.HELD:
            order.mark_fulfilling()
        failpoint("resume.recorded")
    reservation.item.order.refresh_from_db()
    close_alert("reservation", str(reservation))
    return GO_ON


def _balance_objection(reservation: Reservation, client: KinguinClient) -> timedelta | None:
    balance = client.health().balance
    needed = price_cap(reservation) * reservation.item.quantity
    return delay(LOOK_AGAIN_SECONDS) if balance is not None and balance < needed else None


def _wait_or_refund(reservation: Reservation) -> Pause:
    patience = reservation.item.product.stock_wait_hours * 3600
    if reservation.reason in ("out_of_stock", "too_expensive") and age(reservation.created_at) > patience:
        with transaction.atomic():
            order = reservation.item.order.lock()
            reservation.record(Status.CANCELLED, message="It did not become available in time.")
            owe_back(order, reservation.reason, "The key did not become available in time.")
            alert(reservation, "never_available", f"{reservation} did not become available in time. Settle the order.")
        return STOP
    return delay(LOOK_AGAIN_SECONDS)

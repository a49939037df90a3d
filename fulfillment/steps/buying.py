"""pending: commit a permit, send the purchase once, and judge the answer.

A purchase leaves at most once per committed permit, and nothing of it happens inside a transaction.
"""

import logging
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from bitloot.core import queries
from bitloot.core.clock import delay
from bitloot.core.faults import failpoint
from bitloot.core.providers import ProviderError
from fulfillment import balance, gate
from fulfillment.call_log import CallLog
from fulfillment.choices import HoldReason
from fulfillment.kinguin import KinguinClient, Outcome, SupplierOrder, classify
from fulfillment.models import Reservation, ReservationAttempt, SupplierGate
from fulfillment.steps.holding import NOT_WANTED, Next, StepResult, Wait, hold, later, wait_or_give_up
from fulfillment.steps.quoting import Objection, objection_to_buying, price_cap
from fulfillment.steps.searching import FIRST_SEARCH_SECONDS, adopt, become_unknown
from orders.models import Order, Product

logger = logging.getLogger(__name__)

Status = Reservation.Status
# A replacement is bought for what is delivered already.
REPLACEABLE = (Order.Status.FULFILLED, Order.Status.PARTIALLY_FULFILLED)
FOUND_AT_SUPPLIER = "The supplier has an order for it already, so it is searched for and not bought."
BUYABLE = (Order.Status.PAID, Order.Status.FULFILLING, Order.Status.PARTIALLY_FULFILLED)
# How soon an order that staff resumed is bought.
STOPPED_SECONDS = 60
REFUSALS = {
    Outcome.REFUSED_CONFIG: (HoldReason.SUPPLIER_CONFIG, "The supplier refuses our credentials."),
    Outcome.REFUSED_FUNDS: (HoldReason.NO_FUNDS, "Our balance at the supplier is too low."),
    Outcome.REFUSED_STOCK: (HoldReason.OUT_OF_STOCK, "The supplier cannot sell it now."),
    Outcome.REFUSED_OTHER: (HoldReason.REFUSED, "The supplier refused the purchase."),
}


def send(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    """pending: look at price and stock, commit a permit, buy."""
    order, product = reservation.item.order, reservation.item.product
    # First what costs nothing to ask, the order and the gate; then the supplier; our balance only if all else is well.
    if order.status in NOT_WANTED:
        reservation.record(Status.CANCELLED, message="Not bought: the order's money goes back.")
        return Next.NOTHING
    if not _may_be_bought_for(reservation, order):
        return Wait(delay(STOPPED_SECONDS))
    open_gate = gate.find_open(client)
    if open_gate is None:
        return Wait(delay(gate.PAUSE_SECONDS))
    try:
        objection = objection_to_buying(reservation, product, client, calls)
        is_bought = reservation.is_replacement and _is_bought(reservation, client, calls)
    except ProviderError as err:
        return later(reservation, err)
    if is_bought:
        hold(reservation, HoldReason.FOUND_AT_SUPPLIER, FOUND_AT_SUPPLIER, unknown_at=Now())
        return Wait(delay(FIRST_SEARCH_SECONDS))
    objection = objection or _lack_of_money(reservation, open_gate, client)
    if objection:
        return wait_or_give_up(reservation, objection.reason, objection.sentence)
    failpoint("purchase.quoted")
    return _send_once(reservation, open_gate, client, calls)


def _may_be_bought_for(reservation: Reservation, order: Order) -> bool:
    return order.status in (REPLACEABLE if reservation.is_replacement else BUYABLE)


def _is_bought(reservation: Reservation, client: KinguinClient, calls: CallLog) -> bool:
    """A second purchase for one unit leaves only after a search, made now, that finds nothing under its name."""
    return calls.ask("find", lambda: client.find(reservation.external_id)) is not None


def _lack_of_money(reservation: Reservation, seen: SupplierGate, client: KinguinClient) -> Objection | None:
    needed = price_cap(reservation) * reservation.quantity
    has = balance.lacks(needed, seen, client)
    if has is None:
        return None
    sentence = f"{REFUSALS[Outcome.REFUSED_FUNDS][1]} It has {has} EUR, {needed} may be needed."
    return Objection(HoldReason.NO_FUNDS, sentence)


def _send_once(reservation: Reservation, open_gate: SupplierGate, client: KinguinClient, calls: CallLog) -> StepResult:
    permit = _commit_permit(reservation, client)
    if permit is None:
        return Wait(delay(gate.PAUSE_SECONDS))
    failpoint("purchase.permit.committed")
    # From here on a crash leaves an open permit: the next worker searches for the purchase and never sends it again.
    try:
        bought = calls.ask("reserve", lambda: _buy(reservation, client))
    except ProviderError as err:
        failpoint("purchase.failed")
        return _record_refusal(reservation, permit, err, client)
    failpoint("purchase.answered")
    gate.succeeded(open_gate)
    _record_purchase(reservation, permit, bought, client, calls)
    failpoint("purchase.placed.committed")
    return Next.STEP


def _commit_permit(reservation: Reservation, client: KinguinClient) -> ReservationAttempt | None:
    """Commit the right to send this purchase once, or None if order or gate changed. Raises LeaseLost."""
    with transaction.atomic():
        # Under the order's lock: a refund or a hold that committed since the claim must stop the purchase.
        order = reservation.item.order.lock()
        if not _may_be_bought_for(reservation, order):
            return None
        # Nearly all are bought at the first attempt, and need no count.
        number = 1 if reservation.sent_at is None else reservation.permits.count() + 1
        message = f"Buying “{reservation.item.title}”, attempt {number}."
        if not reservation.begin_sending(message=message, host=client.host, **_asked(reservation)):
            return None
        # In the transaction of the move: no row is ever “sending” without its permit, nor a permit open without that.
        permit = ReservationAttempt(reservation=reservation, number=number, price=price_cap(reservation))
        queries.insert(permit)
        if order.status != Order.Status.FULFILLING and not reservation.is_replacement:
            order.mark_fulfilling()
        failpoint("purchase.permit.recorded")
    return permit


def _asked(reservation: Reservation) -> dict[str, Any]:
    """What is remembered of a purchase: a product that is re-mapped later changes nothing for this one."""
    product = reservation.item.product
    return {
        "supplier_product_id": product.supplier_product_id,
        "title": product.title,
        "price_cap": price_cap(reservation),
    }


def _buy(reservation: Reservation, client: KinguinClient) -> SupplierOrder:
    product = reservation.item.product
    needs_offer = client.dialect == "orders"
    return client.reserve(
        external_id=reservation.external_id,
        product_id=product.supplier_product_id,
        offer_id=product.supplier_offer_id if needs_offer else "",
        quantity=reservation.quantity,
        price=price_cap(reservation),
        text_only=product.key_type == Product.KeyType.TEXT,
    )


def _record_purchase(
    reservation: Reservation, permit: ReservationAttempt, bought: SupplierOrder, client: KinguinClient, calls: CallLog
) -> None:
    with transaction.atomic():
        _close_permit(permit, ReservationAttempt.Outcome.PLACED)
        to = Status.RESERVED if client.must_give else Status.GIVEN
        adopt(reservation, bought, calls, to=to, cap=permit.price)
        failpoint("purchase.placed.recorded")


def _record_refusal(
    reservation: Reservation, permit: ReservationAttempt, err: ProviderError, client: KinguinClient
) -> StepResult:
    """The one table of what follows a send that did not simply succeed."""
    outcome = classify(err, reservation.external_id)
    logger.warning("%s: %s (%s)", reservation, outcome, err)
    if outcome is Outcome.UNKNOWN:
        become_unknown(reservation, str(err))
        # A search right away would miss a purchase that the supplier is still writing down.
        return Wait(delay(FIRST_SEARCH_SECONDS))
    if outcome is Outcome.DUPLICATE:
        # They have an order of this name: an earlier send did arrive, and the search finds it now.
        become_unknown(reservation, str(err), ReservationAttempt.Outcome.DUPLICATE)
        return Next.STEP
    if outcome is Outcome.NOT_SENT:
        # Outside of the transaction, since it may ask the supplier how it is.
        gate.failed(client, err)
        with transaction.atomic():
            _close_permit(permit, ReservationAttempt.Outcome.NOT_SENT, str(err))
            reservation.record(Status.PENDING, message="The supplier could not be reached; nothing was sent.")
            failpoint("purchase.not_sent.recorded")
            return later(reservation, err)
    with transaction.atomic():
        _close_permit(permit, ReservationAttempt.Outcome.REFUSED, str(err))
        reason, sentence = REFUSALS[outcome]
        result = wait_or_give_up(reservation, reason, f"{sentence} {err}"[:300])
        failpoint("purchase.refused.recorded")
    failpoint("purchase.refused.committed")
    if outcome is Outcome.REFUSED_CONFIG:
        gate.credentials_refused(client.host)
    # Lack of funds closes no gate: a balance that is too low for this purchase may be enough for the next.
    return result


def _close_permit(permit: ReservationAttempt, outcome: str, detail: str = "") -> None:
    same = {"reservation": permit.reservation_id, "number": permit.number}
    queries.update(ReservationAttempt, same, {"outcome": outcome, "detail": detail[:300]})

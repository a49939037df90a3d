"""unknown: search the supplier by our external id for a send that got no answer. It is never sent again."""

import logging
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from bitloot.core.clock import GIVE_UP_AFTER, delay
from bitloot.core.faults import failpoint
from bitloot.core.money import cents, plain
from bitloot.core.providers import Cause, ProviderError
from fulfillment.call_log import CallLog
from fulfillment.choices import HoldReason, Notice, ReservationStatus
from fulfillment.kinguin import AmbiguousSearch, KinguinClient, SupplierOrder
from fulfillment.models import Reservation, ReservationAttempt
from fulfillment.steps.holding import REFUSED_SECONDS, Next, StepResult, Wait, age, alert, hold, waits_for_a_purchase
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.state import Step

logger = logging.getLogger(__name__)

Status = Reservation.Status
HANDED_OVER = "The supplier hands the keys over."
# Until so many seconds have passed, the next search is so many seconds away.
SEARCHES = ((5, 5), (20, 15), (80, 60), (380, 300), (1280, 900))
FIRST_SEARCH_SECONDS = SEARCHES[0][1]
SEARCH_HOURLY = 3600
ALERT_UNKNOWN_AFTER = 15 * 60
MAX_COST = Decimal(10) ** 8  # what our column holds


def after_a_crash(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    """sending, seen at claim: a worker died or lost its lease in mid-send. Never "not sent"."""
    become_unknown(reservation, "the worker stopped while sending")
    return Next.STEP


def become_unknown(
    reservation: Reservation,
    detail: str,
    outcome: str = ReservationAttempt.Outcome.UNKNOWN,
) -> None:
    with transaction.atomic():
        open_permits = reservation.permits.filter(outcome=ReservationAttempt.Outcome.OPEN)
        open_permits.update(outcome=outcome, detail=detail[:300])
        reservation.record(
            Status.UNKNOWN,
            message="No usable answer to the purchase; asking the supplier whether it went through.",
            unknown_at=Now(),
            last_error=detail[:300],
        )
        failpoint("purchase.unknown.recorded")
    failpoint("purchase.unknown.committed")


def find_out(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    """Search the supplier by our external id for a send that got no answer."""
    if not client.can_find:
        sentence = "Nobody knows whether it was bought; this supplier has no search."
        return hold(reservation, HoldReason.UNKNOWN_PURCHASE, sentence)
    failpoint("search.before")
    try:
        found = calls.ask("find", lambda: client.find(reservation.external_id))
    except AmbiguousSearch as err:
        sentence = f"The supplier has several orders for it: {err}"[:300]
        return hold(reservation, HoldReason.DOUBLE_PURCHASE, sentence)
    except ProviderError as err:
        # No answer is neither “there” nor “not there”.
        logger.warning("%s: the search failed: %s", reservation, err)
        if err.cause is Cause.CREDENTIALS:
            return Wait(delay(REFUSED_SECONDS))
        return _next_search(reservation)
    failpoint("search.answered")
    # No proof that nothing was bought: they may still be writing it down. So it is never sent again, only searched for.
    if found is None:
        return _next_search(reservation)
    with transaction.atomic():
        adopt(reservation, found, calls)
        close_alert(AlertKind.RESERVATION, reservation)
    failpoint("search.adopted")
    return Next.STEP


def _next_search(reservation: Reservation) -> StepResult:
    """Return when to search again: 5 s, 15 s, 60 s, 5 min, 15 min, then hourly; alert, then hold."""
    waited = age(reservation, reservation.unknown_at)
    if waited > ALERT_UNKNOWN_AFTER:
        alert(
            reservation,
            Notice.UNKNOWN,
            f"Nobody knows whether {reservation} was bought. The search continues automatically.",
        )
    if reservation.status == Status.UNKNOWN and waited > GIVE_UP_AFTER:
        sentence = "The supplier does not know the purchase after a day of asking."
        hold(reservation, HoldReason.UNKNOWN_PURCHASE, sentence)
        return Wait(delay(SEARCH_HOURLY))
    for limit, pause in SEARCHES:
        if waited < limit:
            return Wait(delay(pause))
    return Wait(delay(SEARCH_HOURLY))


def adopt(
    reservation: Reservation,
    found: SupplierOrder,
    calls: CallLog,
    *,
    to: ReservationStatus = Status.RESERVED,
    cap: Decimal | None = None,
) -> None:
    """Record the supplier's order as ours; `to` is `given` where the supplier hands the keys over unasked.

    Locks the order, then the reservation. `cap` is the price per key that was agreed, EUR. Raises LeaseLost.
    """
    fields: dict[str, Any] = {
        "supplier_order_id": found.order_id,
        "reserved_at": Now(),
        "attempts": 0,
        "reason": "",
        "last_error": "",
    }
    # Never overwritten with nothing: an earlier answer may have said it.
    # An absurd figure is told below, and must not undo the record of what was bought.
    if found.cost is not None and cents(found.cost) < MAX_COST:
        fields["cost"] = found.cost
    with transaction.atomic(savepoint=False):
        order = reservation.item.order = reservation.item.order.lock()
        # Asked before the purchase is recorded, which empties the reason that it compares.
        resumes = waits_for_a_purchase(order)
        bought = f"Bought; the supplier's order is {found.order_id}."
        if to == Status.GIVEN:
            reservation.record(to, message=HANDED_OVER, via=Step(Status.RESERVED, bought), polls=0, **fields)
        else:
            reservation.record(Status.RESERVED, message=bought, **fields)
        calls.flush()
        if reservation.waiting_since is not None:
            close_alert(AlertKind.RESERVATION, reservation)
        if resumes:
            order.mark_fulfilling()
        if found.cost is not None:
            _check_cost(reservation, found.cost, cap)


def _check_cost(reservation: Reservation, cost: Decimal, cap: Decimal | None) -> None:
    """Tell staff at once if more was taken than we said that we would pay at most."""
    if cap is None:
        cap = reservation.permits.order_by("-number").values_list("price", flat=True).first()
    if cap is None or cost <= cap * reservation.quantity:
        return
    raise_alert(
        AlertKind.COST_ABOVE_CAP,
        reservation,
        f"The supplier took {plain(cost)} EUR for {reservation}, at most {plain(cap * reservation.quantity)} EUR"
        " were agreed. The order continues; ask the supplier for the difference.",
        order=reservation.item.order,
    )

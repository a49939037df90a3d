"""The eight classic mistakes of a shop that buys, planted one at a time: a proof that cannot find them proves nothing.

They live here and nowhere else. Each replaces a few functions of the running process, as a careless change would.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import requests
from django.db import transaction
from django.db.models.functions import Now
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from bitloot.core.clock import delay
from bitloot.core.faults import failpoint
from bitloot.core.providers import ProviderError
from fulfillment import gate, kinguin, pipeline
from fulfillment import services as fulfillment_services
from fulfillment.kinguin import Outcome
from fulfillment.models import Reservation
from fulfillment.steps import buying, searching
from fulfillment.steps.holding import Next, Wait
from payments import sync as payment_services

Status = Reservation.Status


def _transport() -> Any:
    return kinguin.client()._endpoint._transport  # type: ignore[attr-defined]


def _buy_before_commit() -> None:
    """Send the purchase first, and commit the permit when the answer is there."""

    def send(reservation: Any, client: Any, calls: Any) -> Any:
        order = reservation.item.order
        if order.status not in buying.BUYABLE or gate.find_open(client) is None:
            return Wait(delay(gate.PAUSE_SECONDS))
        try:
            bought = buying._buy(reservation, client)
        except ProviderError as err:
            permit = buying._commit_permit(reservation, client)
            return buying._record_refusal(reservation, permit, err, client) if permit else Wait(delay(1))
        failpoint("purchase.answered")
        if buying._commit_permit(reservation, client) is None:
            return Wait(delay(1))
        searching.adopt(reservation, bought, calls)
        return Next.STEP

    pipeline.STEPS[Status.PENDING] = send


def _new_id_on_retry() -> None:
    """Send what the search does not find once more, under a fresh external id so that the supplier takes it."""
    ask = searching.find_out

    def find_out(reservation: Any, client: Any, calls: Any) -> Any:
        result = ask(reservation, client, calls)
        if reservation.status != Status.UNKNOWN:
            return result
        name = f"{reservation.item_id}-{reservation.permits.count()}"
        Reservation.objects.filter(pk=reservation.pk).update(status=Status.PENDING, external_id=name)
        reservation.status, reservation.external_id = Status.PENDING, name
        return Next.STEP

    pipeline.STEPS[Status.UNKNOWN] = find_out


def _timeout_is_failure() -> None:
    """Take an answer that did not come for a purchase that did not happen."""
    judge = buying.classify

    def classify(err: ProviderError, external_id: str = "") -> Outcome:
        outcome = judge(err, external_id)
        return Outcome.NOT_SENT if outcome is Outcome.UNKNOWN else outcome

    buying.classify = classify


def _follow_redirects() -> None:
    """Send through a session, as most do."""
    _transport()._writes = requests.Session


def _transport_retries() -> None:
    """Let urllib3 retry a purchase."""
    retry = Retry(3, allowed_methods=None, status_forcelist=[500, 502, 503, 504], raise_on_status=False)
    _transport()._writes = partial(HTTPAdapter, max_retries=retry)


def _lapsed_send_is_pending() -> None:
    """Take a send whose lease ended for one that never left."""

    def after_a_crash(reservation: Any, client: Any, calls: Any) -> Any:
        reservation.record(Status.PENDING, message="The worker died; we start again.")
        return Next.STEP

    pipeline.STEPS[Status.SENDING] = after_a_crash


def _one_look_per_payment() -> None:
    """Look at a payment once and ignore all later news of it."""
    really = payment_services.refresh

    def refresh(payment: Any) -> str:
        return really(payment) if payment.read_at is None else "a duplicate: this payment was processed"

    payment_services.refresh = refresh


def _replay_buys() -> None:
    """Let “run it again” start anew."""

    def run_now(reservation: Any) -> None:
        with transaction.atomic():
            order = reservation.item.order.lock()
            Reservation.objects.filter(pk=reservation.pk).update(
                status=Status.PENDING, supplier_order_id=None, unknown_at=None, claim_token=None, next_attempt_at=Now()
            )
            type(order).objects.filter(pk=order.pk).update(status="fulfilling")

    fulfillment_services.run_now = run_now


PLANT: dict[str, Callable[[], None]] = {
    "buy before commit": _buy_before_commit,
    "new id on retry": _new_id_on_retry,
    "timeout is failure": _timeout_is_failure,
    "redirects on": _follow_redirects,
    "transport retries": _transport_retries,
    "lapsed send is pending": _lapsed_send_is_pending,
    "dedupe by payment": _one_look_per_payment,
    "replay buys": _replay_buys,
}

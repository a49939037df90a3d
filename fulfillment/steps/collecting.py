"""reserved, given: fetch the keys that were bought, seal and keep them, finish the order; or give them back."""

import uuid
from dataclasses import dataclass
from enum import Enum

from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_noop

from bitloot.core import queries
from bitloot.core.clock import GIVE_UP_AFTER, backoff, delay
from bitloot.core.faults import failpoint
from bitloot.core.providers import Cause, ProviderError
from bitloot.core.sentences import Sentence
from fulfillment.call_log import CallLog
from fulfillment.choices import HoldReason, Notice
from fulfillment.kinguin import (
    EcommerceClient,
    KinguinClient,
    SupplierKey,
    SupplierOrder,
    SupplierStatus,
    UnreadableKey,
)
from fulfillment.models import Reservation
from fulfillment.steps.holding import (
    LOOK_AGAIN_SECONDS,
    NOT_WANTED,
    Next,
    StepResult,
    Wait,
    age,
    alert,
    hold,
    later,
    owe_back,
)
from fulfillment.steps.searching import HANDED_OVER
from orders.alerts import close_alert
from orders.choices import AlertKind
from orders.models import Email, Order
from orders.services import queue_email
from storage.exceptions import KeyBelongsElsewhere
from storage.models import Key
from storage.services import report_sold_twice, shred, store_key, upload

Status = Reservation.Status
TAKEN_BACK = {SupplierStatus.CANCELED: HoldReason.CANCELED, SupplierStatus.REFUNDED: HoldReason.REFUNDED}
FAST_POLLS = 10
PARTLY_READY_AFTER = 300
FAST_POLL_SECONDS = 2
# As plain SQL, because every delivery asks for it.
_STATUSES = """
SELECT DISTINCT status FROM fulfillment_reservation
WHERE replaces_id IS NULL AND item_id IN (SELECT id FROM orders_orderitem WHERE order_id = %s)
"""


def give(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    """reserved: tell the supplier to hand the keys over, where that is a step of its own."""
    try:
        hand_over(reservation, client, calls)
    except ProviderError as err:
        return later(reservation, err)
    # The call took a while, and the order may have lost its money meanwhile.
    reservation.item.order = queries.get(Order, reservation.item.order_id)
    failpoint("give.answered")
    expect_keys(reservation)
    failpoint("give.committed")
    return Next.STEP


def hand_over(reservation: Reservation, client: KinguinClient, calls: CallLog) -> None:
    """Ask the supplier to release the keys, where it does not do so unasked. Raises ProviderError."""
    if client.must_give:
        calls.ask("give", lambda: client.give(_order_id(reservation)))


def expect_keys(reservation: Reservation) -> None:
    reservation.record(Status.GIVEN, message=HANDED_OVER, polls=0)


def collect(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    """given: fetch the keys that are there, seal and keep them; done when every unit has its key."""
    order = reservation.item.order
    if order.status in NOT_WANTED:
        return _return_keys(reservation, client, calls)
    if order.is_without_money:
        return Wait(delay(LOOK_AGAIN_SECONDS))  # keys that nobody has fetched can still be given back
    try:
        taken = take_keys(reservation, client, calls)
    except ProviderError as err:
        return later(reservation, err)
    return Next.NOTHING if taken is Taken.SETTLED else _still_waiting(reservation, taken, client, calls)


class Taken(Enum):
    """How far the keys that are there bring a reservation."""

    SETTLED = "all delivered, or held for staff"
    WAITING = "some are not there yet"
    UNUSABLE = "one of them cannot be used"


def take_keys(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Taken:
    """Fetch and seal the keys that are there. Raises ProviderError."""
    fetched = _fetch(reservation, client, calls)
    failpoint("keys.fetched")
    # Some dialects name no product with a key. Where one is named, it has to be what was bought.
    mine = [key for key in fetched.keys if key.product_id in ("", reservation.bought_product_id)]
    unusable = fetched.unreadable is not None or len(mine) != len(fetched.keys)
    if unusable:
        why = fetched.unreadable or "other product"
        alert(reservation, Notice.UNREADABLE_KEY, f"A key of {reservation} cannot be used: {why}.")
    try:
        if len(mine) >= reservation.quantity:
            done = _deliver(reservation, mine, calls, had_trouble=unusable or _had_trouble(reservation))
            return Taken.SETTLED if done else Taken.WAITING
        if mine:
            _keep(reservation, mine)
            failpoint("keys.kept")
            # A key may be listed once and then no more: what is kept counts, whether or not it is still listed.
            if reservation.keys.count() >= reservation.quantity:
                done = _deliver(reservation, mine, calls, had_trouble=True)
                return Taken.SETTLED if done else Taken.WAITING
    except KeyBelongsElsewhere as err:
        # Out here the transaction that tried to store it is undone, so the alert stays.
        report_sold_twice(err)
        sentence = f"The supplier sent a key that was given to another unit before: {err}."[:300]
        hold(reservation, HoldReason.FOREIGN_KEY, sentence)
        return Taken.SETTLED
    return Taken.UNUSABLE if unusable else Taken.WAITING


@dataclass(frozen=True)
class _Fetched:
    keys: list[SupplierKey]
    unreadable: UnreadableKey | None = None


def _fetch(reservation: Reservation, client: KinguinClient, calls: CallLog) -> _Fetched:
    try:
        return _Fetched(calls.ask("delivered", lambda: client.delivered(_order_id(reservation))))
    except UnreadableKey as err:
        return _Fetched(list(err.readable), err)


def _had_trouble(reservation: Reservation) -> bool:
    """Return whether an alert about this reservation can be open: those of a hold are closed when it ends."""
    seen = reservation.attempts or reservation.polls or reservation.unknown_at or reservation.reason
    return bool(seen) or reservation.crashes > 1


def _deliver(reservation: Reservation, keys: list[SupplierKey], calls: CallLog, *, had_trouble: bool) -> bool:
    """Seal every key and finish the item, and with the last item the order, in one transaction that ends the claim.

    Return False, with nothing done, if the order lost its money while the keys were fetched.
    """
    surplus, claim = keys[reservation.quantity :], uuid.uuid4()
    with transaction.atomic():
        # The money may have gone back while the keys were fetched; a key that is not stored can still be returned.
        order = _lock_order(reservation)
        if order.status in NOT_WANTED or order.is_without_money:
            return False
        stored = [_store(reservation, key, claim=claim) for key in keys[: reservation.quantity]]
        failpoint("keys.sealed")
        done = {**reservation.release_fields(None), "delivered_at": Now(), "reason": "", "last_error": ""}
        reservation.record(Status.DELIVERED, message="Every key is sealed and kept.", **done)
        finish(reservation, order)
        calls.flush()
        if had_trouble:
            close_alert(AlertKind.RESERVATION, reservation)
        if surplus:
            alert(reservation, Notice.SURPLUS, f"The supplier sent {len(surplus)} more keys than {reservation} needs.")
        failpoint("delivery.recorded")
    failpoint("delivery.committed")
    # Uploaded only after the commit: the sealed bytes are in the database, so a crash here loses nothing.
    for stored_key in stored:
        # A key that was known already carries another worker's token, and that worker uploads it.
        if stored_key.claim_token == claim:
            upload(stored_key)
    return True


def finish(reservation: Reservation, order: Order) -> None:
    """Do what follows a delivery. The caller holds the order's lock."""
    if reservation.replaces is None:
        finish_order(order)
        return
    # The order was fulfilled before and stays so. The old key goes only now, so that the customer always has one.
    if not reservation.keeps_replaced:
        shred(reservation.replaces, reason=gettext_noop("another key was given in its place."))
    order.note("key", gettext_noop("A key of this order was replaced."))
    queue_email(order, Email.Kind.KEY_REPLACED)


def finish_order(order: Order) -> None:
    """Bring the order to what its items say. The caller holds the order's lock."""
    found = queries.execute(_STATUSES, [Order._meta.pk.get_db_prep_value(order.pk, connection)]).fetchall()
    statuses = {status for (status,) in found}
    if statuses == {Status.DELIVERED}:
        # Delivered by hand before a worker began: it takes the usual way, for the timeline's sake.
        if order.status == Order.Status.PAID:
            order.mark_fulfilling()
        if Order.Status.FULFILLED in Order.TRANSITIONS[order.status] and order.mark_fulfilled():
            queue_email(order, Email.Kind.KEY_READY)
    elif Status.DELIVERED in statuses and order.status == Order.Status.FULFILLING:
        _mark_partly_ready(order, gettext_noop("Some keys of this order are ready."))


def _keep(reservation: Reservation, keys: list[SupplierKey]) -> None:
    """Seal the keys that are there; the customer may open them while the rest is awaited."""
    with transaction.atomic():
        order = _lock_order(reservation)
        before = reservation.keys.count()
        for key in keys:
            _store(reservation, key)
        if len(keys) > before and order.status == Order.Status.FULFILLING:
            _mark_partly_ready(
                order, Sentence("%(ready)s of %(wanted)s keys are ready.", ready=len(keys), wanted=reservation.quantity)
            )


def _mark_partly_ready(order: Order, message: str) -> None:
    order.mark_partially_fulfilled(message=message)
    # Most orders are complete soon after; the mail is for those that are not, and each gets one.
    if not Email.objects.filter(order=order, kind=Email.Kind.PARTLY_READY).exists():
        queue_email(order, Email.Kind.PARTLY_READY, after=delay(PARTLY_READY_AFTER))


def _lock_order(reservation: Reservation) -> Order:
    # Its address may have been corrected or erased while the keys were fetched, and each key's delivery names one.
    reservation.item.order = reservation.item.order.lock()
    return reservation.item.order


def _store(reservation: Reservation, key: SupplierKey, *, claim: uuid.UUID | None = None) -> Key:
    return store_key(
        item=reservation.item,
        supplier_key_id=f"{reservation.dialect}:{key.key_id}",
        plaintext=key.serial,
        content_type=key.content_type,
        claim=claim,
        replaces=reservation.replaces_id,
    )


def _still_waiting(reservation: Reservation, taken: Taken, client: KinguinClient, calls: CallLog) -> StepResult:
    try:
        seen = calls.ask("read", lambda: client.read(_order_id(reservation)))
    except ProviderError as err:
        return later(reservation, err)
    if seen.status in TAKEN_BACK:
        return _supplier_took_back(reservation, seen)
    if taken is Taken.UNUSABLE and seen.status is SupplierStatus.COMPLETED:
        # Nothing more comes of it, so staff may type a code now instead of after a day.
        sentence = "The supplier sent every key, and one cannot be used. Type the missing codes, or ask for others."
        return hold(reservation, HoldReason.UNREADABLE_KEY, sentence)
    # With the token: a worker that has lost its claim counts nothing.
    Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).update(
        polls=reservation.polls + 1
    )
    reservation.polls += 1
    if reservation.polls <= FAST_POLLS:
        return Wait(delay(FAST_POLL_SECONDS))
    if age(reservation, reservation.reserved_at) > GIVE_UP_AFTER:
        return hold(reservation, HoldReason.NO_KEYS, "The supplier took the order but delivered nothing for a day.")
    return Wait(backoff(reservation.polls - FAST_POLLS + 1))


def _supplier_took_back(reservation: Reservation, seen: SupplierOrder) -> StepResult:
    """The supplier cancelled or refunded what we bought: the customer's money is owed back, unless keys did arrive."""
    if reservation.keys.exists():
        sentence = f"The supplier ended it as {seen.status} after some keys came."
        return hold(reservation, HoldReason.PARTLY_CANCELLED, sentence)
    with transaction.atomic():
        order = reservation.item.order.lock()
        reservation.record(
            Status.CANCELLED, message=f"The supplier ended the order: {seen.status}.", reason=TAKEN_BACK[seen.status]
        )
        sentence = f"{reservation} was {seen.status}. Replace the key by hand."
        if not reservation.is_replacement:
            owe_back(order, HoldReason.SUPPLIER_CANCELLED, gettext_noop("The supplier cancelled the purchase."))
            sentence = f"{reservation} was {seen.status}. The customer is owed the money."
        # Here, or nobody would be told if the worker died after the commit: a cancelled row is not looked at again.
        alert(reservation, HoldReason.SUPPLIER_CANCELLED, sentence)
    return Next.NOTHING


def _return_keys(reservation: Reservation, client: KinguinClient, calls: CallLog) -> StepResult:
    """Give back keys nobody needs and nobody fetched, where the supplier takes them; they do within a day, and once."""
    if isinstance(client, EcommerceClient) and not reservation.keys.exists():
        try:
            returned = calls.ask("return", lambda: client.return_keys(_order_id(reservation)))
        except ProviderError as err:
            # Our key was refused, not the return: it can still be given back.
            if err.cause is Cause.CREDENTIALS:
                return later(reservation, err)
            sentence = f"Bought, but its money goes back; no return: {err}"[:300]
            return hold(reservation, HoldReason.BOUGHT_BUT_REFUNDED, sentence)
        # They take keys back one by one: unless all of them went, it counts as bought.
        if returned and set(returned.values()) <= {"RETURNED", "REFUNDED", "CANCELED"}:
            reservation.record(
                Status.CANCELLED,
                message="No longer needed; the supplier took the keys back.",
                reason=HoldReason.RETURNED,
            )
            return Next.NOTHING
    return hold(reservation, HoldReason.BOUGHT_BUT_REFUNDED, "It was bought, but the order's money goes back.")


def _order_id(reservation: Reservation) -> str:
    return reservation.supplier_order_id or ""  # set since `reserved`; every client refuses an empty one

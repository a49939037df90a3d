"""The only place that moves a reservation: claim, call, record, from `pending` to `delivered` or to a person.

Nothing outside our database happens inside a transaction. A purchase is sent at most once per committed permit; what
happened to a send without answer is asked for by our external id, and it is never sent again by the machine.
"""

import logging
import uuid
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Exists
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.lib.clock import GIVE_UP_AFTER, backoff, delay
from bitloot.lib.failpoint import failpoint
from bitloot.lib.http import ProviderError
from bitloot.lib.money import CENT
from bitloot.lib.queue import LeaseLost
from fulfillment import gate, kinguin
from fulfillment.calls import CallLog
from fulfillment.kinguin import (
    AmbiguousSearch,
    EcommerceClient,
    KinguinClient,
    Outcome,
    OutOfStock,
    SupplierKey,
    SupplierOrder,
    SupplierStatus,
    UnreadableKey,
    classify,
)
from fulfillment.models import Reservation, ReservationAttempt, SupplierGate
from orders.models import Email, Order, Product, close_alert, raise_alert
from orders.services import queue_email
from storage.exceptions import KeyBelongsElsewhere
from storage.models import Key
from storage.services import store_key

logger = logging.getLogger(__name__)

Status = Reservation.Status
BUYABLE = (Order.Status.PAID, Order.Status.FULFILLING, Order.Status.PARTIALLY_FULFILLED)
FAST_POLLS = 10
FAST_POLL_SECONDS = 2
SEARCHES = ((5, 5), (20, 15), (80, 60), (380, 300), (1280, 900))
SEARCH_HOURLY = 3600
ALERT_UNKNOWN_AFTER = 15 * 60
LOOK_AGAIN_SECONDS = 900
SETTLED = frozenset({Status.DELIVERED, Status.CANCELLED, Status.FAILED, Status.HELD})
NOT_WANTED = frozenset({Order.Status.REFUND_DUE, Order.Status.REFUNDED, Order.Status.CANCELLED})
RESUMABLE = frozenset({"out_of_stock", "too_expensive", "no_funds", "supplier_config"})

GO_ON = timedelta(0)
STOP = None
Pause = timedelta | None


def advance(reservation_id: uuid.UUID) -> bool:
    """Bring a reservation as far as it goes now, harmlessly repeated. Return False if somebody else is at it."""
    Reservation.objects.filter(pk=reservation_id, claim_token=None).update(next_attempt_at=Now())
    claimed = Reservation.objects.all().claim(only=reservation_id)
    for reservation in claimed:
        advance_claimed(reservation)
    return bool(claimed)


def advance_claimed(reservation: Reservation) -> None:
    """Run steps until one has to wait; ends the claim."""
    reservation = _with_order(reservation)
    client, calls = kinguin.client(), CallLog(reservation)
    if reservation.dialect != client.dialect and reservation.status not in SETTLED:
        reservation.release(_hold(reservation, "other_dialect", f"It belongs to the dialect “{reservation.dialect}”."))
        return
    while True:
        pause = STEPS[reservation.status](reservation, client, calls)
        if pause != GO_ON:
            break
    with transaction.atomic():
        calls.flush()
        reservation.release(pause)


def give_up(reservation: Reservation) -> None:
    """Hold a reservation that crashed its worker three times, so that it stops nobody else."""
    reservation = _with_order(reservation)
    if reservation.status == Status.SENDING:
        _become_unknown(reservation, "the worker died while sending")
    if Status.HELD in Reservation.TRANSITIONS[reservation.status]:
        _hold(reservation, "poison", "Working on it crashed three times.")
    reservation.release(STOP)


def find_out(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Pause:
    """Ask the supplier, by our own external id, what became of a send without answer."""
    if not client.can_find:
        return _hold(
            reservation, "unknown_purchase", "Nobody knows whether it was bought; this supplier has no search."
        )
    failpoint("search.before")
    try:
        found = calls.ask("find", lambda: client.find(reservation.external_id))
    except AmbiguousSearch as err:
        return _hold(reservation, "double_purchase", f"The supplier has several orders for it: {err}"[:300])
    except ProviderError as err:
        logger.warning("%s: the search failed: %s", reservation, err)
        return _next_search(reservation)
    failpoint("search.answered")
    if found is None:
        return _next_search(reservation)
    _adopt(reservation, found, calls)
    failpoint("search.adopted")
    return GO_ON


def _send(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Pause:
    """pending: look at price and stock, commit a permit, buy."""
    order, product = reservation.item.order, reservation.item.product
    if order.status in NOT_WANTED:
        reservation.record(Status.CANCELLED, message="Not bought: the order's money goes back.")
        return STOP
    if order.status not in BUYABLE:
        return delay(LOOK_AGAIN_SECONDS)
    if not gate.is_open(client):
        return delay(gate.PAUSE_SECONDS)
    objection = _quote_objection(reservation, product, client, calls)
    if isinstance(objection, timedelta):
        return objection
    if objection:
        return _hold(reservation, *objection)
    failpoint("purchase.quoted")
    permit = _commit_permit(reservation, client, product, calls)
    if permit is None:
        return delay(gate.PAUSE_SECONDS)
    failpoint("purchase.permit.committed")
    try:
        bought = calls.ask("reserve", lambda: _buy(reservation, client, product))
    except ProviderError as err:
        failpoint("purchase.failed")
        return _record_refusal(reservation, permit, err, client)
    failpoint("purchase.answered")
    gate.succeeded(client)
    with transaction.atomic():
        _close_permit(permit, ReservationAttempt.Outcome.PLACED)
        _adopt(reservation, bought, calls)
        failpoint("purchase.placed.recorded")
    failpoint("purchase.placed.committed")
    return GO_ON


def _buy(reservation: Reservation, client: KinguinClient, product: Product) -> SupplierOrder:
    needs_offer = client.dialect == "orders"
    return client.reserve(
        external_id=reservation.external_id,
        product_id=product.supplier_product_id,
        offer_id=product.supplier_offer_id if needs_offer else "",
        quantity=reservation.item.quantity,
        price=_price_cap(reservation),
        text_only=product.key_type == Product.KeyType.TEXT,
    )


def _price_cap(reservation: Reservation) -> Decimal:
    """Return the most a key of this item may cost, EUR: the supplier takes the price that we send as a ceiling."""
    product = reservation.item.product
    return max(min(product.max_cost, reservation.item.unit_price - product.min_margin), CENT)


def _quote_objection(
    reservation: Reservation, product: Product, client: KinguinClient, calls: CallLog
) -> tuple[str, str] | timedelta | None:
    """Return why not to buy now, how long to wait because the supplier did not say, or None."""
    try:
        quote = calls.ask("quote", lambda: client.quote(product.supplier_product_id))
    except OutOfStock:
        return "out_of_stock", f"The supplier has no “{product.title}” now."
    except ProviderError as err:
        gate.failed(client)
        return _later(reservation, err)
    if quote is None:
        return None
    stock = quote.text_qty if product.key_type == Product.KeyType.TEXT else quote.qty
    if stock < reservation.item.quantity:
        return "out_of_stock", f"The supplier has {stock} of “{product.title}”, {reservation.item.quantity} are needed."
    if quote.price > product.max_cost:
        return "too_expensive", f"“{product.title}” costs {quote.price} EUR now, the cap is {product.max_cost} EUR."
    if reservation.item.unit_price - quote.price < product.min_margin:
        return "too_expensive", f"“{product.title}” costs {quote.price} EUR now; less than its minimum margin is left."
    return None


def _commit_permit(
    reservation: Reservation, client: KinguinClient, product: Product, calls: CallLog
) -> ReservationAttempt | None:
    """Commit the right to send this purchase once, or None if order or gate changed. Raises LeaseLost."""
    with transaction.atomic():
        order = reservation.item.order.lock()
        is_open = SupplierGate.objects.filter(pk=client.host, status=SupplierGate.Status.OPEN)
        permitted = Reservation.objects.filter(
            Exists(is_open), pk=reservation.pk, claim_token=reservation.claim_token, status=Status.PENDING
        )
        if order.status not in BUYABLE:
            return None
        if permitted.update(status=Status.SENDING, sent_at=Now(), changed_at=Now()) != 1:
            _check_lease(reservation)
            return None
        number = reservation.permits.count() + 1
        permit = ReservationAttempt.objects.create(
            reservation=reservation, number=number, price=_price_cap(reservation)
        )
        if order.status != Order.Status.FULFILLING:
            order.mark_fulfilling()
        reservation._note(Status.PENDING, Status.SENDING, f"Buying “{reservation.item.title}”, attempt {number}.")
        calls.flush()
        failpoint("purchase.permit.recorded")
    reservation.status = Status.SENDING
    return permit


def _record_refusal(
    reservation: Reservation, permit: ReservationAttempt, err: ProviderError, client: KinguinClient
) -> Pause:
    """The one table of what follows a send that did not simply succeed."""
    outcome = classify(err, reservation.external_id)
    logger.warning("%s: %s (%s)", reservation, outcome, err)
    if outcome in (Outcome.UNKNOWN, Outcome.DUPLICATE):
        word = (
            ReservationAttempt.Outcome.DUPLICATE if outcome is Outcome.DUPLICATE else ReservationAttempt.Outcome.UNKNOWN
        )
        _become_unknown(reservation, str(err), word)
        return delay(SEARCHES[0][1]) if outcome is Outcome.UNKNOWN else GO_ON
    if outcome is Outcome.NOT_SENT:
        gate.failed(client)
        with transaction.atomic():
            _close_permit(permit, ReservationAttempt.Outcome.NOT_SENT, str(err))
            reservation.record(Status.PENDING, message="The supplier could not be reached; nothing was sent.")
            failpoint("purchase.not_sent.recorded")
            return _later(reservation, err)
    with transaction.atomic():
        _close_permit(permit, ReservationAttempt.Outcome.REFUSED, str(err))
        reason, sentence = REFUSALS[outcome]
        pause = _hold(reservation, reason, f"{sentence} {err}"[:300])
        failpoint("purchase.refused.recorded")
    failpoint("purchase.refused.committed")
    if outcome is Outcome.REFUSED_CONFIG:
        gate.pause(client, reason="credentials")
    if outcome is Outcome.REFUSED_FUNDS:
        needed = _price_cap(reservation) * reservation.item.quantity
        gate.pause(client, reason="low_balance", needed_balance=needed)
    return pause


REFUSALS = {
    Outcome.REFUSED_CONFIG: ("supplier_config", "The supplier refuses our credentials."),
    Outcome.REFUSED_FUNDS: ("no_funds", "Our balance at the supplier is too low."),
    Outcome.REFUSED_STOCK: ("out_of_stock", "The supplier cannot sell it now."),
    Outcome.REFUSED_OTHER: ("refused", "The supplier refused the purchase."),
}


def _after_a_crash(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Pause:
    """sending, seen at claim: a worker died or lost its lease in mid-send. Never "not sent"."""
    _become_unknown(reservation, "the worker stopped while sending")
    return GO_ON


def _give(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Pause:
    """reserved: tell the supplier to hand the keys over, where that is a step of its own."""
    try:
        calls.ask("give", lambda: client.give(_order_id(reservation)))
    except ProviderError as err:
        return _later(reservation, err)
    failpoint("give.answered")
    reservation.record(Status.GIVEN, message="The supplier hands the keys over.", polls=0)
    failpoint("give.committed")
    return GO_ON


def _collect(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Pause:
    """given: fetch the keys that are there, seal and keep them; done when every unit has its key."""
    if reservation.item.order.status in NOT_WANTED:
        return _return_keys(reservation, client, calls)
    try:
        keys, unreadable = _fetch(reservation, client, calls)
    except ProviderError as err:
        return _later(reservation, err)
    failpoint("keys.fetched")
    mine = [key for key in keys if key.product_id in ("", reservation.item.product.supplier_product_id)]
    if unreadable is not None or len(mine) != len(keys):
        _alert(
            reservation, "unreadable_key", f"A key of {reservation} cannot be used: {unreadable or 'other product'}."
        )
    if len(mine) >= reservation.item.quantity:
        return _deliver(reservation, mine, calls)
    if mine:
        _keep(reservation, mine)
        failpoint("keys.kept")
    return _still_waiting(reservation, client, calls)


def _return_keys(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Pause:
    """Give back keys nobody needs and nobody fetched, where the supplier takes them; they do within a day, and once."""
    if isinstance(client, EcommerceClient) and not Key.objects.filter(item=reservation.item).exists():
        try:
            returned = calls.ask("return", lambda: client.return_keys(_order_id(reservation)))
        except ProviderError as err:
            return _hold(reservation, "bought_but_refunded", f"Bought, but its money goes back; no return: {err}"[:300])
        if returned and set(returned.values()) <= {"RETURNED", "REFUNDED", "CANCELED"}:
            reservation.record(Status.CANCELLED, message="Not needed any more; the supplier took the keys back.")
            return STOP
    return _hold(reservation, "bought_but_refunded", "It was bought, but the order's money goes back.")


def _fetch(
    reservation: Reservation, client: KinguinClient, calls: CallLog
) -> tuple[list[SupplierKey], UnreadableKey | None]:
    try:
        return calls.ask("delivered", lambda: client.delivered(_order_id(reservation))), None
    except UnreadableKey as err:
        return list(err.readable), err


def _still_waiting(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Pause:
    try:
        seen = calls.ask("read", lambda: client.read(_order_id(reservation)))
    except ProviderError as err:
        return _later(reservation, err)
    if seen.status in (SupplierStatus.CANCELED, SupplierStatus.REFUNDED):
        return _supplier_took_back(reservation, seen)
    Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).update(
        polls=reservation.polls + 1
    )
    reservation.polls += 1
    if reservation.polls <= FAST_POLLS:
        return delay(FAST_POLL_SECONDS)
    if _age(reservation.reserved_at) > GIVE_UP_AFTER:
        return _hold(reservation, "no_keys", "The supplier took the order but delivered nothing for a day.")
    return backoff(reservation.polls - FAST_POLLS + 1)


def _supplier_took_back(reservation: Reservation, seen: SupplierOrder) -> Pause:
    """The supplier cancelled or refunded what we bought: the customer's money is owed back, unless keys did arrive."""
    if Key.objects.filter(item=reservation.item).exists():
        return _hold(reservation, "partly_cancelled", f"The supplier ended it as {seen.status} after some keys came.")
    with transaction.atomic():
        order = reservation.item.order.lock()
        reservation.record(
            Status.CANCELLED, message=f"The supplier ended the order: {seen.status}.", reason=seen.status
        )
        _owe_back(order, "supplier_cancelled", "The supplier cancelled the purchase.")
    _alert(reservation, "supplier_cancelled", f"{reservation} was {seen.status}. The customer is owed the money.")
    return STOP


def _deliver(reservation: Reservation, keys: list[SupplierKey], calls: CallLog) -> Pause:
    """Seal every key and finish the item, and with the last item the order, in one transaction."""
    surplus = keys[reservation.item.quantity :]
    try:
        with transaction.atomic():
            order = reservation.item.order.lock()
            for key in keys[: reservation.item.quantity]:
                _store(reservation, key)
            failpoint("keys.sealed")
            reservation.record(
                Status.DELIVERED, message="Every key is sealed and kept.", delivered_at=Now(), reason="", last_error=""
            )
            finish_order(order)
            calls.flush()
            failpoint("delivery.recorded")
    except KeyBelongsElsewhere as err:
        return _hold(reservation, "foreign_key", f"The supplier sent a key that another order has: {err}"[:300])
    failpoint("delivery.committed")
    close_alert("reservation", str(reservation))
    if surplus:
        _alert(reservation, "surplus", f"The supplier sent {len(surplus)} more keys than {reservation} needs.")
    return STOP


def _keep(reservation: Reservation, keys: list[SupplierKey]) -> None:
    """Seal what is there already; the customer may open it while the rest is awaited."""
    with transaction.atomic():
        order = reservation.item.order.lock()
        before = Key.objects.filter(item=reservation.item).count()
        for key in keys:
            _store(reservation, key)
        if len(keys) > before and order.status == Order.Status.FULFILLING:
            order.mark_partially_fulfilled(message=f"{len(keys)} of {reservation.item.quantity} keys are ready.")


def _store(reservation: Reservation, key: SupplierKey) -> None:
    supplier_key_id = f"{reservation.dialect}:{key.key_id}"
    store_key(
        item=reservation.item, supplier_key_id=supplier_key_id, plaintext=key.serial, content_type=key.content_type
    )


def finish_order(order: Order) -> None:
    """Bring the order to what its items say. The caller holds the order's lock."""
    statuses = set(Reservation.objects.filter(item__order=order).values_list("status", flat=True))
    if statuses == {Status.DELIVERED}:
        if order.status == Order.Status.PAID:
            order.mark_fulfilling()
        if Order.Status.FULFILLED in Order.TRANSITIONS[order.status] and order.mark_fulfilled():
            queue_email(order, Email.Kind.KEY_READY)
    elif Status.DELIVERED in statuses and order.status == Order.Status.FULFILLING:
        order.mark_partially_fulfilled(message="Some keys of this order are ready.")


def _held(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Pause:
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
    objection = _quote_objection(reservation, product, client, calls)
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
    needed = _price_cap(reservation) * reservation.item.quantity
    return delay(LOOK_AGAIN_SECONDS) if balance is not None and balance < needed else None


def _wait_or_refund(reservation: Reservation) -> Pause:
    patience = reservation.item.product.stock_wait_hours * 3600
    if reservation.reason in ("out_of_stock", "too_expensive") and _age(reservation.created_at) > patience:
        with transaction.atomic():
            order = reservation.item.order.lock()
            reservation.record(Status.CANCELLED, message="It did not become available in time.")
            _owe_back(order, reservation.reason, "The key did not become available in time.")
            _alert(reservation, "never_available", f"{reservation} did not become available in time. Settle the order.")
        return STOP
    return delay(LOOK_AGAIN_SECONDS)


def _settled(reservation: Reservation, client: KinguinClient, calls: CallLog) -> Pause:
    return STOP


STEPS: dict[str, Callable[[Reservation, KinguinClient, CallLog], Pause]] = {
    Status.PENDING: _send,
    Status.SENDING: _after_a_crash,
    Status.UNKNOWN: find_out,
    Status.RESERVED: _give,
    Status.GIVEN: _collect,
    Status.HELD: _held,
    Status.DELIVERED: _settled,
    Status.CANCELLED: _settled,
    Status.FAILED: _settled,
}


def _with_order(reservation: Reservation) -> Reservation:
    """Load item, order and product once; the claim stays that of the row we were given."""
    token, crashes = reservation.claim_token, reservation.crashes
    loaded = Reservation.objects.select_related("item__order", "item__product").get(pk=reservation.pk)
    if loaded.claim_token != token:
        raise LeaseLost(str(reservation))
    loaded.crashes = crashes
    return loaded


def _check_lease(reservation: Reservation) -> None:
    if not Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).exists():
        raise LeaseLost(str(reservation))


def _order_id(reservation: Reservation) -> str:
    return reservation.supplier_order_id or ""  # set since `reserved`; every client refuses an empty one


def _age(since: Any) -> float:
    return 0.0 if since is None else (timezone.now() - since) / delay(1)


def _later(reservation: Reservation, err: ProviderError) -> Pause:
    """A step that may be repeated waits out its backoff, and after a day goes to a person."""
    if _age(reservation.reserved_at or reservation.created_at) > GIVE_UP_AFTER:
        return _hold(reservation, "supplier_unavailable", f"The supplier gave no usable answer for a day: {err}"[:300])
    attempts = reservation.attempts + 1
    Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).update(
        attempts=attempts, last_error=str(err)[:300]
    )
    reservation.attempts = attempts
    return backoff(attempts)


def _close_permit(permit: ReservationAttempt, outcome: str, detail: str = "") -> None:
    ReservationAttempt.objects.filter(pk=permit.pk).update(outcome=outcome, detail=detail[:300])


def _become_unknown(
    reservation: Reservation,
    detail: str,
    outcome: str = ReservationAttempt.Outcome.UNKNOWN,
) -> None:
    with transaction.atomic():
        open_permits = reservation.permits.filter(outcome=ReservationAttempt.Outcome.OPEN)
        open_permits.update(outcome=outcome, detail=detail[:300])
        reservation.record(
            Status.UNKNOWN,
            message="No usable answer to the purchase; asking the supplier what became of it.",
            unknown_at=timezone.now(),
            last_error=detail[:300],
        )
        failpoint("purchase.unknown.recorded")
    failpoint("purchase.unknown.committed")


def _adopt(reservation: Reservation, found: SupplierOrder, calls: CallLog) -> None:
    """Record the supplier's order as ours."""
    fields: dict[str, Any] = {
        "supplier_order_id": found.order_id,
        "reserved_at": timezone.now(),
        "attempts": 0,
        "reason": "",
        "last_error": "",
    }
    if found.cost is not None:
        fields["cost"] = found.cost
    with transaction.atomic():
        order = reservation.item.order.lock()
        reservation.record(Status.RESERVED, message=f"Bought; the supplier's order is {found.order_id}.", **fields)
        calls.flush()
        if order.status == Order.Status.HELD:
            order.mark_fulfilling()
    close_alert("reservation", str(reservation))


def _next_search(reservation: Reservation) -> Pause:
    """Return when to search again: 5 s, 15 s, 60 s, 5 min, 15 min, then hourly; alert, then hold."""
    age = _age(reservation.unknown_at)
    if age > ALERT_UNKNOWN_AFTER:
        _alert(reservation, "unknown", f"Nobody knows whether {reservation} was bought. The search goes on by itself.")
    if reservation.status == Status.UNKNOWN and age > GIVE_UP_AFTER:
        _hold(reservation, "unknown_purchase", "The supplier does not know the purchase after a day of asking.")
        return delay(SEARCH_HOURLY)
    for limit, pause in SEARCHES:
        if age < limit:
            return delay(pause)
    return delay(SEARCH_HOURLY)


def _hold(reservation: Reservation, reason: str, message: str) -> Pause:
    """Stop for a person: reservation and order held, alert opened, customer told. RESUMABLE reasons look again."""
    with transaction.atomic():
        order = reservation.item.order.lock()
        if reservation.status != Status.HELD:
            reservation.record(Status.HELD, message=message, reason=reason, last_error=message[:300])
            failpoint("hold.recorded")
        if Order.Status.HELD in Order.TRANSITIONS[order.status] and order.status not in NOT_WANTED:
            sentence = CUSTOMER_SENTENCES.get(reason, CUSTOMER_SENTENCES[""])
            order.hold(reason=reason, message=sentence)
            queue_email(order, Email.Kind.PROBLEM, reason=sentence)
        _alert(reservation, reason, f"{message} Open the reservation in the admin to decide.")
    failpoint("hold.committed")
    return delay(LOOK_AGAIN_SECONDS) if reason in RESUMABLE else STOP


CUSTOMER_SENTENCES = {
    "partly_delivered": "A part of your order cannot be delivered. You keep the rest; we write to you about the money.",
    "": "Something about the delivery needs a person. Your money and your order are safe.",
    "out_of_stock": "Our supplier is out of stock. We buy your key as soon as it is back, or return your money.",
    "too_expensive": "The price at our supplier rose. We buy your key as soon as we can, or return your money.",
}


def _owe_back(order: Order, reason: str, message: str) -> None:
    """Owe the customer the money; a person decides about an order of which some keys were delivered already."""
    if Key.objects.filter(item__order=order).exists():
        if Order.Status.HELD in Order.TRANSITIONS[order.status]:
            order.hold(reason="partly_delivered", message=CUSTOMER_SENTENCES["partly_delivered"])
            queue_email(order, Email.Kind.PROBLEM, reason=CUSTOMER_SENTENCES["partly_delivered"])
        return
    if Order.Status.REFUND_DUE in Order.TRANSITIONS[order.status]:
        order.mark_refund_due(reason=reason, message=message)
        queue_email(order, Email.Kind.PROBLEM, reason=f"{message} Our staff will write to you about your money.")


def _alert(reservation: Reservation, kind: str, message: str) -> None:
    raise_alert("reservation", str(reservation), f"[{kind}] {message}", order=reservation.item.order)

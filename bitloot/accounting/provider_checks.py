"""`reconcile --ask`: read at both providers what our rows say of them, and name each difference. Only reads leave."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import TypeVar

from django.conf import settings
from django.db import transaction
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.accounting.checks import Difference
from bitloot.accounting.ledger import OPEN_PURCHASE, Scope
from bitloot.core.money import plain
from bitloot.core.providers import ProviderError, Urgency
from fulfillment import kinguin
from fulfillment.choices import HoldReason
from fulfillment.kinguin import (
    AmbiguousSearch,
    EcommerceClient,
    KinguinClient,
    KinguinRejected,
    SupplierOrder,
    SupplierStatus,
)
from fulfillment.models import ForeignPurchase, Reservation
from payments.acceptance import objection
from payments.choices import ReviewReason
from payments.models import Payment
from payments.nowpayments import NowPaymentsClient, PaymentFacts, PaymentNotFound, ProviderStatus

WINDOW = timedelta(days=7)
FAILURES_TO_STOP = 3
ASKED_AT_ONCE = 200
_NAMES = ("external_id", "supplier_order_id")
MANY_REQUESTS = 429
REFUSALS = (401, 403)
ADOPTABLE = "bought_unknown_to_us"
NOT_ENDED = (SupplierStatus.PROCESSING, SupplierStatus.COMPLETED)
GIVEN_UP = (Reservation.Status.CANCELLED, Reservation.Status.FAILED)
Status = Payment.Status
# Where a payment may stand here while the provider says this of it.
AGREES: dict[ProviderStatus, tuple[str, ...]] = {
    ProviderStatus.FINISHED: (Status.FINISHED, Status.REVIEW, Status.REFUNDED),
    ProviderStatus.PARTIALLY_PAID: (Status.PARTIALLY_PAID, Status.FINISHED, Status.REVIEW, Status.REFUNDED),
    ProviderStatus.REFUNDED: (Status.REFUNDED, Status.REVIEW),
    ProviderStatus.UNKNOWN: tuple(Status),  # it has an alert of its own, and decides nothing
}
NO_MONEY = (Status.EXPIRED, Status.FAILED, Status.CANCELLED)
SETTLED = (Status.FINISHED, Status.PARTIALLY_PAID, Status.REVIEW)
DUST = Decimal("1e-12")  # SQLite keeps fifteen digits of an amount

MESSAGES = {
    "unknown_at_nowpayments": (
        "NOWPayments does not know payment {payment} under our API key. Check whether the key belongs to the account"
        " that made it."
    ),
    "finished_here_only": (
        "Payment {payment} counts as paid here, but what NOWPayments says now would not be taken ({reason}; they say"
        " “{theirs}”). Compare the numbers; hold or refund the order if the money is not there."
    ),
    "payment_differs": (
        "NOWPayments says “{theirs}” of payment {payment}, we say “{ours}”. Use “Read again at the provider” in the"
        " admin; if it stays so, decide about the payment there."
    ),
    "coins_differ": (
        "NOWPayments says that {theirs} {coin} came with payment {payment}, we have {ours}. Use “Read again at the"
        " provider” in the admin, then decide about what is left over or missing."
    ),
    "child_unknown": (
        "NOWPayments has payment {child}, made by more coins on the address of {payment}, and we do not. Let"
        " NOWPayments send its IPN again from their dashboard, or refund it by hand."
    ),
    "unknown_at_supplier": (
        "The supplier does not know its order {purchase}, which we have for purchase {reservation}. Check whether"
        " our credentials belong to the account that bought it."
    ),
    "bought_twice": "{error}. Return one of them at the supplier, and report this: it must never happen.",
    ADOPTABLE: (
        "The supplier has order {purchase} for purchase {reservation}, which was not bought according to our rows,"
        " as after restoring a backup. Leave safe mode on and run `manage.py reconcile --ask --adopt`: the order is"
        " adopted instead of bought again."
    ),
    "surplus_purchase": (
        "The supplier has order {purchase} for purchase {reservation}, which is “{ours}” without it. Return its keys"
        " at the supplier within a day."
    ),
    "bought_not_adopted": (
        "The supplier has order {purchase} for purchase {reservation}, which is “{ours}”. Use “Search at the"
        " supplier” on the purchase: it is adopted."
    ),
    "purchase_without_order": (
        "The supplier has order {purchase} under the name {reservation}, which none of our rows has, as after restoring"
        " a backup of before it was placed. Unless another shop of yours bought it: return its keys within a day, or"
        " find the customer by the payment and send them the key. Then record it:"
        " `manage.py acknowledge_purchase {purchase} --reason …`."
    ),
    "foreign_purchase": (
        "The supplier's order {purchase} carries the external id {theirs}, we have it for purchase {reservation}."
        " Find out which of the two was bought."
    ),
    "taken_back_after_delivery": (
        "The supplier says “{theirs}” of order {purchase}, whose keys are delivered for purchase {reservation}. Ask"
        " them whether the keys still work."
    ),
    "purchase_ended": (
        "The supplier says “{theirs}” of order {purchase}, which purchase {reservation} waits for. Use “Run now” on"
        " the purchase: the customer is owed the money."
    ),
    "purchase_not_ended": (
        "The supplier says “{theirs}” of order {purchase}, but purchase {reservation} is “{ours}”. Return the keys"
        " at the supplier, or deliver them by hand."
    ),
    "surplus_keys": (
        "The supplier handed out {theirs} keys with order {purchase}, purchase {reservation} has {ours}. Return"
        " what is too many."
    ),
    "cost_differs": (
        "The supplier took {theirs} EUR for order {purchase}, our ledger says {ours} EUR. The margin is off by that"
        " much; complain to the supplier if theirs is wrong."
    ),
}

# What stays as it is although staff dealt with it: the key was returned, the money was complained about.
OF_A_PAYMENT = frozenset({"unknown_at_nowpayments", "finished_here_only", "coins_differ", "child_unknown"})
OF_A_PURCHASE = frozenset(
    {
        "unknown_at_supplier",
        "bought_twice",
        "surplus_purchase",
        "foreign_purchase",
        "taken_back_after_delivery",
        "purchase_not_ended",
        "surplus_keys",
        "cost_differs",
    }
)
Said = tuple[str, str]
AnyRow = TypeVar("AnyRow", Payment, Reservation)


@dataclass
class Answers:
    """The differences that one provider's answers showed, and the questions it did not answer."""

    asked: int = 0
    differences: list[Difference] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Doubt:
    """A difference seen while asking; it counts if the row has not moved on by the end."""

    row: Model
    state: tuple[object, ...]
    difference: Difference


def ask_nowpayments(scope: Scope) -> Answers:
    """Re-read every payment of the scope, or of the last seven days."""
    client = NowPaymentsClient.from_settings()
    payments = Payment.objects.filter(_recent(scope, "order__"), external_id__isnull=False).order_by("-created_at")

    def look(payment: Payment) -> Iterator[Said]:
        try:
            facts = client.read_payment(str(payment.external_id), urgency=Urgency.BACKGROUND)
        except PaymentNotFound:
            yield _say("unknown_at_nowpayments", payment=payment.external_id)
        else:
            yield from payment_doubts(payment, facts)

    return _ask_each("NOWPayments", payments, look, _payment_state)


def ask_supplier(scope: Scope) -> Answers:
    """Re-read every supplier's order of the scope, or of the last seven days, and search for those that have none."""
    client = kinguin.client()
    reservations = Reservation.objects.filter(_recent(scope, "item__order__"), dialect=client.dialect)
    if not client.can_find:
        reservations = reservations.filter(supplier_order_id__isnull=False)
    rows = reservations.select_related("item").order_by("-created_at")
    answers = _ask_each("Kinguin", rows, lambda reservation: _look(client, reservation), _reservation_state)
    # Only this dialect lists orders; and one that just failed is not asked for all of them.
    if isinstance(client, EcommerceClient) and scope.order is None and not answers.complaints:
        _look_for_strangers(client, timezone.now() - (scope.since or WINDOW), answers)
    return answers


def let_search(external_id: str, *, actor: str) -> bool:
    """Let the pipeline adopt a purchase that our rows never heard of. Return False if it is no longer pending.

    The reservation is held as unknown, so from here on it is searched for and not bought.
    """
    with transaction.atomic():
        reservation = Reservation.objects.select_related("item__order").get(external_id=external_id)
        reservation.item.order.lock()
        if reservation.lock().status != Reservation.Status.PENDING:
            return False
        return reservation.move(
            Reservation.Status.HELD,
            message="The supplier has an order for it: it is searched for instead of bought again.",
            actor=actor,
            reason=HoldReason.FOUND_AT_SUPPLIER,
            unknown_at=Now(),
            next_attempt_at=Now(),
        )


def _recent(scope: Scope, path: str) -> Q:
    return scope.of(path) if scope.order or scope.since else Q(created_at__gte=Now() - WINDOW)


def _ask_each(
    provider: str,
    rows: QuerySet[AnyRow],
    look: Callable[[AnyRow], Iterator[Said]],
    state: Callable[[AnyRow], tuple[object, ...]],
) -> Answers:
    """Check row after row until the provider refuses more; doubts about rows that moved on are dropped."""
    answers, total, failures = Answers(), rows.count(), 0
    doubts: list[Doubt] = []
    for row in rows.iterator(chunk_size=200):
        answers.asked += 1
        try:
            for kind, message in look(row):
                doubts.append(Doubt(row, state(row), _difference(row, kind, message)))
            failures = 0
        except ProviderError as err:
            failures += 1
            answers.complaints.append(f"{provider} gave no usable answer about {row}: {err}"[:300])
            if reason := _why_stop(provider, err, failures):
                left = max(total - answers.asked, 0)
                answers.complaints.append(f"{reason} {left} more were not asked about. Run this again later.")
                break
    answers.differences = [doubt.difference for doubt in doubts if _still_so(doubt, state)]
    return answers


def _why_stop(provider: str, err: ProviderError, failures: int) -> str:
    if err.status == MANY_REQUESTS:
        return f"{provider} says that these are too many requests, so the check stopped."
    if err.status in REFUSALS:
        return f"{provider} refuses our credentials, so the check stopped; correct them in the environment."
    if failures >= FAILURES_TO_STOP:
        return f"{provider} failed {failures} times in a row, so the check stopped."
    return ""


def _still_so(doubt: Doubt, state: Callable[..., tuple[object, ...]]) -> bool:
    current = type(doubt.row)._default_manager.filter(pk=doubt.row.pk).first()
    return current is not None and state(current) == doubt.state


def _difference(row: Payment | Reservation, kind: str, message: str) -> Difference:
    subject = str(row.external_id)
    # The message holds every fact: another amount or status makes it another difference.
    stays = kind in OF_A_PAYMENT | OF_A_PURCHASE
    facts = sha256(f"{subject}: {message}".encode()).hexdigest() if stays else ""
    return Difference(kind, _order_id(row), message, subject, facts)


def _order_id(row: Payment | Reservation) -> str:
    return str(row.order_id if isinstance(row, Payment) else row.item.order_id)


def _payment_state(payment: Payment) -> tuple[object, ...]:
    return payment.status, payment.actually_paid, payment.reason


def _reservation_state(reservation: Reservation) -> tuple[object, ...]:
    return reservation.status, reservation.supplier_order_id, reservation.manual, reservation.reason


def _say(kind: str, **facts: object) -> Said:
    return kind, MESSAGES[kind].format_map(facts)


# --- payments ---


def payment_doubts(payment: Payment, facts: PaymentFacts) -> Iterator[Said]:
    """Yield what the provider's facts say differently from our row."""
    name, theirs = payment.external_id, facts.raw_status[:40]
    if reason := _no_longer_paid(payment, facts):
        yield _say("finished_here_only", payment=name, reason=reason, theirs=theirs)
    elif not _agrees(payment, facts):
        yield _say("payment_differs", payment=name, ours=payment.status, theirs=theirs)
    elif payment.status in SETTLED and abs(facts.actually_paid - payment.actually_paid) > DUST:
        ours, coin = plain(payment.actually_paid), facts.pay_currency.upper()
        yield _say("coins_differ", payment=name, ours=ours, theirs=plain(facts.actually_paid), coin=coin)
    known = set(Payment.objects.filter(external_id__in=facts.payment_extra_ids).values_list("external_id", flat=True))
    for child in sorted(set(facts.payment_extra_ids) - known):
        yield _say("child_unknown", payment=name, child=child)


def _no_longer_paid(payment: Payment, facts: PaymentFacts) -> ReviewReason | None:
    if payment.status != Status.FINISHED or payment.reason == ReviewReason.ACCEPTED:
        return None
    return objection(payment, facts, tolerance=settings.PAYMENT_TOLERANCE)


def _agrees(payment: Payment, facts: PaymentFacts) -> bool:
    if facts.status in AGREES:
        return payment.status in AGREES[facts.status]
    if facts.status in (ProviderStatus.EXPIRED, ProviderStatus.FAILED, ProviderStatus.CANCELLED):
        # They end what is not over here; and money in an ended payment is somebody's.
        return payment.status not in Payment.OPEN and not (facts.actually_paid > 0 and payment.status in NO_MONEY)
    # On its way there: here it may lag behind, but neither be over nor forgotten.
    is_over = payment.status in (Status.REFUNDED, Status.FAILED, Status.CANCELLED)
    is_forgotten = payment.status == Status.EXPIRED and payment.next_attempt_at is None
    return not is_over and not (is_forgotten and facts.status is not ProviderStatus.WAITING)


# --- purchases ---


def _look(client: KinguinClient, reservation: Reservation) -> Iterator[Said]:
    purchase = reservation.supplier_order_id
    if purchase is None:
        yield from _search(client, reservation)
        return
    try:
        seen = client.read(purchase)
    except KinguinRejected as err:
        if err.status != 404:
            raise
        yield _say("unknown_at_supplier", purchase=purchase, reservation=reservation.external_id)
    else:
        keys = reservation.keys.count()
        yield from purchase_doubts(reservation, seen, keys)


def _search(client: KinguinClient, reservation: Reservation) -> Iterator[Said]:
    """Search for a purchase that was not made as far as our rows know."""
    try:
        found = client.find(reservation.external_id)
    except AmbiguousSearch as err:
        yield _say("bought_twice", error=err)
        return
    # A worker is buying it right now, or died and another will find out.
    if found is None or reservation.status == Reservation.Status.SENDING:
        return
    kind = "bought_not_adopted"
    if reservation.status == Reservation.Status.PENDING:
        kind = ADOPTABLE
    elif reservation.status in (Reservation.Status.DELIVERED, *GIVEN_UP):
        kind = "surplus_purchase"
    yield _say(kind, purchase=found.order_id, reservation=reservation.external_id, ours=reservation.status)


def _look_for_strangers(client: EcommerceClient, since: datetime, answers: Answers) -> None:
    """Name purchases made the way BitLoot makes them that none of our rows has."""
    try:
        for orders in _in_batches(client.list_since(since)):
            names = {order.order_id: order.external_id for order in orders if _is_ours(order)}
            ours = Q(external_id__in=names.values()) | Q(supplier_order_id__in=names)
            known = {name for pair in Reservation.objects.filter(ours).values_list(*_NAMES) for name in pair}
            known |= set(ForeignPurchase.objects.filter(pk__in=names).values_list("pk", flat=True))
            for purchase, name in sorted(names.items()):
                if known.isdisjoint((purchase, name)):
                    kind, message = _say("purchase_without_order", purchase=purchase, reservation=name)
                    answers.differences.append(Difference(kind, "", message, name))
    except ProviderError as err:
        answers.complaints.append(f"Kinguin did not list its orders: {err}"[:300])


def _in_batches(orders: Iterable[SupplierOrder]) -> Iterator[list[SupplierOrder]]:
    batch: list[SupplierOrder] = []
    try:
        for order in orders:
            batch.append(order)
            if len(batch) == ASKED_AT_ONCE:
                yield batch
                batch = []
    except ProviderError:
        yield batch  # what they did list is looked at before it is said that this was not all
        raise
    yield batch


def _is_ours(order: SupplierOrder) -> bool:
    """Tell our purchases from others on the same account: ours are named after an order item, so by a UUID."""
    try:
        # Compared as text: UUID() also takes braces and capitals, which we never send.
        return not order.status.is_ended and str(uuid.UUID(order.external_id)) == order.external_id
    except ValueError:
        return False


def purchase_doubts(reservation: Reservation, seen: SupplierOrder, keys: int) -> Iterator[Said]:
    """Yield what the supplier's order says differently from our reservation and the number of its keys."""
    names = {"purchase": reservation.supplier_order_id, "reservation": reservation.external_id}
    if seen.external_id and seen.external_id != reservation.external_id:
        yield _say("foreign_purchase", theirs=seen.external_id, **names)
    if kind := _end_differs(reservation.status, seen.status):
        yield _say(kind, theirs=seen.status, ours=reservation.status, **names)
    if reservation.status == Reservation.Status.DELIVERED and seen.keys_ready > keys:
        yield _say("surplus_keys", theirs=seen.keys_ready, ours=keys, **names)
    if seen.status in NOT_ENDED and seen.cost is not None and seen.cost != reservation.cost:
        yield _say("cost_differs", theirs=seen.cost, ours=reservation.cost or 0, **names)


def _end_differs(ours: str, theirs: SupplierStatus) -> str:
    if ours == Reservation.Status.DELIVERED and theirs.is_ended:
        return "taken_back_after_delivery"
    if ours in OPEN_PURCHASE and theirs.is_ended:
        return "purchase_ended"
    return "purchase_not_ended" if ours in GIVEN_UP and theirs in NOT_ENDED else ""

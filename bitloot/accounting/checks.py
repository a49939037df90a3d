"""What does not add up between the rows: one statement of SQL per kind of difference, and a sentence for each find."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.db.models import (
    CharField,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    Model,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
)
from django.db.models.functions import Cast, Coalesce, Lower, Now, Replace

from bitloot.accounting.ledger import COINS, IN_WORK, MONEY, OPEN_PURCHASE, Scope, given_back, value_of
from bitloot.accounting.models import Acknowledgement
from bitloot.core.money import cents
from fulfillment.models import UNITS, Reservation, ReservationAttempt
from orders.choices import AlertKind
from orders.models import Alert, Order, OrderItem
from payments.balance import LEAST_SURPLUS
from payments.choices import ReviewReason
from payments.models import Payment, Refund
from storage.models import Key

# SQLite adds decimals up as floating point numbers.
HALF_CENT = Decimal("0.005")
ROUNDING = Decimal("1.000000001")  # a factor for coins, which have no smallest unit in common
PATIENCE_WITH_PARTS = timedelta(days=7)
PATIENCE_WITH_ANSWERS = timedelta(minutes=15)
UNPAID = (Order.Status.PENDING, Order.Status.UNDERPAID, Order.Status.EXPIRED, Order.Status.CANCELLED)
# An open alert of these kinds does not mean that staff know what an order is waiting for.
TELL_OF_NO_TROUBLE = (
    AlertKind.MAIL_FAILED, AlertKind.MAIL_BOUNCED, AlertKind.OVERPAID, AlertKind.ACCEPTED_BELOW_PRICE,
    AlertKind.REFUND_OF_DELIVERED,
)  # fmt: skip
NOT_SERVED = (*UNPAID, Order.Status.FAILED)

Rows = QuerySet[Any, Any]


@dataclass(frozen=True)
class Difference:
    kind: str
    order: str
    message: str
    external_id: str = ""  # of the payment or reservation, where a provider was asked or staff may acknowledge it
    facts: str = ""  # a digest of all that it consists of, where staff may acknowledge it


@dataclass(frozen=True)
class Check:
    kind: str
    rows: Callable[[Scope], Rows]
    message: str
    order: str = "pk"  # the name of the order's id in a row
    # The name of the id by which staff acknowledge it; "" where a decision in the admin ends the difference.
    subject: str = ""


def differences(scope: Scope) -> Iterator[Difference]:
    """Return every contradiction between two rows. Orders that are being worked on do not count.

    Nor does what staff acknowledged, while it consists of the same facts.
    """
    return unacknowledged(difference for check in CHECKS for difference in found_by(check, scope))


def unacknowledged(found: Iterable[Difference]) -> Iterator[Difference]:
    acknowledged = set(Acknowledgement.objects.values_list("kind", "facts"))
    return (difference for difference in found if (difference.kind, difference.facts) not in acknowledged)


def found_by(check: Check, scope: Scope) -> Iterator[Difference]:
    for row in check.rows(scope).iterator():
        message = check.message.format_map({**row, "came": cents(row.get("came", Decimal(0)))})
        if check.subject:
            yield Difference(check.kind, str(row[check.order]), message, str(row[check.subject]), _digest(row))
        else:
            yield Difference(check.kind, str(row[check.order]), message)


def _digest(row: dict[str, Any]) -> str:
    return sha256(repr(sorted((name, str(value)) for name, value in row.items())).encode()).hexdigest()


def _orders(scope: Scope, *statuses: str) -> QuerySet[Order]:
    return Order.objects.filter(scope.of(), status__in=statuses).order_by("created_at")


def _reservations(scope: Scope) -> QuerySet[Reservation]:
    return Reservation.objects.filter(scope.of("item__order__")).order_by("created_at")


def _alert(order: str = "pk") -> Exists:
    """The condition that staff have an open alert about this order's trouble."""
    open_alerts = Alert.objects.filter(order=OuterRef(order), status=Alert.Status.OPEN)
    return Exists(open_alerts.exclude(kind__in=TELL_OF_NO_TROUBLE))


def _work() -> Exists:
    """The condition that a worker will look at this order without being asked."""
    due = Reservation.objects.filter(item__order=OuterRef("pk"), next_attempt_at__isnull=False)
    return Exists(due)


def _paid_without_money(scope: Scope) -> Rows:
    # Once the keys are out, or staff have it, money that arrived and was returned still counts as having arrived.
    settled = Q(status=Order.Status.FULFILLED) | Q(status=Order.Status.HELD, paid_at__isnull=False)
    same_currency = Q(payments__price_currency=Lower("currency"))
    went_back = Q(payments__status=Payment.Status.REFUNDED)
    orders = Order.objects.filter(scope.of()).filter(settled | Q(status__in=IN_WORK)).order_by("created_at")
    sums = orders.values("pk", "status", "total", "currency").annotate(
        came=Coalesce(Sum(value_of("payments__"), filter=same_currency & (settled | ~went_back)), Decimal(0)),
        accepted=Count("payments", filter=Q(payments__reason=ReviewReason.ACCEPTED)),
    )
    # What staff accepted with too little is `accepted_below_price`.
    return sums.filter(accepted=0, came__lt=F("total") - HALF_CENT)


def _money_without_order(scope: Scope) -> Rows:
    refunds = Refund.objects.filter(payment=OuterRef("pk"))
    finished = Payment.objects.filter(scope.of("order__"), status=Payment.Status.FINISHED).order_by("created_at")
    lost = finished.filter(~Exists(refunds), order__status__in=NOT_SERVED)
    return lost.values("external_id", "order_id", "order__status")


def _order_stuck(scope: Scope) -> Rows:
    return _orders(scope, *IN_WORK).filter(~_work(), ~_alert()).values("pk", "status")


def _held_unnoticed(scope: Scope) -> Rows:
    return _orders(scope, Order.Status.HELD).filter(~_work(), ~_alert()).values("pk", "reason")


def _fulfilled_undelivered(scope: Scope) -> Rows:
    items = OrderItem.objects.filter(scope.of("order__"), order__status=Order.Status.FULFILLED).order_by("pk")
    delivered = Reservation.objects.filter(item=OuterRef("pk"), status=Reservation.Status.DELIVERED)
    return items.filter(~Exists(delivered)).values("pk", "title", "order_id").annotate(count=Count("keys"))


def _wrong_number_of_keys(scope: Scope) -> Rows:
    # Replacements are counted with the keys that they replace, not with the item's.
    delivered = _reservations(scope).filter(status=Reservation.Status.DELIVERED, replaces=None)
    keys = Count("item__keys", filter=Q(item__keys__replaces=None))
    counted = delivered.values("external_id", "item__quantity", "item__order_id").annotate(count=keys)
    return counted.exclude(count=F("item__quantity"))


def _delivered_without_purchase(scope: Scope) -> Rows:
    delivered = _reservations(scope).filter(status=Reservation.Status.DELIVERED, manual=False)
    without = delivered.filter(supplier_order_id__isnull=True).values("external_id", "item__order_id")
    return without.annotate(count=Count("item__keys"))


def _key_for_unpaid_order(scope: Scope) -> Rows:
    # A shredded key opens for nobody: staff took care of it.
    keys = Key.objects.filter(scope.of("item__order__")).exclude(status=Key.Status.SHREDDED)
    # What is served without money is `paid_without_money`.
    is_served = Q(item__order__status__in=[*IN_WORK, Order.Status.FULFILLED])
    never_paid = Q(item__order__paid_at__isnull=True) & ~is_served
    unpaid = keys.filter(never_paid | Q(item__order__status__in=UNPAID)).order_by()
    return unpaid.values("item__order_id", "item__order__status").annotate(count=Count("pk"))


def _purchase_astray(scope: Scope) -> Rows:
    accounted = [Reservation.Status.DELIVERED, Reservation.Status.HELD, *OPEN_PURCHASE]
    bought = _reservations(scope).filter(supplier_order_id__isnull=False).exclude(status__in=accounted)
    return bought.filter(~given_back()).values("external_id", "supplier_order_id", "status", "item__order_id")


def _two_for_one_purchase(scope: Scope) -> Rows:
    # A unique constraint forbids it; a database that was loaded without its constraints does not know that.
    twin = Reservation.objects.filter(supplier_order_id=OuterRef("supplier_order_id"), pk__lt=OuterRef("pk"))
    twins = _reservations(scope).filter(Exists(twin))
    return twins.values("external_id", "supplier_order_id", "item__order_id")


def _bought_twice(scope: Scope) -> Rows:
    permits = ReservationAttempt.objects.filter(scope.of("reservation__item__order__")).order_by()
    placed = permits.filter(outcome=ReservationAttempt.Outcome.PLACED)
    counted = placed.values("reservation").annotate(count=Count("pk"))
    twice = counted.filter(count__gt=1).values("reservation")
    bought = _reservations(scope).filter(pk__in=twice).values("external_id", "item__order_id")
    return bought.annotate(count=Count("permits", filter=Q(permits__outcome=ReservationAttempt.Outcome.PLACED)))


def _permit_open(scope: Scope) -> Rows:
    permits = ReservationAttempt.objects.filter(
        scope.of("reservation__item__order__"), outcome=ReservationAttempt.Outcome.OPEN
    )
    # While it is being sent, a permit has no outcome yet.
    left = permits.exclude(reservation__status=Reservation.Status.SENDING).order_by("pk")
    return left.values("number", "reservation__external_id", "reservation__status", "reservation__item__order_id")


def _refund_forgotten(scope: Scope) -> Rows:
    refunds = Refund.objects.filter(order=OuterRef("pk"))
    owed = _orders(scope, Order.Status.REFUND_DUE)
    return owed.filter(~Exists(refunds), ~_alert()).values("pk", "total", "currency")


def _refunded_without_refund(scope: Scope) -> Rows:
    refunds = Refund.objects.filter(order=OuterRef("pk"))
    undone = Exists(refunds.exclude(status=Refund.Status.DONE))
    by_the_provider = Payment.objects.filter(order=OuterRef("pk"), provider_status="refunded")
    none = ~Exists(refunds) & ~Exists(by_the_provider)
    return _orders(scope, Order.Status.REFUNDED).filter(undone | none).values("pk")


def _refund_not_sent(scope: Scope) -> Rows:
    waiting = Refund.objects.filter(scope.of("order__"), status=Refund.Status.REQUESTED, destination__isnull=False)
    return waiting.filter(~_alert("order")).order_by("created_at").values("pk", "currency", "order_id")


def _refunded_too_much(scope: Scope) -> Rows:
    refunds = Refund.objects.filter(scope.of("order__"), payment__isnull=False).order_by()
    arrived = F("payment__actually_paid") * Value(ROUNDING, output_field=COINS)
    summed = refunds.values("payment__external_id", "payment__actually_paid", "currency", "order_id")
    return summed.annotate(back=Sum("amount"), arrived=arrived).filter(back__gt=F("arrived"))


def _accepted_below_price(scope: Scope) -> Rows:
    accepted = Payment.objects.filter(scope.of("order__"), reason=ReviewReason.ACCEPTED, credit__lt=F("price_amount"))
    looked_at = _looked_at(AlertKind.ACCEPTED_BELOW_PRICE, Payment)
    below = accepted.exclude(status=Payment.Status.REFUNDED).filter(~looked_at).order_by("created_at")
    return below.values("external_id", "credit", "price_amount", "price_currency", "order_id")


def _surplus_kept(scope: Scope) -> Rows:
    asked = F("pay_amount") * Value(1 + settings.OVERPAID_ALERT, output_field=COINS)
    surplus = F("actually_paid") - F("pay_amount")
    finished = Payment.objects.filter(scope.of("order__"), status=Payment.Status.FINISHED, actually_paid__gt=asked)
    worth = ExpressionWrapper(F("price_amount") * surplus, output_field=COINS)
    least = ExpressionWrapper(F("pay_amount") * Value(LEAST_SURPLUS, output_field=COINS), output_field=COINS)
    kept = finished.annotate(surplus=surplus, worth=worth, least=least).filter(worth__gt=F("least"))
    goes_back = Exists(Refund.objects.filter(payment=OuterRef("pk")).exclude(kind=Refund.Kind.SHARE))
    unseen = kept.filter(~goes_back, ~_looked_at(AlertKind.OVERPAID, Payment)).order_by("created_at")
    return unseen.values("external_id", "surplus", "pay_currency", "order_id")


def _looked_at(kind: AlertKind, model: type[Model]) -> Exists:
    """The condition that staff closed the alert about this row: they know of it and leave it so."""
    closed = Alert.objects.filter(kind=kind, about_model=model._meta.label_lower, status=Alert.Status.CLOSED)
    # Alerts name a row by text. SQLite keeps UUIDs without dashes, PostgreSQL writes them with.
    pk = Replace(Cast(OuterRef("pk"), CharField()), Value("-"), Value(""))
    return Exists(closed.annotate(row=Replace("about_pk", Value("-"), Value(""))).filter(row=pk))


def _review_unnoticed(scope: Scope) -> Rows:
    refunds = Refund.objects.filter(payment=OuterRef("pk"))
    in_review = Payment.objects.filter(scope.of("order__"), status=Payment.Status.REVIEW, actually_paid__gt=0)
    unnoticed = in_review.filter(~Exists(refunds), ~_alert("order")).order_by("created_at")
    return unnoticed.values("external_id", "reason", "order_id")


def _part_forgotten(scope: Scope) -> Rows:
    refunds = Refund.objects.filter(order=OuterRef("pk"))
    waiting = _orders(scope, Order.Status.UNDERPAID).filter(expires_at__lt=Now() - PATIENCE_WITH_PARTS)
    return waiting.filter(~_alert(), ~Exists(refunds)).values("pk")


def _payment_unwatched(scope: Scope) -> Rows:
    unwatched = Payment.objects.filter(scope.of("order__"), next_attempt_at=None, status__in=Payment.OPEN)
    return unwatched.order_by("created_at").values("pk", "status", "order_id")


def _payment_unread(scope: Scope) -> Rows:
    unread = Payment.objects.filter(scope.of("order__"), unread_since__lt=Now() - PATIENCE_WITH_ANSWERS)
    return unread.order_by("created_at").values("external_id", "status", "order_id")


def _cost_above_cap(scope: Scope) -> Rows:
    permits = ReservationAttempt.objects.filter(reservation=OuterRef("pk")).order_by("-number")
    most = ExpressionWrapper(Subquery(permits.values("price")[:1]) * UNITS, output_field=MONEY)
    bought = _reservations(scope).filter(supplier_order_id__isnull=False).annotate(most=most)
    above = bought.filter(~_looked_at(AlertKind.COST_ABOVE_CAP, Reservation), cost__gt=F("most") + HALF_CENT)
    return above.values("external_id", "cost", "most", "item__order_id")


CHECKS = (
    Check(
        "paid_without_money",
        _paid_without_money,
        "Order {pk} is “{status}”, but its payments cover only {came} of {total} {currency}. Hold it, compare its"
        " payments with NOWPayments' dashboard, then accept one as paid with a reason, or refund it.",
    ),
    Check(
        "money_without_order",
        _money_without_order,
        "Payment {external_id} is finished, but its order {order_id} is “{order__status}”: somebody paid and gets"
        " nothing. Refund the payment, or hold the order and deliver it by hand.",
        order="order_id",
    ),
    Check(
        "order_stuck",
        _order_stuck,
        "Order {pk} is “{status}”, but no worker will look at it again and nobody was told. Run its delivery now from"
        " the admin; if it does not move, decide about its purchases one by one.",
    ),
    Check(
        "held_unnoticed",
        _held_unnoticed,
        "Order {pk} is held ({reason}) and no open alert says so. Decide about it: resume it, deliver by hand, or"
        " refund it.",
    ),
    Check(
        "fulfilled_undelivered",
        _fulfilled_undelivered,
        "Order {order_id} is fulfilled, but “{title}” has no delivered purchase and {count} keys. Look the item up at"
        " the supplier; send the customer what is missing.",
        order="order_id",
        subject="pk",
    ),
    Check(
        "wrong_number_of_keys",
        _wrong_number_of_keys,
        "Purchase {external_id} is delivered with {count} keys, its item has a quantity of {item__quantity}. Compare"
        " with the supplier's order; ask them for a missing key, or return one that is too many.",
        order="item__order_id",
        subject="external_id",
    ),
    Check(
        "delivered_without_purchase",
        _delivered_without_purchase,
        "Purchase {external_id} is delivered, but no supplier's order is known and nobody typed its codes. Search"
        " the supplier's dashboard for this id, and find out where its keys came from.",
        order="item__order_id",
        subject="external_id",
    ),
    Check(
        "key_for_unpaid_order",
        _key_for_unpaid_order,
        "Order {item__order_id} is “{item__order__status}” and never was paid, but has {count} keys. Destroy or return"
        " them unless the money is there, and find out how they came to it.",
        order="item__order_id",
    ),
    Check(
        "purchase_astray",
        _purchase_astray,
        "Purchase {external_id} is “{status}”, but the supplier's order {supplier_order_id} was bought for it. Let"
        " the supplier take it back if its keys were not seen, or deliver them by hand.",
        order="item__order_id",
    ),
    Check(
        "two_for_one_purchase",
        _two_for_one_purchase,
        "Purchase {external_id} claims the supplier's order {supplier_order_id} that another purchase has, too."
        " Look up whose external id the supplier's order carries; the other one was not bought.",
        order="item__order_id",
    ),
    Check(
        "bought_twice",
        _bought_twice,
        "Purchase {external_id} was bought {count} times. Turn safe mode on, return the surplus order"
        " at the supplier, and report this: it must never happen.",
        order="item__order_id",
        subject="external_id",
    ),
    Check(
        "permit_open",
        _permit_open,
        "Attempt {number} of purchase {reservation__external_id} has no outcome, though the purchase is"
        " “{reservation__status}”. Search the supplier for this external id before anything is bought or typed for it.",
        order="reservation__item__order_id",
        subject="reservation__external_id",
    ),
    Check(
        "refund_forgotten",
        _refund_forgotten,
        "Order {pk} is owed back ({total} {currency}), but there is no refund and no open alert. Use “Refund” on its"
        " payment in the admin, or find out where its money went.",
    ),
    Check(
        "refunded_without_refund",
        _refunded_without_refund,
        "Order {pk} is “refunded”, but its refunds are missing or not done. Check the transactions; send what was not"
        " sent.",
    ),
    Check(
        "refund_not_sent",
        _refund_not_sent,
        "Refund {pk} has had its address ({currency}) for a while and no open alert reminds of it. Send the coins and"
        " enter the transaction id.",
        order="order_id",
    ),
    Check(
        "refunded_too_much",
        _refunded_too_much,
        "Payment {payment__external_id} brought {payment__actually_paid} {currency}, and its refunds make {back}. Send"
        " no more than came; if more was sent, ask the customer for it.",
        order="order_id",
        subject="payment__external_id",
    ),
    Check(
        "accepted_below_price",
        _accepted_below_price,
        "Payment {external_id} was accepted although only {credit} of {price_amount} {price_currency} arrived. Look at"
        " it, then close its alert “Accepted below price”.",
        order="order_id",
    ),
    Check(
        "surplus_kept",
        _surplus_kept,
        "Payment {external_id} brought {surplus} {pay_currency} more than was asked for, and they do not go back."
        " Refund the surplus, or close its alert “Overpaid” to keep it.",
        order="order_id",
    ),
    Check(
        "review_unnoticed",
        _review_unnoticed,
        "Payment {external_id} brought money, is in review ({reason}) and no open alert says so. Accept it as paid or"
        " refund it.",
        order="order_id",
    ),
    Check(
        "part_forgotten",
        _part_forgotten,
        "Order {pk} has been paid in part for over a week and no open alert says so. Ask for the rest, accept it, or"
        " refund what came.",
    ),
    Check(
        "payment_unwatched",
        _payment_unwatched,
        "Payment {pk} is “{status}”, but no worker will read it again. Use “Read again at the provider” in the admin.",
        order="order_id",
    ),
    Check(
        "payment_unread",
        _payment_unread,
        "Payment {external_id} is “{status}”, and NOWPayments has given no usable answer about it for over a quarter of"
        " an hour: money may be there that is not counted. Look it up in their dashboard; use “Read again at the"
        " provider” once they answer.",
        order="order_id",
    ),
    Check(
        "cost_above_cap",
        _cost_above_cap,
        "The supplier took {cost} EUR for purchase {external_id}, at most {most} EUR were agreed. Ask the supplier"
        " for the difference, then close its alert “Cost above the cap”.",
        order="item__order_id",
    ),
)

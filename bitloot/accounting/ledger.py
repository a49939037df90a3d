"""The ledger, added up from the rows: what came in, what the supplier took, what was delivered and is owed."""

import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Case, Count, DecimalField, Exists, F, OuterRef, Q, Subquery, Sum, Value, When
from django.db.models.functions import Coalesce, Now

from bitloot.core.money import cents, plain
from fulfillment.choices import HoldReason
from fulfillment.models import UNITS, Reservation
from orders.models import Order
from payments.choices import ReviewReason
from payments.models import Payment, Refund
from storage.models import Key

MONEY = DecimalField(max_digits=14, decimal_places=2)
COINS = DecimalField(max_digits=40, decimal_places=18)
IN_WORK = (Order.Status.PAID, Order.Status.FULFILLING, Order.Status.PARTIALLY_FULFILLED)
OPEN_PURCHASE = (Reservation.Status.RESERVED, Reservation.Status.GIVEN, Reservation.Status.UNKNOWN)
NO_SALE = (
    *(Order.Status.REFUND_DUE, Order.Status.REFUNDED),
    *(Order.Status.EXPIRED, Order.Status.CANCELLED, Order.Status.FAILED),
)


@dataclass(frozen=True)
class Scope:
    """Which orders are looked at: all, those placed in the last days, or one."""

    since: timedelta | None = None
    order: uuid.UUID | None = None

    def of(self, path: str = "") -> Q:
        """Return the condition for a model that reaches the order by `path`, as in "item__order__"."""
        chosen = Q()
        if self.since is not None:
            chosen &= Q(**{f"{path}created_at__gte": Now() - self.since})
        if self.order is not None:
            chosen &= Q(**{f"{path}pk": self.order})
        return chosen


@dataclass
class CoinBook:
    """One coin: how many payments brought it, what their price was, and what arrived beyond what was asked."""

    payments: int = 0
    price: Decimal = Decimal(0)
    arrived: Decimal = Decimal(0)
    surplus: Decimal = Decimal(0)
    in_review: Decimal = Decimal(0)
    refunds_requested: Decimal = Decimal(0)
    refunds_sent: Decimal = Decimal(0)
    refunds_done: Decimal = Decimal(0)


@dataclass
class Purchases:
    number: int = 0
    cost: Decimal = Decimal(0)


@dataclass
class Book:
    """What the rows say of all orders in one currency. The supplier is paid in EUR."""

    currency: str
    orders: dict[str, int] = field(default_factory=dict)
    refund_due: Decimal = Decimal(0)
    came_in: dict[str, Decimal] = field(default_factory=dict)
    coins: dict[str, CoinBook] = field(default_factory=dict)
    purchases: dict[str, Purchases] = field(default_factory=dict)
    keys_sold: int = 0
    keys_delivered: int = 0
    keys_by_hand: int = 0

    @property
    def total_in(self) -> Decimal:
        return sum(self.came_in.values(), Decimal(0))

    @property
    def supplier_took(self) -> Decimal:
        """What stays with the supplier: cancelled purchases were given back."""
        return sum((entry.cost for where, entry in self.purchases.items() if where != "given_back"), Decimal(0))

    @property
    def margin(self) -> Decimal | None:
        """The margin once everything owed is paid; None where the supplier's currency is another."""
        if self.currency != "EUR":
            return None
        kept = self.total_in - self.came_in.get("went_back", Decimal(0)) - self.came_in.get("owed_back", Decimal(0))
        return kept - self.supplier_took

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "total_in": self.total_in,
            "supplier_took": self.supplier_took,
            "margin": self.margin,
        }


def books(scope: Scope) -> dict[str, Book]:
    """Return one book per currency, by sums that the database makes."""
    found: dict[str, Book] = {}

    def book(currency: str) -> Book:
        return found.setdefault(currency.upper(), Book(currency.upper()))

    for order in _orders(scope):
        book(order["currency"]).orders[order["status"]] = order["number"]
        if order["status"] == Order.Status.REFUND_DUE:
            book(order["currency"]).refund_due = cents(order["worth"])
    for payment in _payments(scope):
        _enter_payment(book(payment["price_currency"]), payment)
    for refund in _refunds(scope):
        _enter_refund(book(refund["order__currency"]), refund)
    for purchase in _purchases(scope):
        entry = Purchases(purchase["number"], cents(purchase["worth"] or Decimal(0)))
        book(purchase["item__order__currency"]).purchases[purchase["where"]] = entry
    _enter_keys(scope, book)
    return dict(sorted(found.items()))


def value_of(payment: str = "") -> Case:
    """What a payment counts, in its price's currency: its price once finished, its credit while only a part came.

    One that staff accepted below its price counts with what arrived, too. What came and went back again still came.
    `payment` is the path to it.
    """
    status, price, credit = f"{payment}status", F(f"{payment}price_amount"), F(f"{payment}credit")
    was_finished = Q(**{status: Payment.Status.REFUNDED, f"{payment}finished_at__isnull": False})
    return Case(
        When(Q(**{f"{payment}reason": ReviewReason.ACCEPTED}), then=credit),
        When(Q(**{status: Payment.Status.FINISHED}) | was_finished, then=price),
        When(Q(**{f"{status}__in": [Payment.Status.PARTIALLY_PAID, Payment.Status.REFUNDED]}), then=credit),
        default=Value(Decimal(0)),
        output_field=MONEY,
    )


def given_back() -> Q:
    """The condition of a reservation whose purchase the supplier took back: they ended it, or nobody needs it."""
    unwanted = [Order.Status.REFUND_DUE, Order.Status.REFUNDED, Order.Status.CANCELLED]
    why = Q(reason__in=[HoldReason.CANCELED, HoldReason.REFUNDED, HoldReason.RETURNED]) | Q(
        item__order__status__in=unwanted
    )
    return Q(status=Reservation.Status.CANCELLED) & why


def _orders(scope: Scope) -> Any:
    rows = Order.objects.filter(scope.of()).order_by()
    return rows.values("currency", "status").annotate(number=Count("pk"), worth=Sum("total"))


def _payments(scope: Scope) -> Any:
    came = Payment.objects.filter(scope.of("order__"), actually_paid__gt=0).order_by()
    allowed = F("pay_amount") * Value(1 + settings.PAYMENT_TOLERANCE, output_field=COINS)
    beyond = Case(
        When(
            status=Payment.Status.FINISHED,
            actually_paid__gt=allowed,
            then=F("actually_paid") - F("pay_amount"),
        ),
        default=Value(Decimal(0)),
        output_field=COINS,
    )
    groups = came.annotate(where=_whereabouts()).values("price_currency", "pay_currency", "where", "status")
    return groups.annotate(
        number=Count("pk"),
        worth=Sum(value_of()),
        owed_back=Sum(_refunded(Q(status__in=[Refund.Status.REQUESTED, Refund.Status.SENT]))),
        went_back=Sum(_refunded(Q(status=Refund.Status.DONE))),
        arrived=Sum("actually_paid"),
        surplus=Sum(beyond),
    )


def _refunded(which: Q) -> Any:
    """What refunds take off what a payment counts; the provider's own refund (where it is “went back”) takes it all."""
    sums = Refund.objects.filter(which, payment=OuterRef("pk")).order_by().values("payment").annotate(sum=Sum("worth"))
    worth = Coalesce(Subquery(sums.values("sum"), output_field=MONEY), Value(Decimal(0)), output_field=MONEY)
    return Case(When(status=Payment.Status.REFUNDED, then=Value(Decimal(0))), default=worth, output_field=MONEY)


def _whereabouts() -> Case:
    """Where the money of a payment is now, judging by the state of its order."""
    refunds = Refund.objects.filter(payment=OuterRef("pk")).exclude(kind=Refund.Kind.SURPLUS)
    returned = [Order.Status.REFUND_DUE, Order.Status.REFUNDED]
    return Case(
        # First: money that the provider gave back is gone, in any state of the order.
        When(status=Payment.Status.REFUNDED, then=Value("went_back")),
        # What its refund does not take is the price of what was delivered.
        When(Exists(refunds), order__status__in=returned, then=Value("delivered")),
        When(order__status=Order.Status.REFUND_DUE, then=Value("owed_back")),
        When(order__status=Order.Status.REFUNDED, then=Value("went_back")),
        When(order__status=Order.Status.FULFILLED, then=Value("delivered")),
        When(order__status__in=IN_WORK, then=Value("in_work")),
        When(order__status=Order.Status.HELD, then=Value("held")),
        When(order__status__in=[Order.Status.PENDING, Order.Status.UNDERPAID], then=Value("waiting")),
        default=Value("astray"),
    )


def _refunds(scope: Scope) -> Any:
    rows = Refund.objects.filter(scope.of("order__")).order_by()
    return rows.values("order__currency", "currency", "status").annotate(amount=Sum("amount"))


def _purchases(scope: Scope) -> Any:
    bought = Reservation.objects.filter(scope.of("item__order__"), supplier_order_id__isnull=False).order_by()
    where = Case(
        When(given_back(), then=Value("given_back")),
        When(status=Reservation.Status.DELIVERED, then=Value("delivered")),
        # After “delivered”: a key that was handed out is no surplus, even if the money went back.
        When(item__order__status__in=NO_SALE, then=Value("surplus")),
        When(status=Reservation.Status.HELD, then=Value("held")),
        When(status__in=OPEN_PURCHASE, then=Value("open")),
        default=Value("astray"),
    )
    groups = bought.annotate(where=where).values("item__order__currency", "where")
    return groups.annotate(number=Count("pk"), worth=Sum("cost"))


def _enter_payment(book: Book, row: dict[str, Any]) -> None:
    coin = book.coins.setdefault(row["pay_currency"], CoinBook())
    if row["status"] == Payment.Status.REVIEW:
        coin.in_review += row["arrived"]
    worth = cents(row["worth"])
    back = {where: cents(row[where]) for where in ("owed_back", "went_back")}
    parts = [(row["where"], worth - sum(back.values())), *back.items()]
    for where, part in parts:
        if part:
            book.came_in[where] = book.came_in.get(where, Decimal(0)) + part
    coin.payments += row["number"]
    coin.price += worth
    coin.arrived += row["arrived"]
    coin.surplus += row["surplus"]


def _enter_refund(book: Book, row: dict[str, Any]) -> None:
    name = f"refunds_{row['status']}"
    coin = book.coins.setdefault(row["currency"], CoinBook())
    setattr(coin, name, getattr(coin, name) + row["amount"])


def _enter_keys(scope: Scope, book: Any) -> None:
    delivered = Reservation.objects.filter(scope.of("item__order__"), status=Reservation.Status.DELIVERED).order_by()
    sold = delivered.values("item__order__currency", "manual").annotate(number=Sum(UNITS))
    for row in sold:
        entry = book(row["item__order__currency"])
        entry.keys_sold += row["number"]
        entry.keys_by_hand += row["number"] if row["manual"] else 0
    kept = Key.objects.filter(scope.of("item__order__")).order_by().values("item__order__currency")
    for row in kept.annotate(number=Count("pk")):
        book(row["item__order__currency"]).keys_delivered = row["number"]


def lines(book: Book) -> Iterator[str]:
    """Write a book for people."""
    currency = book.currency
    orders = ", ".join(f"{number} {status}" for status, number in sorted(book.orders.items()))
    yield f"{currency}: {sum(book.orders.values())} orders: {orders or 'none'}"
    yield f"  Came in        {_sum(book.total_in, book.came_in, currency)}"
    for code, coin in sorted(book.coins.items()):
        yield f"    {_coin_line(code, coin, currency)}"
    costs = {where: entry.cost for where, entry in book.purchases.items()}
    bought = sum(entry.number for entry in book.purchases.values())
    yield f"  Supplier took  {_sum(book.supplier_took, costs, 'EUR')}; {bought} purchases"
    by_hand = f", {book.keys_by_hand} by hand" if book.keys_by_hand else ""
    yield f"  Keys           {book.keys_delivered} here, {book.keys_sold} delivered as sold{by_hand}"
    if book.refund_due:
        yield f"  Owed back      orders of {plain(book.refund_due)} {currency}"
    if book.margin is not None:
        yield f"  Left           {plain(book.margin)} {currency}"


def _sum(total: Decimal, parts: dict[str, Decimal], currency: str) -> str:
    shown = ", ".join(f"{where.replace('_', ' ')} {plain(worth)}" for where, worth in sorted(parts.items()))
    return f"{plain(total)} {currency}" + (f" ({shown})" if shown else "")


def _coin_line(code: str, coin: CoinBook, currency: str) -> str:
    extras = {
        "beyond what was asked": coin.surplus,
        "in review": coin.in_review,
        "to be refunded": coin.refunds_requested,
        "sent back": coin.refunds_sent,
        "arrived back": coin.refunds_done,
    }
    shown = "".join(f"; {plain(amount)} {name}" for name, amount in extras.items() if amount)
    return f"{plain(coin.arrived)} {code.upper()} in {coin.payments} payments for {plain(coin.price)} {currency}{shown}"

"""What of an order's price has come, and what is left to pay."""

from collections.abc import Iterable
from decimal import ROUND_DOWN, Decimal

from django.conf import settings
from django.db.models import Count, Q, QuerySet, Sum

from bitloot.core.money import CENT, cents
from orders.models import Order
from payments.choices import ReviewReason
from payments.models import Payment
from payments.nowpayments import PaymentFacts
from storage.models import Key

NOTHING = Decimal("0.00")
LEAST_SURPLUS = Decimal("1.00")  # in the order's currency
DUST = Decimal("1E-12")  # a share that stands for nothing


def amount_due(order: Order) -> Decimal:
    """Return what is left to pay, in the order's currency: partial payments count with what arrived."""
    return left_to_pay(order, order.payments.all())


def left_to_pay(order: Order, payments: Iterable[Payment]) -> Decimal:
    """Return `amount_due` for a caller that has read all payments of the order already."""
    finished = sum((payment.price_amount for payment in payments if payment.status == Payment.Status.FINISHED), NOTHING)
    partial = sum((payment.credit for payment in payments if payment.status == Payment.Status.PARTIALLY_PAID), NOTHING)
    return max(order.total - finished - partial, NOTHING)


def credited(payments: QuerySet[Payment]) -> Decimal:
    counted = payments.filter(status=Payment.Status.PARTIALLY_PAID)
    # SQLite sums in its own precision.
    return cents(counted.aggregate(total=Sum("credit"))["total"] or Decimal(0))


def credit_of(payment: Payment, facts: PaymentFacts) -> Decimal:
    """Return the share of the price that arrived, rounded down, and a cent short of it all: it was not all."""
    share = min(facts.actually_paid / payment.pay_amount, Decimal(1)) if payment.pay_amount else Decimal(0)
    return max(min((payment.price_amount * share).quantize(CENT, ROUND_DOWN), payment.price_amount - CENT), Decimal(0))


def counted(payment: Payment) -> Decimal:
    """Return what a payment counts towards the price: an accepted one only what arrived."""
    if payment.status == Payment.Status.FINISHED and payment.reason != ReviewReason.ACCEPTED:
        return payment.price_amount
    return payment.credit if payment.status in (Payment.Status.FINISHED, Payment.Status.PARTIALLY_PAID) else NOTHING


def left_of(payment: Payment, *, status: str = "") -> Decimal:
    """Return the coins of a payment that no refund (in this status) takes; the caller holds its lock."""
    refunds = payment.refunds.filter(status=status) if status else payment.refunds.all()
    # Summed here: SQLite sums in its own precision, and loses what no coin is divided into.
    left = payment.actually_paid - sum((refund.amount for refund in refunds), NOTHING)
    return left if left > payment.actually_paid * DUST else NOTHING


def surplus_of(payment: Payment, *, arrived: Decimal | None = None) -> Decimal:
    """Return the coins that came beyond what was asked, were not waived by staff, and no refund takes."""
    arrived = payment.actually_paid if arrived is None else arrived
    if payment.status != Payment.Status.FINISHED or not payment.pay_amount or arrived <= payment.pay_amount:
        return NOTHING
    # Of each refund only what went beyond the part of the price that it gives back.
    price = payment.pay_amount / payment.price_amount
    taken = sum((max(r.amount - price * r.worth, NOTHING) for r in payment.refunds.all()), NOTHING)
    surplus = arrived - payment.pay_amount - taken
    return surplus if surplus > arrived * DUST else NOTHING


def is_noticeable(payment: Payment, surplus: Decimal) -> bool:
    """Whether a surplus is more than what wallets and rounding leave: a share of the price, and one unit of money."""
    if not payment.pay_amount or surplus <= payment.pay_amount * settings.OVERPAID_ALERT:
        return False
    return payment.price_amount * surplus / payment.pay_amount > LEAST_SURPLUS


def delivered_worth(order: Order) -> Decimal:
    """Return the price of the keys that the customer has: those kept for them, and those seen before they went."""
    has = Q(keys__viewed_at__isnull=False) | ~Q(keys__status=Key.Status.SHREDDED)
    items = order.items.annotate(number=Count("keys", filter=has))
    # A key that was seen and then replaced counts beside its replacement, so there may be more keys than units.
    return sum((item.unit_price * min(item.number, item.quantity) for item in items), NOTHING)


def worth_of(payment: Payment) -> Decimal:
    """Return what the coins that arrived are worth at the payment's own quote, at most its price."""
    if not payment.pay_amount:
        return NOTHING
    share = min(payment.actually_paid / payment.pay_amount, Decimal(1))
    return (payment.price_amount * share).quantize(CENT, ROUND_DOWN)

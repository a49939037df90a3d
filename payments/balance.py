"""What of an order's price has come, and what is left to pay."""

from collections.abc import Iterable
from decimal import ROUND_DOWN, Decimal

from django.db.models import QuerySet, Sum

from bitloot.core.money import CENT, cents
from orders.models import Order
from payments.models import Payment
from payments.nowpayments import PaymentFacts

NOTHING = Decimal("0.00")


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


def worth_of(payment: Payment) -> Decimal:
    """Return what the coins that arrived are worth at the payment's own quote, at most its price."""
    if not payment.pay_amount:
        return NOTHING
    share = min(payment.actually_paid / payment.pay_amount, Decimal(1))
    return (payment.price_amount * share).quantize(CENT, ROUND_DOWN)

"""The one answer to "is it really paid?"."""

from decimal import Decimal

from django.utils import timezone

from payments.balance import DUST
from payments.choices import ReviewReason
from payments.models import Payment
from payments.nowpayments import UNIT, PaymentFacts, ProviderStatus


def objection(payment: Payment, facts: PaymentFacts, *, tolerance: Decimal) -> ReviewReason | None:
    """Return why this re-read payment does not bring the price that we asked for, or None if it does.

    `facts` come from GET /payment/{id} and nowhere else. Amounts are compared exactly, but for `tolerance`, the
    fraction of the asked amount that may be missing.
    """
    if facts.status is not ProviderStatus.FINISHED:
        return ReviewReason.NOT_FINISHED
    # Identity before amounts: the amounts of another payment prove nothing.
    return binding_objection(payment, facts) or _amount_objection(payment, facts, tolerance)


def is_late(payment: Payment, facts: PaymentFacts) -> bool:
    """Return whether the last of the coins came after the rate had ended, as far as anybody saw them come."""
    # What came on top is seen only now, no matter when the coins before it were seen.
    seen_at = None if brings_more(payment, facts) else payment.coins_seen_at
    return (seen_at or timezone.now()) > payment.quote_ended_at


def brings_more(payment: Payment, facts: PaymentFacts) -> bool:
    """Return whether further coins came to a payment to which some had come before."""
    return payment.actually_paid > 0 and exceeds(facts.actually_paid, payment.actually_paid)


def exceeds(amount: Decimal, other: Decimal) -> bool:
    """Return whether an amount of coins is larger by more than what a database may have rounded off the other."""
    return amount - other > max(other * DUST, UNIT)


def binding_objection(payment: Payment, facts: PaymentFacts) -> ReviewReason | None:
    """Return why these facts are not about the payment that we created for this order, or None if they are."""
    if not payment.external_id or facts.payment_id != payment.external_id:
        return ReviewReason.OTHER_PAYMENT
    # NOWPayments opens a separate payment for a second deposit, or for one in another coin; nobody agreed on its price.
    if facts.parent_payment_id:
        return ReviewReason.CHILD_PAYMENT
    if facts.order_id != str(payment.order_id):
        return ReviewReason.OTHER_ORDER
    # A row that was opened for staff (`sync._adopt`): nobody agreed on its price, however well the numbers fit.
    if payment.parent_external_id:
        return ReviewReason.NOT_CREATED_BY_US
    if facts.price_currency != payment.price_currency.lower():
        return ReviewReason.OTHER_PRICE_CURRENCY
    if facts.price_amount != payment.price_amount:
        return ReviewReason.OTHER_PRICE
    if facts.pay_currency != payment.pay_currency:
        return ReviewReason.OTHER_COIN
    return None


def _amount_objection(payment: Payment, facts: PaymentFacts, tolerance: Decimal) -> ReviewReason | None:
    asked = payment.pay_amount
    if asked is None or asked <= 0 or not facts.actually_paid.is_finite():
        return ReviewReason.NO_AMOUNT
    if facts.actually_paid <= 0:
        return ReviewReason.NOTHING_PAID
    if facts.actually_paid < asked * (1 - tolerance):
        return ReviewReason.TOO_LITTLE
    return None

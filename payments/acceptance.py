"""The one answer to "is it really paid?"."""

from decimal import Decimal

from payments.models import Payment
from payments.nowpayments import PaymentFacts, ProviderStatus


def objection(payment: Payment, facts: PaymentFacts, *, tolerance: Decimal) -> str:
    """Return why this re-read payment does not bring the price that we asked for, or "" if it does.

    `facts` come from GET /payment/{id} and nowhere else. Amounts are compared exactly, but for `tolerance`, the
    fraction of the asked amount that may be missing.
    """
    if facts.status is not ProviderStatus.FINISHED:
        return "not_finished"
    return binding_objection(payment, facts) or _amount_objection(payment, facts, tolerance)


def binding_objection(payment: Payment, facts: PaymentFacts) -> str:
    """Return why these facts are not about the payment that we created for this order, or "" if they are."""
    if not payment.external_id or facts.payment_id != payment.external_id:
        return "other_payment"
    if facts.parent_payment_id:
        return "child_payment"
    if facts.order_id != str(payment.order_id):
        return "other_order"
    if payment.parent_external_id:
        return "not_created_by_us"
    if facts.price_currency != payment.price_currency.lower():
        return "other_price_currency"
    if facts.price_amount != payment.price_amount:
        return "other_price"
    if facts.pay_currency != payment.pay_currency:
        return "other_coin"
    return ""


def _amount_objection(payment: Payment, facts: PaymentFacts, tolerance: Decimal) -> str:
    asked = payment.pay_amount
    if asked is None or asked <= 0 or not facts.actually_paid.is_finite():
        return "no_amount"
    if facts.actually_paid <= 0:
        return "nothing_paid"
    if facts.actually_paid < asked * (1 - tolerance):
        return "too_little"
    return ""

"""What is done when NOWPayments names another address for a payment than the customer was shown."""

from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Order
from payments.models import Payment
from payments.nowpayments import PaymentFacts

NAMED = "other_address"  # in the payment's evidence


def named_otherwise(payment: Payment, facts: PaymentFacts) -> str:
    """Return the address, with its memo, that differs from the one that was shown, or "" while they are the same."""
    if not facts.pay_address:  # some answers leave it out: what they said before still stands
        return str(payment.evidence.get(NAMED, ""))
    address, memo = facts.pay_address, facts.payin_extra_id
    is_same = not payment.pay_address or _plain(address) == _plain(payment.pay_address)
    if is_same and (not memo or not payment.payin_extra_id or memo == payment.payin_extra_id):
        return ""
    return f"{address}, memo {memo}" if memo else address


def notice(order: Order, payment: Payment, facts: PaymentFacts) -> None:
    """Tell staff, once for each address. Nothing else changes: money follows the payment's id.

    The customer goes on seeing the first address: one that appears later may be a thief's.
    """
    named, known = named_otherwise(payment, facts), payment.evidence.get(NAMED, "")
    if named and named != known:
        message = (
            f"NOWPayments names another address for {payment} than the customer was shown: {named[:200]}. The customer"
            " still sees the first one, and money that comes counts as before. Ask NOWPayments which of the two is"
            " right; cancel the order if nothing came and it is not the first."
        )
        raise_alert(AlertKind.OTHER_ADDRESS, payment, message, order=order)
    elif known and not named:
        close_alert(AlertKind.OTHER_ADDRESS, payment, by="automatic: the provider names the first address again")


def _plain(address: str) -> str:
    # Ethereum's addresses come with and without capitals, those of Bitcoin Cash with and without "bitcoincash:".
    return address.strip().rpartition(":")[2].casefold()

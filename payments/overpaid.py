"""More arrived than was asked for: the customer and staff are told, and the surplus can go back."""

from decimal import Decimal

from bitloot.core.money import plain
from bitloot.core.sentences import Sentence
from orders.alerts import raise_alert
from orders.choices import AlertKind
from orders.models import Email, Order
from orders.services import queue_email
from payments.balance import is_noticeable, surplus_of
from payments.models import Payment


def notice(order: Order, payment: Payment, *, arrived: Decimal) -> None:
    """Tell the customer and staff of a surplus, if it is large enough. The caller has locked order and payment."""
    surplus = surplus_of(payment, arrived=arrived)
    if not is_noticeable(payment, surplus):
        return
    coins = f"{plain(surplus)} {payment.pay_currency.upper()}"
    order.note("payment", Sentence("%(coins)s more than asked arrived.", coins=coins))
    queue_email(order, Email.Kind.OVERPAID, coins=coins)
    message = f"{coins} more than asked arrived with {payment}. The customer was told and can ask for it back."
    raise_alert(AlertKind.OVERPAID, payment, f"{message} You can refund the surplus, too.", order=order)

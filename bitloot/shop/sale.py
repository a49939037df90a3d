"""What the shop sells right now, and in which quantities."""

from dataclasses import dataclass
from decimal import Decimal

from django.utils.translation import gettext_lazy as _

from bitloot.core.money import money
from bitloot.core.sentences import Words
from fulfillment.availability import is_sold_out
from orders.models import MAX_QUANTITY, Product


@dataclass(frozen=True)
class NotSold:
    label: Words
    sentence: Words


SOLD_OUT = NotSold(_("Sold out"), _("Sold out at the moment. We ask our supplier again every few minutes."))


def why_not_sold(product: Product, least: Decimal | None) -> NotSold | None:
    """Return what the shop says instead of "Buy", or None; the product was read with its `supplier_stock`."""
    payable = payable_quantities(product, least)
    if payable:
        # The supplier has fewer of what it has too few of, so the smallest number decides.
        return SOLD_OUT if is_sold_out(product, payable[0]) else None
    if is_sold_out(product):
        return SOLD_OUT
    sentence = _("Coins are taken from %(least)s on, and %(most)s of these keys together cost less.")
    least_sum = money(least or product.price, product.currency)
    return NotSold(_("Too small to pay for"), sentence % {"least": least_sum, "most": MAX_QUANTITY})


def quantities(product: Product, least: Decimal | None) -> list[int]:
    """Return how many keys may be ordered."""
    return [n for n in payable_quantities(product, least) if not is_sold_out(product, n)]


def payable_quantities(product: Product, least: Decimal | None) -> list[int]:
    """Return how many keys cost enough: `least`, in the shop's currency, is the smallest payment of any coin."""
    return [n for n in range(1, MAX_QUANTITY + 1) if least is None or product.price * n >= least]

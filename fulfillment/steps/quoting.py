"""May it be bought now: price, margin and stock as the supplier says them, and the most that we would pay."""

from dataclasses import dataclass
from decimal import Decimal

from bitloot.core.money import CENT
from bitloot.core.providers import ProviderError
from fulfillment import gate
from fulfillment.call_log import CallLog
from fulfillment.choices import HoldReason
from fulfillment.kinguin import KinguinClient, OutOfStock, Quote
from fulfillment.models import Reservation
from orders.models import Product


@dataclass(frozen=True)
class Objection:
    reason: HoldReason
    sentence: str


def objection_to_buying(
    reservation: Reservation, product: Product, client: KinguinClient, calls: CallLog
) -> Objection | None:
    """Return why not to buy now, or None. Raises ProviderError if the supplier does not say."""
    try:
        quote = calls.ask("quote", lambda: client.quote(product.supplier_product_id))
    except OutOfStock:
        return Objection(HoldReason.OUT_OF_STOCK, f"The supplier has no “{product.title}” now.")
    except ProviderError as err:
        gate.failed(client, err)
        raise
    # No catalogue in this dialect: the purchase itself carries the price cap.
    if quote is None:
        return None
    return objection_to_quote(product, quote, quantity=reservation.quantity, unit_price=reservation.item.unit_price)


def objection_to_quote(product: Product, quote: Quote, *, quantity: int, unit_price: Decimal) -> Objection | None:
    """Return why this offer cannot be taken for a customer who pays `unit_price` a key, or None."""
    stock = quote.text_qty if product.key_type == Product.KeyType.TEXT else quote.qty
    if stock < quantity:
        sentence = f"The supplier has {stock} of “{product.title}”, {quantity} are needed."
        return Objection(HoldReason.OUT_OF_STOCK, sentence)
    if quote.price > product.max_cost:
        sentence = f"“{product.title}” costs {quote.price} EUR now, the cap is {product.max_cost} EUR."
        return Objection(HoldReason.TOO_EXPENSIVE, sentence)
    if unit_price - quote.price < product.min_margin:
        sentence = f"“{product.title}” costs {quote.price} EUR now; less than its minimum margin is left."
        return Objection(HoldReason.TOO_EXPENSIVE, sentence)
    return None


def price_cap(reservation: Reservation) -> Decimal:
    """Return the most a key of this item may cost, EUR: the supplier takes the price that we send as a ceiling."""
    product = reservation.item.product
    return max(min(product.max_cost, reservation.item.unit_price - product.min_margin), CENT)

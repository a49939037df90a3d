from decimal import ROUND_HALF_UP, Decimal

from django.conf import settings
from django.utils.formats import number_format

CENT = Decimal("0.01")


def cents(amount: Decimal) -> Decimal:
    """Round to whole cents, half up: the one place where an amount of the shop's currency is rounded."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def money(amount: Decimal, currency: str = "") -> str:
    """Write an amount of the shop's currency, or of the one that is named, as the reader's language does: 6,49 EUR."""
    return f"{number_format(amount, 2)} {currency or settings.STORE_CURRENCY}"


def plain(amount: Decimal) -> str:
    """Write an amount for people and JSON: no exponent, no trailing zeros."""
    text = f"{amount:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text

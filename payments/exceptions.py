from decimal import Decimal


class NotPayable(Exception):
    """The order is in a state in which nobody may pay for it."""


class UnknownCoin(Exception):
    """The coin is not on offer."""


class TooSmall(Exception):
    """The price lies below what the provider takes in this coin. `minimum` is in the shop's currency, if known."""

    def __init__(self, coin: str, minimum: Decimal | None) -> None:
        super().__init__(coin)
        self.coin = coin
        self.minimum = minimum


class NoAnswer(Exception):
    """The provider gave no usable answer; whether it made a payment is unknown, so its address is never shown."""


class UnknownPayment(Exception):
    """An IPN for a payment that we do not know (yet)."""


class AddressRefused(Exception):
    """The refund address that the customer gave cannot be used; the message says what is wrong with it."""


class NoSurplus(Exception):
    """Nothing worth sending back came beyond what was asked for, or it goes back already."""

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

    retry_after = 5  # seconds


class ProviderBusy(Exception):
    """Too many customers choose a coin at this moment: nothing was asked for, and there is room again in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"try again in {retry_after} s")
        self.retry_after = retry_after


class TooManyQuotes(Exception):
    """The order has too many open payments, or the client asked for too many lately."""

    def __init__(self, retry_after: int, *, of_order: bool) -> None:
        super().__init__("too many quotes")
        self.retry_after = retry_after
        self.of_order = of_order


class UnknownPayment(Exception):
    """An IPN for a payment that we do not know (yet)."""


class AddressRefused(Exception):
    """The refund address that the customer gave cannot be used; the message says what is wrong with it."""


class NoSurplus(Exception):
    """Nothing worth sending back came beyond what was asked for, or it goes back already."""

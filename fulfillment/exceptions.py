from bitloot.core.decisions import DecisionRefused
from storage.exceptions import KeyBelongsElsewhere
from storage.services import report_sold_twice


class PermitOpen(DecisionRefused):
    """A purchase may be on its way or already made, so nothing may be delivered by hand."""


class CodesRefused(DecisionRefused):
    """The codes typed by staff do not fit the order. The message says why; it never quotes a code."""


class CodeKnown(CodesRefused):
    """A typed code was given to another unit before. Staff are alerted, although the decision is rolled back."""

    def __init__(self, cause: KeyBelongsElsewhere) -> None:
        super().__init__("One of the codes was given to another unit before. Nothing was changed; an alert says which.")
        self.cause = cause

    def afterwards(self) -> None:
        report_sold_twice(self.cause)


class NotDeliverable(DecisionRefused):
    """The order is not paid, or its money goes back."""


class MoneyStays(DecisionRefused):
    """The customer cannot have the money back at once. The message is for the customer."""


class NothingStored(Exception):
    """No key of this order is there yet."""


class KeysGone(Exception):
    """The keys of this order were destroyed, or its money went back."""


class UnknownProduct(Exception):
    """The supplier has no such product on sale. The message says what to do."""


class SoldOut(Exception):
    """The keys of an order could not be bought now; the message is the customer's sentence."""

from bitloot.core.decisions import DecisionRefused


class PermitOpen(DecisionRefused):
    """A purchase may be on its way or already made, so nothing may be delivered by hand."""


class CodesRefused(DecisionRefused):
    """The codes typed by staff do not fit the order. The message says why; it never quotes a code."""


class NotDeliverable(DecisionRefused):
    """The order is not paid, or its money goes back."""


class NothingStored(Exception):
    """No key of this order is there yet."""


class KeysGone(Exception):
    """The keys of this order were destroyed, or its money went back."""

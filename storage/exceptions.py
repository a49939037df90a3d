class KeyBelongsElsewhere(Exception):
    """The supplier's key was sold to another order item, or the key asked for is not of this order."""


class KeyShredded(Exception):
    """The key was destroyed, or its retention has ended: nobody can open it any more."""


class KeyUnreadable(Exception):
    """We cannot hand out the sealed key now: it is lost, was changed, or the store is away. Staff know."""


class OpenedTooOften(Exception):
    """The key was opened as often as it may be in an hour."""

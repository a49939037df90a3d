from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orders.models import OrderItem
    from storage.models import Key


class KeyBelongsElsewhere(Exception):
    """The same key was given to another unit already, or the key asked for is not of this order."""

    def __init__(self, message: str, *, key: "Key | None" = None, item: "OrderItem | None" = None) -> None:
        super().__init__(message)
        self.key = key  # that has it
        self.item = item  # that was refused it


class KeyShredded(Exception):
    """The key was destroyed, or its retention has ended: nobody can open it."""


class KeyUnreadable(Exception):
    """We cannot hand out the sealed key now: it is lost, was changed, or the store is away. Staff know."""

    retry_after = 60  # seconds


class OpenedTooOften(Exception):
    """The key was opened as often as it may be in an hour."""

    retry_after = 3600  # seconds, at most

"""Reading a provider's answer member by member, so that a wrong shape stops at the edge and is named, never quoted."""

import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeGuard, TypeVar

from bitloot.core.providers import UnreadableAnswer
from bitloot.core.strict_json import is_storable

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Decimal() alone also takes "1_000", "٣", "NaN" and "-1"; none of them is an amount that a provider may name.
_AMOUNT = re.compile(r"[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?")
_DIGITS = re.compile(r"[0-9]{1,19}")
MAX_TEXT = 512
MAX_AMOUNT = Decimal(10) ** 20  # more of anything is a mistake of theirs, and no column of ours holds it


class Fields:
    """One JSON object. Each reader raises UnreadableAnswer if the member is missing or has another shape."""

    def __init__(self, document: Any, *, what: str) -> None:
        if not isinstance(document, dict):
            raise UnreadableAnswer(f"{what} is not a JSON object")
        self._members: Mapping[str, Any] = document
        self._what = what
        self.notes: list[str] = []

    def __contains__(self, name: str) -> bool:
        return self._members.get(name) is not None

    def raw(self, name: str) -> Any:
        return self._members.get(name)

    def aside(self, read: Callable[[str], T], name: str, default: T) -> T:
        """Read a member that decides nothing: an odd value is noted, and `default` stands for it."""
        try:
            return read(name)
        except UnreadableAnswer as err:
            # What decides must not wait until they fix what does not.
            logger.warning("%s", err)
            self.notes.append(f"{name} is not what was expected")
            return default

    def text(self, name: str, *, limit: int = MAX_TEXT) -> str:
        value = self._members.get(name)
        if not isinstance(value, str) or not value or len(value) > limit or not is_storable(value):
            raise self._wrong(name)
        return value

    def optional_text(self, name: str, *, limit: int = MAX_TEXT) -> str:
        return self.text(name, limit=limit) if self._members.get(name) not in (None, "") else ""

    def memo(self, name: str, *, limit: int = MAX_TEXT) -> str:
        """Return a text that may also be written as a number, "" where there is none."""
        value = self._members.get(name)
        return str(value) if _is_int(value) else self.optional_text(name, limit=limit)

    def digits(self, name: str) -> str:
        """Return an id that comes as an int or as a string of digits, as text."""
        value = self._members.get(name)
        text = str(value) if _is_int(value) else value
        if not isinstance(text, str) or not _DIGITS.fullmatch(text):
            raise self._wrong(name)
        return text

    def optional_digits(self, name: str) -> str:
        """Like digits, with "" for every way in which providers write "none"."""
        return self.digits(name) if self._members.get(name) not in (None, "", 0, "0") else ""

    def amount(self, name: str) -> Decimal:
        value = self._members.get(name)
        text = str(value) if _is_int(value) or isinstance(value, Decimal) else value
        if not isinstance(text, str) or not _AMOUNT.fullmatch(text):
            raise self._wrong(name)
        if (amount := Decimal(text)) >= MAX_AMOUNT:
            raise self._wrong(name)
        return amount

    def optional_amount(self, name: str) -> Decimal | None:
        return self.amount(name) if name in self else None

    def count(self, name: str) -> int:
        value = self._members.get(name)
        if not _is_int(value) or abs(value) > 10**9:
            raise self._wrong(name)
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._members.get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name)
        return value

    def moment(self, name: str) -> datetime | None:
        """Return an aware time from ISO 8601 or epoch milliseconds; None for anything else: times decide nothing."""
        value = self._members.get(name)
        try:
            if _is_int(value):
                return datetime.fromtimestamp(value / 1000, UTC)
            parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
            # In here: near the years 1 and 9999 a time with an offset is out of range in UTC.
            return parsed.astimezone(UTC) if parsed and parsed.tzinfo else None
        except (ValueError, OverflowError, OSError):
            return None

    def items(self, name: str, *, required: bool = False) -> list[Any]:
        """Return a list, empty if the member is missing or null and not required."""
        value = self._members.get(name)
        if value is None and not required:
            return []
        if not isinstance(value, list):
            raise self._wrong(name)
        return value

    def _wrong(self, name: str) -> UnreadableAnswer:
        return UnreadableAnswer(f"{self._what}: {name} is missing or not what was expected")


def _is_int(value: Any) -> TypeGuard[int]:
    # True is an int to Python.
    return isinstance(value, int) and not isinstance(value, bool)

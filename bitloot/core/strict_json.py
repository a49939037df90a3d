"""JSON as it arrives from strangers: one strict reading for webhooks, our API and providers' answers."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from django.utils.translation import gettext as _

MAX_NUMBER_LENGTH = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


class MalformedJson(ValueError):
    """The bytes are not JSON that we accept; the message is safe to show, it never quotes the input."""


class UnstorableText(MalformedJson):
    """Well-formed JSON with a string that PostgreSQL cannot store."""


def parse_json(raw: bytes, *, max_depth: int = 8, max_members: int = 200) -> Any:
    """Parse UTF-8 JSON with numbers as Decimal or int.

    Raises MalformedJson on what json.loads lets pass: duplicate members, NaN and infinities, huge numbers, a byte
    order mark, NUL characters and lone surrogates (PostgreSQL refuses both), too deep or too wide documents.
    """
    document = parse_any_text(raw, max_depth=max_depth, max_members=max_members)
    if b"\\u" in raw or b"\x00" in raw:
        _check_strings(document)
    return document


def parse_any_text(raw: bytes, *, max_depth: int = 8, max_members: int = 200) -> Any:
    """Parse as `parse_json` does, with strings that PostgreSQL cannot store: for what is only kept sealed."""
    try:
        text = raw.decode("utf-8")
        document = json.loads(
            text,
            object_pairs_hook=_unique_members,
            parse_float=_finite_decimal,
            parse_int=_bounded_int,
            parse_constant=_refuse_constant,
        )
    except MalformedJson:
        # It is a ValueError as well, and its own sentence says more than the one below.
        raise
    except (UnicodeDecodeError, RecursionError, ValueError) as err:
        raise MalformedJson(_("The body is not valid JSON in UTF-8.")) from err
    _check_shape(document, max_depth, max_members)
    return document


@dataclass(frozen=True)
class Odd:
    """Stands in a provider's answer for a value that cannot be taken: no reader accepts it, its neighbours are read."""

    why: str


def parse_answer(raw: bytes, *, max_depth: int = 32, max_members: int = 20_000) -> Any:
    """Parse what a provider answered: as strict as parse_json, but one bad value spoils only its own member.

    Strings are left as they come; a reader that wants to store one asks `is_storable`.
    """
    try:
        document = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_members_once,
            parse_float=lambda token: _or_odd(_finite_decimal, token),
            parse_int=lambda token: _or_odd(_bounded_int, token),
            parse_constant=Odd,
        )
    except (UnicodeDecodeError, RecursionError, ValueError) as err:
        raise MalformedJson(_("The body is not valid JSON in UTF-8.")) from err
    _check_shape(document, max_depth, max_members)
    return document


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can store this text."""
    return "\x00" not in text and not _SURROGATE.search(text)


def parse_object(raw: bytes, **limits: int) -> dict[str, Any]:
    """Like parse_json, for a body that has to be one object."""
    document = parse_json(raw, **limits)
    if not isinstance(document, dict):
        raise MalformedJson(_("The body has to be a JSON object."))
    return document


def dump_json(document: Any) -> bytes:
    """Return compact UTF-8 JSON with each Decimal as a number, as providers expect their prices."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_number).encode()


def _number(value: Any) -> float:
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} cannot be sent as JSON")
    # A double prints as the shortest text that reads back: 9.99 leaves as 9.99.
    return float(value)


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedJson(_("An object names the same member twice."))
    return members


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        # Which of the two they mean is anybody's guess, so it is neither.
        names = [name for name, _ in pairs]
        members |= {name: Odd("named twice") for name in members if names.count(name) > 1}
    return members


def _or_odd(parse: Callable[[str], Any], token: str) -> Any:
    try:
        return parse(token)
    except MalformedJson as err:
        return Odd(str(err))


def _finite_decimal(token: str) -> Decimal:
    if len(token) > MAX_NUMBER_LENGTH:
        raise MalformedJson(_("A number is too long."))
    try:
        number = Decimal(token)
    except InvalidOperation as err:
        raise MalformedJson(_("A number is out of range.")) from err
    # 1E999999 is short, until something writes it out.
    if abs(number.adjusted()) > 60:
        raise MalformedJson(_("A number is out of range."))
    return number


def _bounded_int(token: str) -> int:
    if len(token) > MAX_NUMBER_LENGTH:
        raise MalformedJson(_("A number is too long."))
    return int(token)


def _refuse_constant(_token: str) -> NoReturn:
    raise MalformedJson(_("NaN and Infinity are not JSON."))


def _check_shape(document: Any, max_depth: int, max_members: int) -> None:
    # Level by level, without recursion: depth is what this defends against.
    level, depth = [document], 0
    while level:
        nested: list[Any] = []
        for value in level:
            if isinstance(value, dict | list):
                if len(value) > max_members:
                    raise MalformedJson(_("An object or list has too many members."))
                nested.extend(value.values() if isinstance(value, dict) else value)
        level, depth = nested, depth + 1
        if depth > max_depth + 1:
            raise MalformedJson(_("The document is nested too deeply."))


def _check_strings(document: Any) -> None:
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if not is_storable(value):
                raise UnstorableText("A string holds a character that cannot be stored.")
        elif isinstance(value, dict):
            stack.extend(value.keys())
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)

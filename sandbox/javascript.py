"""JSON as JavaScript's JSON.stringify prints it, which is what NOWPayments signs."""

import hashlib
import hmac
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

EXACT_INTEGER = 2**53
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def stringify(value: Any, *, sort: bool = False) -> str:
    if isinstance(value, str):
        return _string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return number(value)
    if isinstance(value, Mapping):
        members = _ordered(value) if sort else value.items()
        return "{" + ",".join([f"{_string(key)}:{stringify(item, sort=sort)}" for key, item in members]) + "}"
    return "[" + ",".join([stringify(item, sort=sort) for item in value]) + "]"


def number(value: int | float | Decimal) -> str:
    if isinstance(value, int) and abs(value) <= EXACT_INTEGER:
        return str(value)
    double = float(value)
    if not math.isfinite(double):
        return "null"
    if double.is_integer() and abs(double) <= EXACT_INTEGER:
        return str(int(double))
    if 1e-4 <= abs(double) < 1e16:
        return repr(double)  # in this range Python prints what JavaScript does
    return ("-" if double < 0 else "") + _digits(abs(double))


def sign(body: Mapping[str, Any], secret: str) -> tuple[bytes, str]:
    """Return the sorted compact body and its HMAC-SHA512 in hex."""
    raw = stringify(body, sort=True).encode()
    return raw, hmac.new(secret.strip().encode(), raw, hashlib.sha512).hexdigest()


def _digits(double: float) -> str:
    """Print as ECMAScript's Number::toString does: plain from 1e-6 up to 1e21, else with an exponent."""
    _, figures, exponent = Decimal(repr(double)).normalize().as_tuple()
    digits = "".join(map(str, figures))
    point = len(digits) + int(exponent)
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e{point - 1:+d}"


def _string(text: str) -> str:
    quoted = encode_basestring(text)
    if quoted.isascii():
        return quoted
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _ordered(value: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return sorted(value.items(), key=lambda member: _property_order(member[0]))


def _property_order(name: str) -> tuple[int, int, bytes]:
    # Whatever order they were set in, an object lists integer-like keys first, by value.
    if name == "0" or (name.isascii() and name.isdigit() and name[0] != "0" and int(name) < 2**32 - 1):
        return 0, int(name), b""
    return 1, 0, name.encode("utf-16-be", "surrogatepass")

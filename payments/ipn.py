"""NOWPayments' IPN: the signature over it and the few words we take from it. docs/nowpayments.md has the rules."""

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import rfc8785

from bitloot.core.strict_json import MalformedJson, parse_json, parse_object

# Real IPNs have less than 1 KiB. Beyond this only the bytes themselves are tried, so that forgeries stay cheap.
MAX_CANONICAL_BYTES = 2 * 1024

_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}")
_PAYMENT_ID = re.compile(r"[0-9]{1,19}")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
# The largest array index of ECMAScript; larger numbers are ordinary names and sort as such.
MAX_ARRAY_INDEX = 2**32 - 2


class BadSignature(Exception):
    """The body was not signed with a secret of ours."""


class SignatureNotConfigured(Exception):
    """There is no IPN secret: nothing can be verified, so nothing may be believed."""


@dataclass(frozen=True)
class IpnHint:
    """What an IPN claims. A reason to ask the provider, never a reason to deliver."""

    payment_id: str
    status: str
    order_id: str
    parent_payment_id: str


class _Number(str):
    """A number as it was written on the wire."""


def verify_ipn(raw: bytes, header: str | None, secrets: Sequence[str]) -> None:
    """Raise BadSignature unless the header is an HMAC-SHA512 of the body in one of the forms NOWPayments signs."""
    keys = [key.strip().encode() for key in secrets if key.strip()]
    if not keys:
        raise SignatureNotConfigured("NOWPAYMENTS_IPN_SECRET is empty; set it to the IPN secret of the dashboard.")
    if not header or not _SIGNATURE.fullmatch(header):
        raise BadSignature("x-nowpayments-sig is not 128 hexadecimal digits.")
    claimed = bytes.fromhex(header)
    for text in _signed_texts(raw):
        # A list, not a generator: every secret is tried, so the time does not show which one fits.
        if any([hmac.compare_digest(hmac.digest(key, text, hashlib.sha512), claimed) for key in keys]):
            return
    raise BadSignature("x-nowpayments-sig does not fit the body.")


def parse_ipn(raw: bytes) -> IpnHint:
    """Return what the body claims. Raises MalformedJson (a ValueError) if it is no IPN; payouts have no payment_id."""
    return _hint(parse_object(raw))


def event_type_and_id(body: dict[str, Any]) -> tuple[str, str]:
    """Return what to file a parsed body under, such as ("finished", "5077125051"). Never raises."""
    try:
        hint = _hint(body)
    except MalformedJson:
        return "malformed", ""
    if hint.payment_id:
        return (hint.status if _WORD.fullmatch(hint.status) else "unknown"), hint.payment_id
    payout_id = str(body.get("id", ""))
    return "payout", payout_id if _WORD.fullmatch(payout_id) else ""


def _hint(body: dict[str, Any]) -> IpnHint:
    if _is_payout(body):
        return IpnHint("", _text(body.get("status")), "", "")
    return IpnHint(
        payment_id=_payment_id(body.get("payment_id")),
        status=_text(body.get("payment_status")),
        order_id=_text(body.get("order_id")),
        parent_payment_id=_parent_id(body.get("parent_payment_id")),
    )


def _signed_texts(raw: bytes) -> Iterator[bytes]:
    """Yield the texts that may have been signed, the cheapest first; a body that is not strict JSON has only one."""
    yield raw
    if len(raw) > MAX_CANONICAL_BYTES:
        return
    try:
        parse_json(raw)
    except MalformedJson:
        return
    document = json.loads(raw, parse_float=_Number, parse_int=_Number)
    # The service signs what JavaScript prints. Other senders keep their number tokens, and the documented Node sample
    # turns arrays into objects: nobody has published which one the service does, so each is accepted.
    without_arrays = _arrays_as_objects(document)
    shapes = [document]
    if without_arrays != document:
        shapes.append(without_arrays)
    for shaped in shapes:
        for javascript in (True, False):
            yield "".join(_emit(shaped, javascript)).encode()


def _arrays_as_objects(value: Any) -> Any:
    if isinstance(value, list):
        return {str(index): _arrays_as_objects(item) for index, item in enumerate(value)}
    if isinstance(value, dict):
        return {name: _arrays_as_objects(item) for name, item in value.items()}
    return value


def _emit(value: Any, javascript: bool) -> Iterator[str]:
    """Yield compact JSON with sorted members; rfc8785 prints strings and doubles exactly as JSON.stringify does."""
    if isinstance(value, dict):
        for index, name in enumerate(sorted(value, key=_member_order)):
            yield ("," if index else "{") + _scalar(name) + ":"
            yield from _emit(value[name], javascript)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield "," if index else "["
            yield from _emit(item, javascript)
        yield "]" if value else "[]"
    elif isinstance(value, _Number):
        yield _scalar(float(value)) if javascript else str(value)
    else:
        yield _scalar(value)


def _scalar(value: str | float | bool | None) -> str:
    return rfc8785.dumps(value).decode()


def _member_order(name: str) -> tuple[int, int, bytes]:
    """Order members as a JavaScript object keeps them: array indices by value, then the rest by UTF-16 code unit."""
    if _ARRAY_INDEX.fullmatch(name) and int(name) <= MAX_ARRAY_INDEX:
        return 0, int(name), b""
    return 1, 0, name.encode("utf-16-be")


def _is_payout(body: dict[str, Any]) -> bool:
    # Payouts are announced at the same address, with an id of their own in place of payment_id.
    return "payment_id" not in body and ("batch_withdrawal_id" in body or "id" in body)


def _payment_id(value: Any) -> str:
    # Of all that JSON holds only whole numbers and texts print as nothing but digits.
    if not _PAYMENT_ID.fullmatch(str(value)):
        raise MalformedJson("payment_id is not a number of up to 19 digits.")
    return str(value)


def _parent_id(value: Any) -> str:
    """Return the payment this one is a repeated or wrong-coin deposit of; "" for none, and for what cannot be one.

    It is no reason to pass the IPN over: the payment is read again, and there it decides.
    """
    text = str(value)
    return text if _PAYMENT_ID.fullmatch(text) and text.strip("0") else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

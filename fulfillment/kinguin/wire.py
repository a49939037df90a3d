"""What the dialects share below their words: one call, strict ids, keys as bytes, secrets compared in constant time."""

import hmac
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from bitloot.core.providers import Answer, ProviderError, Transport, UnreadableAnswer, Urgency
from bitloot.core.strict_json import MalformedJson, dump_json, is_storable, parse_answer
from fulfillment.kinguin import keys
from fulfillment.kinguin.protocol import (
    Health,
    KinguinCredentialsRefused,
    KinguinRejected,
    SupplierKey,
    SupplierStatus,
    UnreadableKey,
    WebhookNotConfigured,
    logger,
)

MAX_LINK = 2000
MAX_BALANCE = Decimal(10) ** 10  # what our column holds; more is a mistake of theirs
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Endpoint:
    """JSON in, JSON out. Errors come in Kinguin's vocabulary and never hold a body: it may hold a licence key."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.host = transport.host

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        document: Any = None,
        headers: Mapping[str, str] | None = None,
        urgency: Urgency = Urgency.FIRST,
    ) -> Any:
        body = dump_json(document) if document is not None else None
        try:
            answer = self._transport.request(method, path, params=params, body=body, headers=headers, urgency=urgency)
            if answer.ok:
                return answer.json()
        except ProviderError as err:
            # An answer that we could not read may hold a key, and errors end in logs.
            err.body = b""
            raise
        raise _refusal(answer)


def safe_id(value: Any, pattern: re.Pattern[str] = _ID) -> str:
    """Return an id that may stand in a URL, "" for anything else."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def path_id(value: str, what: str) -> str:
    """Return an id for a URL. Raises KinguinRejected, without sending anything, for one that could leave its path."""
    if not safe_id(value):
        detail = f"{what} {value[:80]!r} is not an id of Kinguin"
        raise KinguinRejected(
            f"{detail}; correct it and try again", status=None, kind="ConstraintViolation", detail=detail
        )
    return value


def status_of(word: Any, words: Mapping[str, SupplierStatus]) -> SupplierStatus:
    # An unknown status is never guessed: the purchase waits, and the log names the word.
    status = words.get(word.lower() if isinstance(word, str) else "", SupplierStatus.UNKNOWN)
    if status is SupplierStatus.UNKNOWN:
        logger.warning("Kinguin sent an order status we do not know: %.40r", word)
    return status


def read_key(key_id: str, serial: Any, *, label: str = keys.TEXT, product_id: str = "") -> SupplierKey | None:
    """Return the key, or None while there is nothing in it. Raises UnreadableKey if it is neither text nor number."""
    if isinstance(serial, int | Decimal) and not isinstance(serial, bool):
        serial = str(serial)
    if serial is None or (isinstance(serial, str) and not serial.strip()):
        return None
    if not isinstance(serial, str):
        raise UnreadableKey(key_id, "neither a text nor a number")
    content, content_type = keys.read_serial(serial, label)
    return SupplierKey(key_id, content, content_type, product_id)


def numbered_keys(order_id: str, serials: Sequence[Any]) -> list[SupplierKey]:
    """Make keys of a plain list of codes, whose place in the list is all the identity they have."""
    rows = [(f"{order_id}:{number}", serial) for number, serial in enumerate(serials, 1)]
    return read_keys(rows, read_key)


def read_keys(rows: Iterable[tuple[str, Any]], read: Callable[[str, Any], SupplierKey | None]) -> list[SupplierKey]:
    """Read all rows before complaining about a bad one, so that its neighbours can still be delivered."""
    found: dict[str, SupplierKey] = {}
    bad: UnreadableKey | None = None
    for key_id, row in rows:
        try:
            key = read(key_id, row)
        except UnreadableKey as err:
            bad = bad or err
            continue
        if key:
            found.setdefault(key_id, key)
    if bad:
        bad.readable = list(found.values())
        raise bad
    return list(found.values())


def measured(ask: Callable[[], Decimal | None]) -> Health:
    """Return the health that a harmless call shows; `ask` returns the balance, if there is one."""
    started = time.monotonic()
    balance: Decimal | None = None
    problem, cause = "", None
    try:
        balance = _believable(ask())
    except ProviderError as err:
        problem, cause = str(err), err.cause
    return Health(not problem, balance, (time.monotonic() - started) * 1000, problem, cause)


def _believable(balance: Decimal | None) -> Decimal | None:
    return balance if balance is None or balance < MAX_BALANCE else None


def require_secrets(secrets: Sequence[str]) -> list[bytes]:
    given = [secret.strip().encode() for secret in secrets if secret.strip()]
    if not given:
        raise WebhookNotConfigured("KINGUIN_WEBHOOK_SECRET is empty; set it to the secret given to Kinguin.")
    return given


def header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name), "")


def header_bytes(value: str) -> bytes:
    """Return a header's bytes as they were on the wire, where WSGI servers read each one as a character."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def equals_any(claimed: bytes, expected: Iterable[bytes]) -> bool:
    # A list, so that the time does not tell which secret fitted.
    return any([hmac.compare_digest(claimed, value) for value in expected])


def webhook_body(raw: bytes) -> dict[str, Any] | None:
    """Return the members of a webhook, None if it is not an object of ours to read."""
    try:
        # Read as an answer is: one bad member must not hide what the others say.
        document = parse_answer(raw)
    except MalformedJson:
        return None
    return document if isinstance(document, dict) else None


def _refusal(answer: Answer) -> ProviderError:
    """Return the error for a 4xx answer; one without words of theirs comes from a gateway and proves nothing."""
    try:
        document = parse_answer(answer.body)
    except MalformedJson:
        document = None
    words = document if isinstance(document, dict) else {}
    kind, detail = word(words, "kind", "code", "error"), word(words, "detail", "message", "error_description")
    detail = f"{detail} {word(words, 'propertyPath')}".strip()
    message = f"Kinguin answered {answer.status} {kind}: {detail}".rstrip(": ")
    if answer.status in (401, 403) or kind in ("Authorization", "Authentication"):
        return KinguinCredentialsRefused(message, status=answer.status, kind=kind, detail=detail)
    if not kind:
        return UnreadableAnswer(f"Kinguin answered {answer.status} without saying why", status=answer.status)
    return KinguinRejected(message, status=answer.status, kind=kind, detail=detail)


def word(words: Mapping[str, Any], *names: str) -> str:
    return next(_texts(words, names), "")[:200]


def link(words: Mapping[str, Any], *names: str) -> str:
    """Return the first text that may be an address; one that is too long is none."""
    return next((text for text in _texts(words, names) if len(text) <= MAX_LINK), "")


def _texts(words: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    return (value for name in names if isinstance(value := words.get(name), str) and value and is_storable(value))

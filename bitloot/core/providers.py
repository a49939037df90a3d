"""How BitLoot talks to a provider: one request is sent once, and errors say whether anything was."""

import logging
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, ClassVar
from urllib.parse import urlsplit

import requests
from django.conf import settings
from prometheus_client import Histogram
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.util import Retry

from bitloot.core.connections import hurry
from bitloot.core.database import leave_connection
from bitloot.core.faults import failpoint
from bitloot.core.limits import Bucket
from bitloot.core.logs import known_facts
from bitloot.core.rehearsal import read_in_rehearsal
from bitloot.core.strict_json import MalformedJson, parse_answer
from bitloot.core.traces import span

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 3.05
MAX_ANSWER_BYTES = 1024 * 1024
POOL_SIZE = 64
# Also how often each outcome was: its count.
seconds_of_calls = Histogram(
    "bitloot_provider_call_seconds",
    "How long calls to providers took, by outcome",
    ["provider", "outcome"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "BitLoot"}
# Raised before a byte of the request has left.
_NEVER_CONNECTED = (
    NewConnectionError,
    ConnectTimeoutError,
    ssl.SSLCertVerificationError,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidURL,
)


class Cause(StrEnum):
    """Why a provider call brought nothing. Each has effects and alerts of its own."""

    UNREACHABLE = "unreachable", "cannot be reached"
    CREDENTIALS = "credentials", "refuses our credentials"
    REQUEST = "request", "refuses this request"
    NONSENSE = "nonsense", "answers nonsense"
    BUDGET = "budget", "is not asked more often than it allows"

    words: str

    def __new__(cls, value: str, words: str) -> "Cause":
        member = str.__new__(cls, value)
        member._value_ = value
        member.words = words
        return member


class ProviderError(Exception):
    """A provider call that brought no usable result. `status` and `body` hold what came back, if anything did."""

    cause: ClassVar[Cause] = Cause.REQUEST

    def __init__(self, message: str, *, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class ProviderRejected(ProviderError):
    """They answered no: nothing happened, and asking the same again will bring the same."""


class CredentialsRefused(ProviderRejected):
    """They do not accept our key, whatever we ask: only staff can fix that, and then everything works again."""

    cause = Cause.CREDENTIALS


class ProviderUnavailable(ProviderError):
    """No usable answer: the effect is unknown. Retry a read; ask before repeating a write."""

    cause = Cause.UNREACHABLE


class UnreadableAnswer(ProviderUnavailable):
    """They answered, but not in a form that can be read: the host is well, and the effect is unknown all the same."""

    cause = Cause.NONSENSE


class ProviderNotSent(ProviderUnavailable):
    """The connection was never made, so not one byte of the request left: nothing happened."""


class OverBudget(ProviderNotSent):
    """We ask them often enough already: nothing was sent, and `seconds` later there is room again."""

    cause = Cause.BUDGET

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Urgency(Enum):
    """How much of a provider's budget a kind of call leaves to others (0 to 1), and how long it waits, in seconds."""

    FIRST = 0.0, 20.0  # money that came, a customer who is looking, a purchase
    BACKGROUND = 0.25, 60.0  # lists and comparisons
    OVERDUE = 0.25, 0.0  # payments that POLL has left unread for minutes: new ones must not hold them up forever
    CATALOGUE = 0.4, 2.0  # looks at what we sell, which are due again, and staff who search
    QUOTE = 0.5, 3.0  # new payments: anybody may ask for those
    # Payments that nobody looks at; due again later, and hold no thread meanwhile. There are many more of them than of
    # new payments, which they would leave nothing (docs/capacity.md).
    POLL = 0.75, 0.0

    def __init__(self, leaving: float, patience: float) -> None:
        self.leaving = leaving
        self.patience = patience


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = field(repr=False)  # may hold a licence key

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the parsed body, with Odd for each bad value in it; raises UnreadableAnswer if it is not JSON."""
        try:
            return parse_answer(self.body)
        except MalformedJson as err:
            raise UnreadableAnswer(f"unreadable answer: {err}", status=self.status, body=self.body) from err


class Transport:
    """Requests to one base URL: no retries, no redirects, no proxies, no cookies, bounded in time and size.

    A `requests.Session` would add all of these except the retries, so we use requests' adapter without one.
    Reads share pooled connections. Each write gets a connection of its own: a pooled one may be closed by the other
    side just as the request leaves, and a purchase would be left "unknown" for nothing.
    Headers have the read timeout to arrive, the whole answer the deadline: bytes that drip hold no thread.
    """

    def __init__(self, *, provider: str, base_url: str, headers: Mapping[str, str], read_timeout: float = 30) -> None:
        self.provider = provider
        self.base_url = base_url.rstrip("/")
        self.host = urlsplit(base_url).netloc
        self.read_timeout = read_timeout
        self._headers = {**_HEADERS, **headers}
        self._reads = _adapter()
        self._writes: Callable[[], HTTPAdapter] = _adapter

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        urgency: Urgency = Urgency.FIRST,
    ) -> Answer:
        """Send one request once, as soon as the provider's budget has room for it.

        Returns 2xx and 4xx; raises ProviderNotSent (OverBudget is one) or ProviderUnavailable otherwise.
        """

        def send() -> Answer:
            return self._observed(method, path, params, body, headers, urgency)

        question = (self.provider, self.base_url, path, *sorted((params or {}).items()))
        return read_in_rehearsal(method, question, send) or send()

    def _observed(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        urgency: Urgency,
    ) -> Answer:
        started, outcome = time.monotonic(), "failed"
        try:
            self._wait_for_budget(urgency)
            started = time.monotonic()  # what it takes them, without our own patience
            with span(f"{self.provider} {method}") as note:
                answer = self._send(method, path, params, body, headers)
                note("http.response.status_code", answer.status)
            outcome = "ok" if answer.ok else "refused"
        except ProviderError as err:
            outcome = err.cause.value
            raise
        finally:
            seconds_of_calls.labels(self.provider, outcome).observe(time.monotonic() - started)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        started = time.monotonic()
        timeout = (CONNECT_TIMEOUT, self.read_timeout)
        failpoint("http.before_send")
        leave_connection()
        try:
            request = self._prepared(method, path, params, body, headers)
            with self._sender(method) as adapter, adapter.send(request, stream=True, timeout=timeout) as response:
                failpoint("http.answered")
                answer = Answer(response.status_code, self._read(response, deadline=started + sum(timeout)))
        except (requests.RequestException, HTTPError, OSError) as err:
            kind = ProviderNotSent if _never_connected(err) else ProviderUnavailable
            logger.warning("%s %s %s: %s", self.provider, method, path, type(err).__name__)
            raise kind(f"{self.provider}: {type(err).__name__}") from err
        failpoint("http.read")
        elapsed = (time.monotonic() - started) * 1000
        call = {"provider": self.provider, "status": answer.status, "milliseconds": round(elapsed)}
        text = "%s %s %s: %s in %.0f ms"
        logger.info(text, self.provider, method, path, answer.status, elapsed, extra={"call": call})
        if 300 <= answer.status < 400:
            logger.error("%s answered with a redirect, which is never followed", self.provider)
            raise UnreadableAnswer(f"{self.provider} answered {answer.status}", status=answer.status, body=answer.body)
        # 408 and 429 mean “not now”, not “no”: asking again later is right.
        if answer.status in (408, 429) or not (200 <= answer.status < 300 or 400 <= answer.status < 500):
            raise ProviderUnavailable(
                f"{self.provider} answered {answer.status}", status=answer.status, body=answer.body
            )
        return answer

    def _wait_for_budget(self, urgency: Urgency) -> None:
        bucket = _budget(self.provider)
        if bucket is None:
            return
        last = time.monotonic() + urgency.patience
        while seconds := bucket.take(leaving=urgency.leaving):
            if time.monotonic() + seconds > last:
                logger.warning("%s: no room in the budget for a call (%s)", self.provider, urgency.name)
                raise OverBudget(f"our own limit of calls to {self.provider} is reached", seconds=seconds)
            leave_connection()
            time.sleep(seconds)

    def _sender(self, method: str) -> AbstractContextManager[HTTPAdapter]:
        # A new adapter, closed after use: “Connection: close” is only a wish, the other side may keep it open.
        return nullcontext(self._reads) if method == "GET" else closing(self._writes())

    def _prepared(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> requests.PreparedRequest:
        sent = dict(self._headers)
        if request_id := known_facts().get("request"):
            sent["X-Request-ID"] = request_id  # random, and theirs to name when they are asked about this call
        if method != "GET":
            sent["Connection"] = "close"
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        return requests.Request(method, f"{self.base_url}{path}", params=params, data=body, headers=sent).prepare()

    def _read(self, response: requests.Response, *, deadline: float) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnreadableAnswer("compressed answer to a request for identity", status=response.status_code)
        chunks: list[bytes] = []
        size = 0
        while chunk := response.raw.read1(65536, decode_content=False):
            size += len(chunk)
            chunks.append(chunk)
            if size > MAX_ANSWER_BYTES:
                raise UnreadableAnswer("answer too large", status=response.status_code)
            # The socket's timeout starts again with each byte; this one is for the whole answer.
            if time.monotonic() > deadline:
                raise TimeoutError("the answer came too slowly")
        return b"".join(chunks)


def _budget(provider: str) -> Bucket | None:
    """Return the bucket that all our processes share; it holds two seconds' worth. None: there is no limit."""
    per_second = float(getattr(settings, f"{provider.upper()}_CALLS_PER_SECOND", 0))
    if not per_second:
        return None
    return Bucket(f"budget:{provider}", per_second=per_second, holds=max(2 * per_second, 4))


def _adapter() -> HTTPAdapter:
    # No retries: only the caller knows what may be sent twice.
    adapter = HTTPAdapter(pool_connections=2, pool_maxsize=POOL_SIZE, max_retries=Retry(0, read=False))
    hurry(adapter.poolmanager)
    return adapter


def _never_connected(err: BaseException) -> bool:
    # requests wraps urllib3's error, and that the socket's: the one that tells may be at any depth.
    seen: BaseException | None = err
    while seen is not None:
        if isinstance(seen, _NEVER_CONNECTED):
            return True
        reason = getattr(seen, "reason", None) or next((a for a in seen.args if isinstance(a, BaseException)), None)
        seen = reason if isinstance(reason, BaseException) else None
    return False

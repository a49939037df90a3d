"""How BitLoot talks to a provider: one request is sent once, and errors say whether anything was."""

import http.client
import io
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.util import Retry

from bitloot.core.database import leave_connection
from bitloot.core.faults import failpoint
from bitloot.core.strict_json import MalformedJson, parse_json

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 3.05
MAX_ANSWER_BYTES = 1024 * 1024
POOL_SIZE = 64
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "BitLoot"}
_NEVER_CONNECTED = (
    NewConnectionError,
    ConnectTimeoutError,
    ssl.SSLCertVerificationError,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidURL,
)


class ProviderError(Exception):
    """A provider call that brought no usable result. `status` and `body` hold what came back, if anything did."""

    def __init__(self, message: str, *, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class ProviderRejected(ProviderError):
    """They answered no: nothing happened, and asking the same again will bring the same."""


class ProviderUnavailable(ProviderError):
    """No usable answer: the effect is unknown. Retry a read; ask before repeating a write."""


class ProviderNotSent(ProviderUnavailable):
    """The connection was never made, so not one byte of the request left: nothing happened."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = field(repr=False)  # may hold a licence key

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the parsed body; raises ProviderUnavailable if it is not strict JSON."""
        try:
            return parse_json(self.body, max_depth=32, max_members=20_000)
        except MalformedJson as err:
            raise ProviderUnavailable(f"unreadable answer: {err}", status=self.status, body=self.body) from err


class _UntilDeadline(io.RawIOBase):
    """A socket's bytes for as long as its timeout says, all together: it is meant for the answer, not for each byte."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock, self._raw = sock, raw
        self._deadline = time.monotonic() + (sock.gettimeout() or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer came too slowly")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_UntilDeadline(sock, self.fp.detach()))


class _ToStrangersOnly:
    """Hangs up on a provider's name that leads into our own network: somebody forged its address.

    An address that the settings spell out, and localhost, are the operator's own choice.
    """

    host: str

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        if not _is_spelled_out(self.host) and not _is_public(connected.getpeername()[0]):
            connected.close()
            raise NewConnectionError(self, "the name leads to a private address")  # type: ignore[arg-type]
        return connected


class _Connection(_ToStrangersOnly, HTTPConnection):
    response_class = _Response


class _TlsConnection(_ToStrangersOnly, HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _UsedOnce:
    """Closes what others would keep: “Connection: close” is a wish, and the other side need not say that it obeys."""

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.close()
        super()._put_conn(None)  # type: ignore[misc]


class _PoolOfNone(_UsedOnce, _Pool):
    """A new connection for each request."""


class _TlsPoolOfNone(_UsedOnce, _TlsPool):
    """The same with TLS."""


class Transport:
    """Requests to one base URL: no retries, no redirects, no proxies, no cookies, bounded in time and size.

    All but the retries are things that a `requests.Session` would add, so there is none: requests' adapter sends.
    Reads share pooled connections. Each write gets a connection of its own: a pooled one may be closed by the other
    side just as the request leaves, and a purchase would be left "unknown" for nothing.
    """

    def __init__(self, *, provider: str, base_url: str, headers: Mapping[str, str], read_timeout: float = 30) -> None:
        self.provider = provider
        self.base_url = base_url.rstrip("/")
        self.host = urlsplit(base_url).netloc
        self.read_timeout = read_timeout
        self._headers = {**_HEADERS, **headers}
        self._reads = _adapter({"http": _Pool, "https": _TlsPool})
        self._writes = _adapter({"http": _PoolOfNone, "https": _TlsPoolOfNone})

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request once. Returns 2xx and 4xx; raises ProviderNotSent or ProviderUnavailable otherwise."""
        started = time.monotonic()
        adapter = self._reads if method == "GET" else self._writes
        timeout = (CONNECT_TIMEOUT, self.read_timeout)
        failpoint("http.before_send")
        leave_connection()
        try:
            request = self._prepared(method, path, params, body, headers)
            with adapter.send(request, stream=True, timeout=timeout) as response:
                failpoint("http.answered")
                answer = Answer(response.status_code, self._read(response))
        except (requests.RequestException, HTTPError, OSError) as err:
            kind = ProviderNotSent if _never_connected(err) else ProviderUnavailable
            logger.warning("%s %s %s: %s", self.provider, method, path, type(err).__name__)
            raise kind(f"{self.provider}: {type(err).__name__}") from err
        failpoint("http.read")
        elapsed = (time.monotonic() - started) * 1000
        logger.info("%s %s %s: %s in %.0f ms", self.provider, method, path, answer.status, elapsed)
        if 300 <= answer.status < 400:
            logger.error("%s answered with a redirect, which is never followed", self.provider)
        if answer.status in (408, 429) or not (200 <= answer.status < 300 or 400 <= answer.status < 500):
            raise ProviderUnavailable(
                f"{self.provider} answered {answer.status}", status=answer.status, body=answer.body
            )
        return answer

    def _prepared(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> requests.PreparedRequest:
        sent = dict(self._headers)
        if method != "GET":
            sent["Connection"] = "close"
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        return requests.Request(method, f"{self.base_url}{path}", params=params, data=body, headers=sent).prepare()

    def _read(self, response: requests.Response) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ProviderUnavailable("compressed answer to a request for identity", status=response.status_code)
        chunks: list[bytes] = []
        size = 0
        while chunk := response.raw.read1(65536, decode_content=False):
            size += len(chunk)
            chunks.append(chunk)
            if size > MAX_ANSWER_BYTES:
                raise ProviderUnavailable("answer too large", status=response.status_code)
        return b"".join(chunks)


def _adapter(pools: dict[str, Any]) -> HTTPAdapter:
    adapter = HTTPAdapter(pool_connections=2, pool_maxsize=POOL_SIZE, max_retries=Retry(0, read=False))
    adapter.poolmanager.pool_classes_by_scheme = pools
    return adapter


def _is_spelled_out(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    return True


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_global


def _never_connected(err: BaseException) -> bool:
    seen: BaseException | None = err
    while seen is not None:
        if isinstance(seen, _NEVER_CONNECTED):
            return True
        reason = getattr(seen, "reason", None) or next((a for a in seen.args if isinstance(a, BaseException)), None)
        seen = reason if isinstance(reason, BaseException) else None
    return False

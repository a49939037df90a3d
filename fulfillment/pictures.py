"""Fetching a cover from an address that the supplier names, as if an attacker had written it.

https to known hosts only, and the connection goes to the very address that was looked at: a name that resolves to
something else a moment later (DNS rebinding) leads nowhere.
"""

import socket
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from django.conf import settings
from django.utils.http import is_same_domain
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from bitloot.core.database import leave_connection
from orders.covers import MAX_BYTES

CONNECT_TIMEOUT, READ_TIMEOUT, SECONDS = 3.05, 10, 20
MAX_REDIRECTS = 3
HTTPS = 443
_REDIRECTS = (301, 302, 303, 307, 308)
# Addresses of these hold an IPv4 address, which may be a private one.
_TRANSLATED = (
    ip_network("64:ff9b::/96"),
    ip_network("64:ff9b:1::/48"),
    ip_network("2002::/16"),
    ip_network("2001::/32"),
)


class NotFetched(Exception):
    """There is no picture to be had from this address; the message says why, and never quotes the answer."""


@dataclass(frozen=True)
class Place:
    host: str
    path: str


@dataclass(frozen=True)
class Piece:
    """What one request brought: the address to go on to, or the whole body."""

    onward: str = ""
    body: bytes = b""


def fetch(url: str) -> bytes:
    """Return at most 5 MiB from that address. Raises NotFetched."""
    leave_connection()
    deadline = time.monotonic() + SECONDS
    for _ in range(MAX_REDIRECTS + 1):
        place = _allowed(url)
        piece = _get(place, _public_address(place.host), deadline=deadline)
        if not piece.onward:
            return piece.body
        url = urljoin(url, piece.onward)  # and all of it is looked at again
    raise NotFetched("the address redirects too often")


def _allowed(url: str) -> Place:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise NotFetched("the address cannot be read") from None
    if parts.scheme != "https" or port not in (None, HTTPS) or parts.username is not None:
        raise NotFetched("the address is not plain https")
    if not any(is_same_domain(host, pattern) for pattern in settings.COVER_HOSTS):
        raise NotFetched(f"{host[:80]} is not one of COVER_HOSTS")
    return Place(host, f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")


def _public_address(host: str) -> str:
    """Resolve the name. Refused if any of its addresses is not on the public internet: the next answer may be that."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, HTTPS, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as err:
        raise NotFetched(f"{host} has no address") from err
    if not found or not all(_is_public(ip_address(address.partition("%")[0])) for address in found):
        raise NotFetched(f"{host} has an address that is not public")
    return min(found, key=lambda address: (":" in address, address))


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and any(address in network for network in _TRANSLATED):
        return False
    return address.is_global and not address.is_multicast


class _Pinned(HTTPAdapter):
    """Connects to an address, and demands the certificate of the host."""

    def __init__(self, host: str) -> None:
        self._host = host
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, server_hostname=self._host, assert_hostname=self._host, **options)


def _get(place: Place, address: str, *, deadline: float, port: int = HTTPS, verify: bool | str = True) -> Piece:
    target = f"[{address}]" if ":" in address else address
    where = target if port == HTTPS else f"{target}:{port}"
    headers = {"Host": place.host, "Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "BitLoot"}
    request = requests.Request("GET", f"https://{where}{place.path}", headers=headers).prepare()
    adapter = _Pinned(place.host)
    try:
        with adapter.send(request, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), verify=verify) as response:
            if response.status_code in _REDIRECTS and (onward := response.headers.get("Location")):
                return Piece(onward=onward)
            return Piece(body=_body(response, deadline))
    except (requests.RequestException, HTTPError, OSError) as err:
        raise NotFetched(f"{place.host} did not answer: {type(err).__name__}") from err
    finally:
        adapter.close()


def _body(response: requests.Response, deadline: float) -> bytes:
    if response.status_code != 200 or response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise NotFetched(f"the picture's host answered {response.status_code}")
    pieces: list[bytes] = []
    size = 0
    while piece := response.raw.read1(65536, decode_content=False):
        size += len(piece)
        pieces.append(piece)
        # What Content-Length says is not asked: it may lie.
        if size > MAX_BYTES or time.monotonic() > deadline:
            raise NotFetched("the picture is too large or comes too slowly")
    return b"".join(pieces)

"""Fetching a cover from an address that the supplier names, as if an attacker had written it.

https only, to known hosts at public addresses (bitloot.core.outside); where a redirect leads is checked like the first
address.
"""

import re
import time
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests
from django.conf import settings
from django.utils.http import is_same_domain

from bitloot.core.outside import FAILURES, InvalidIPAddress, answer_to
from orders.covers import MAX_BYTES

TIMEOUT, SECONDS = (3.05, 10.0), 20
MAX_REDIRECTS = 3
HTTPS = 443
_HOST = re.compile(r"[a-z0-9.-]+")
_REDIRECTS = (301, 302, 303, 307, 308)


class NotFetched(Exception):
    """This address brings no picture; the message says why, and never quotes the answer."""


@dataclass(frozen=True)
class Piece:
    """What one request brought: where the picture is instead, or the whole body."""

    elsewhere: str = ""
    body: bytes = b""


def fetch(url: str) -> bytes:
    """Return at most 5 MiB from that address. Raises NotFetched."""
    deadline, place = time.monotonic() + SECONDS, _allowed(url)
    for _ in range(MAX_REDIRECTS + 1):
        piece = _get(place, deadline=deadline)
        if not piece.elsewhere:
            return piece.body
        place = _allowed(piece.elsewhere, seen_from=place)
    raise NotFetched("the address redirects too often")


def _allowed(url: str, *, seen_from: str = "") -> str:
    """Return the address, written anew from the parts that were checked: another parser may read the text otherwise."""
    try:
        parts = urlsplit(urljoin(seen_from, url))
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise NotFetched("the address cannot be read") from None
    if parts.scheme != "https" or port not in (None, HTTPS) or parts.username is not None or not _HOST.fullmatch(host):
        raise NotFetched("the address is not plain https")
    if not any(is_same_domain(host, pattern) for pattern in settings.COVER_HOSTS):
        raise NotFetched(f"{host[:80]} is not one of COVER_HOSTS")
    return f"https://{host}{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"


def _get(url: str, *, deadline: float) -> Piece:
    host = urlsplit(url).hostname
    # Uncompressed: a small answer might unpack to gigabytes.
    headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "BitLoot"}
    try:
        with answer_to(requests.Request("GET", url, headers=headers), timeout=TIMEOUT) as response:
            if response.status_code in _REDIRECTS and (elsewhere := response.headers.get("Location")):
                return Piece(elsewhere=elsewhere)
            return Piece(body=_body(response, deadline))
    except InvalidIPAddress as err:
        raise NotFetched(f"{host} has an address that is not public") from err
    except FAILURES as err:
        raise NotFetched(f"{host} did not answer: {type(err).__name__}") from err


def _body(response: requests.Response, deadline: float) -> bytes:
    if response.status_code != 200 or response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise NotFetched(f"the picture's host answered {response.status_code}")
    pieces: list[bytes] = []
    size = 0
    # read1 returns what is there, so that the deadline is seen even while the host trickles.
    while piece := response.raw.read1(65536, decode_content=False):
        size += len(piece)
        pieces.append(piece)
        # What Content-Length says is not asked: it may lie.
        if size > MAX_BYTES or time.monotonic() > deadline:
            raise NotFetched("the picture is too large or comes too slowly")
    return b"".join(pieces)

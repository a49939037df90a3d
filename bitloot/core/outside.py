"""Requests to addresses that strangers wrote: they reach the public internet, and nothing of ours."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import requests
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter
from urllib3.exceptions import HTTPError

from bitloot.core.database import leave_connection

__all__ = ["FAILURES", "InvalidIPAddress", "answer_to"]

# What `answer_to` raises when there is no answer, and what reading one may raise.
FAILURES = (requests.RequestException, HTTPError, OSError, ValueError)


@contextmanager
def answer_to(
    request: requests.Request,
    *,
    timeout: tuple[float, float],
    allow_loopback: bool = False,
    verify: bool | str = True,
) -> Iterator[requests.Response]:
    """Send a request once; its answer can be read until the block ends. Raises one of FAILURES.

    The host's name is looked up once, and the address that was checked is the one connected to: a name server that
    answers differently a moment later (DNS rebinding) leads nowhere. An address inside is InvalidIPAddress, and nothing
    is sent. As in bitloot.core.providers the adapter is used without a session: no redirects, no proxies, no cookies.
    """
    leave_connection()
    prepared = request.prepare()
    is_https = str(prepared.url).startswith("https://")
    adapter = IPFilterAdapter(is_https_proto=is_https, allow_loopback=allow_loopback)
    with closing(adapter), adapter.send(prepared, stream=True, timeout=timeout, verify=verify) as response:
        yield response

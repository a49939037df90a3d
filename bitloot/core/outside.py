"""Requests to addresses that strangers wrote: they reach the public internet, and nothing of ours."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import requests
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter
from urllib3.exceptions import HTTPError

from bitloot.core.connections import hurry
from bitloot.core.database import leave_connection

__all__ = ["FAILURES", "PORTS", "InvalidIPAddress", "PortRefused", "answer_to", "is_given_out"]

# What `answer_to` raises when there is no answer, and what reading one may raise.
FAILURES = (requests.RequestException, HTTPError, OSError, ValueError)
PORTS = (443, 8443)  # of web servers: at others a stranger could have us talk to anything that listens
# All of IPv6 that is given out. Outside of it lie site-local addresses (fec0::/10) and those that wrap one of IPv4.
_INTERNET = ip_network("2000::/3")


class PortRefused(requests.RequestException):
    """Nothing is sent to this port."""


class _PublicAdapter(IPFilterAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        hurry(self.poolmanager)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: bool | str, cert: str | tuple[str, str] | None = None
    ) -> Any:
        place, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        address = ip_address(place["host"].strip("[]"))  # looked up and checked
        if address.is_loopback:  # it came this far where it is allowed
            return place, pool
        if not is_given_out(address):
            raise InvalidIPAddress(address)
        if place["port"] not in (None, *PORTS):
            raise PortRefused(place["port"])
        return place, pool


def is_given_out(address: IPv4Address | IPv6Address) -> bool:
    return address.version == 4 or address in _INTERNET


@contextmanager
def answer_to(
    request: requests.Request,
    *,
    timeout: tuple[float, float],
    allow_loopback: bool = False,
    verify: bool | str = True,
) -> Iterator[requests.Response]:
    """Send a request once; its answer can be read until the block ends. Raises one of FAILURES.

    Its headers have the second timeout to come, all together; how long its body is read is for the caller to bound.

    The host's name is looked up once, and the address that was checked is the one connected to: a name server that
    answers differently a moment later (DNS rebinding) leads nowhere. An address inside is InvalidIPAddress, a port
    other than PORTS is PortRefused, and nothing is sent. As in bitloot.core.providers the adapter is used without a
    session: no redirects, no proxies, no cookies.
    """
    leave_connection()
    prepared = request.prepare()
    is_https = str(prepared.url).startswith("https://")
    adapter = _PublicAdapter(is_https_proto=is_https, allow_loopback=allow_loopback)
    with closing(adapter), adapter.send(prepared, stream=True, timeout=timeout, verify=verify) as response:
        yield response

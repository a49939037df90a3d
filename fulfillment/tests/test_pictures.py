"""Covers are fetched from addresses that somebody else writes: only the public internet, only known hosts."""

import socket
from urllib.parse import urlsplit

import pytest
import requests
import responses

from fulfillment.pictures import NotFetched, fetch
from orders.covers import MAX_BYTES

pytestmark = pytest.mark.once
URL = "https://images.kinguin.net/g/c.jpg?v=1"


@pytest.fixture
def wire():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def names(monkeypatch):
    """What names resolve to, for the hosts that `wire` lets through; nothing is ever connected to."""
    known = {}

    def resolve(host, port, **_):
        if host not in known:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[host], port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was called"))
    return known


def refusal(url=URL):
    with pytest.raises(NotFetched) as caught:
        fetch(url)
    return str(caught.value)


def test_a_picture_comes_from_the_address(wire):
    wire.get(URL, body=b"pixels")
    assert fetch(URL) == b"pixels"


@pytest.mark.parametrize("url", [
    "http://images.kinguin.net/c.jpg", "ftp://images.kinguin.net/c.jpg", "file:///etc/passwd", "//images.kinguin.net/c",
    "https://images.kinguin.net:8443/c.jpg", "https://me@images.kinguin.net/c.jpg", "https://[::1", "",
    "https://images.kinguin.net@evil.example/c.jpg", "https://evil.example/images.kinguin.net", "https://kinguin.net.evil.example/",
    "https://evilkinguin.net/c.jpg", "https://127.0.0.1/c.jpg", "https://169.254.169.254/latest/meta-data", "https://[::1]/c.jpg",
    "https://evil.example\\.kinguin.net/c.jpg", "https://2130706433/c.jpg", "https://localhost/c.jpg", "https://images.kinguin.net%00.evil.example/c.jpg",
])  # fmt: skip
def test_nothing_is_sent_to_any_other_place(wire, url):
    refusal(url)
    assert len(wire.calls) == 0


def test_a_name_that_leads_inside_or_nowhere_is_refused(names):
    assert refusal() == "images.kinguin.net did not answer: ConnectionError"
    names["images.kinguin.net"] = "10.0.0.5"
    assert refusal() == "images.kinguin.net has an address that is not public"


def test_a_redirect_is_looked_at_like_the_first_address(wire, names):
    wire.get(URL, status=302, headers={"Location": "https://static.kinguin.net/d.jpg"})
    wire.get("https://static.kinguin.net/d.jpg", status=301, headers={"Location": "/e.jpg"})
    wire.get("https://static.kinguin.net/e.jpg", body=b"pixels")
    assert fetch(URL) == b"pixels"
    for inside in (
        "http://images.kinguin.net/c.jpg",
        "https://127.0.0.1/",
        "https://evil.example/",
        "gopher://x",
        "//[::1",
    ):
        wire.replace("GET", URL, status=307, headers={"Location": inside})
        refusal()
    assert {urlsplit(call.request.url).hostname for call in wire.calls} == {"images.kinguin.net", "static.kinguin.net"}
    wire.remove("GET", "https://static.kinguin.net/d.jpg")
    wire.add_passthru("https://static.kinguin.net/")
    names["static.kinguin.net"] = "10.0.0.1"
    wire.replace("GET", URL, status=302, headers={"Location": "https://static.kinguin.net/d.jpg"})
    assert refusal() == "static.kinguin.net has an address that is not public"


def test_redirects_end(wire):
    wire.get(URL, status=302, headers={"Location": URL})
    assert refusal() == "the address redirects too often"
    assert len(wire.calls) == 4


@pytest.mark.parametrize("answer", [
    {"status": 404}, {"status": 204}, {"status": 206, "body": b"x"}, {"status": 302},
    {"body": requests.ConnectTimeout()}, {"headers": {"Content-Encoding": "gzip"}},
])  # fmt: skip
def test_anything_but_a_plain_answer_is_none(wire, answer):
    wire.get(URL, **{"body": b"", **answer})
    refusal()


def test_a_body_without_end_is_cut_off(wire):
    wire.get(URL, body=b"\x00" * (MAX_BYTES + 1))
    assert refusal() == "the picture is too large or comes too slowly"
    wire.replace("GET", URL, body=b"\x00" * MAX_BYTES)
    assert len(fetch(URL)) == MAX_BYTES

"""Covers are fetched from addresses that somebody else writes: only the public internet, only known hosts."""

import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
import responses
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fulfillment import pictures
from fulfillment.pictures import NotFetched, Place, fetch
from orders.covers import MAX_BYTES

pytestmark = pytest.mark.once
URL, ADDRESS = "https://images.kinguin.net/g/c.jpg?v=1", "104.18.20.30"
PINNED = f"https://{ADDRESS}/g/c.jpg?v=1"


@pytest.fixture
def names(monkeypatch):
    """What names resolve to: a public address, unless a test says otherwise."""
    known = {}

    def resolve(host, port, **_):
        if not known.get(host, True):
            raise OSError("no such name")
        return [(0, 0, 0, "", (address, port)) for address in known.get(host, [ADDRESS])]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    return known


@pytest.fixture
def wire(names):
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def refusal(url=URL):
    with pytest.raises(NotFetched) as caught:
        fetch(url)
    return str(caught.value)


def test_a_picture_comes_from_the_address_that_was_looked_at(wire):
    wire.get(PINNED, body=b"pixels")
    assert fetch(URL) == b"pixels"
    sent = wire.calls[0].request
    assert (sent.url, sent.headers["Host"]) == (PINNED, "images.kinguin.net")


@pytest.mark.parametrize("url", [
    "http://images.kinguin.net/c.jpg", "ftp://images.kinguin.net/c.jpg", "file:///etc/passwd", "//images.kinguin.net/c",
    "https://images.kinguin.net:8443/c.jpg", "https://me@images.kinguin.net/c.jpg", "https://[::1", "",
    "https://images.kinguin.net@evil.example/c.jpg", "https://evil.example/images.kinguin.net", "https://kinguin.net.evil.example/",
    "https://evilkinguin.net/c.jpg", "https://127.0.0.1/c.jpg", "https://169.254.169.254/latest/meta-data", "https://[::1]/c.jpg",
    "https://2130706433/c.jpg", "https://localhost/c.jpg", "https://images.kinguin.net%00.evil.example/c.jpg",
])  # fmt: skip
def test_nothing_is_sent_to_any_other_place(wire, url):
    refusal(url)
    assert len(wire.calls) == 0


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.0.0.5", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104
    "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "fe80::1%eth0",
    "fc00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::",
    "2001:0:a00:1::", "ff02::1", "2001:db8::1",
])  # fmt: skip
def test_a_name_that_leads_inside_is_refused_even_beside_a_public_address(wire, names, address):
    names["images.kinguin.net"] = [ADDRESS, address]
    assert refusal() == "images.kinguin.net has an address that is not public"
    assert len(wire.calls) == 0


def test_a_name_that_is_unknown_is_said(wire, names):
    names["images.kinguin.net"] = []
    assert refusal() == "images.kinguin.net has no address"


def test_a_redirect_is_looked_at_like_the_first_address(wire, names):
    names["static.kinguin.net"] = ["104.18.20.31"]
    wire.get(PINNED, status=302, headers={"Location": "https://static.kinguin.net/d.jpg"})
    wire.get("https://104.18.20.31/d.jpg", status=301, headers={"Location": "/e.jpg"})
    wire.get("https://104.18.20.31/e.jpg", body=b"pixels")
    assert fetch(URL) == b"pixels"
    for inside in ("http://images.kinguin.net/c.jpg", "https://127.0.0.1/", "https://evil.example/", "gopher://x"):
        wire.replace("GET", PINNED, status=307, headers={"Location": inside})
        refusal()
    names["images.kinguin.net"], names["static.kinguin.net"] = [ADDRESS], ["10.0.0.1"]
    wire.replace("GET", PINNED, status=302, headers={"Location": "https://static.kinguin.net/d.jpg"})
    assert "not public" in refusal()


def test_redirects_end(wire):
    wire.get(PINNED, status=302, headers={"Location": URL})
    assert refusal() == "the address redirects too often"
    assert len(wire.calls) == 4


@pytest.mark.parametrize("answer", [
    {"status": 404}, {"status": 204}, {"status": 206, "body": b"x"}, {"status": 302},
    {"body": requests.ConnectTimeout()}, {"headers": {"Content-Encoding": "gzip"}},
])  # fmt: skip
def test_anything_but_a_plain_answer_is_none(wire, answer):
    wire.get(PINNED, **{"body": b"", **answer})
    refusal()


def test_a_body_without_end_is_cut_off(wire):
    wire.get(PINNED, body=b"\x00" * (MAX_BYTES + 1))
    assert refusal() == "the picture is too large or comes too slowly"
    wire.replace("GET", PINNED, body=b"\x00" * MAX_BYTES)
    assert len(fetch(URL)) == MAX_BYTES


# --- the certificate, at a real server


def certificate(name, folder):
    """Write a certificate for the name that is its own authority; return its file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / f"{name}.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return str(file)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def https_server(tmp_path):
    """Serve https on loopback under the name "images.kinguin.net"; yield the port and the file to trust."""
    file = certificate("images.kinguin.net", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port, file
        server.shutdown()


def test_the_certificate_has_to_be_the_hosts(https_server):
    port, trusted = https_server

    def get(host):
        place, deadline = Place(host, "/"), time.monotonic() + 5
        return pictures._get(place, "127.0.0.1", deadline=deadline, port=port, verify=trusted).body

    assert get("images.kinguin.net") == b"images.kinguin.net"
    with pytest.raises(NotFetched, match="SSLError"):
        get("static.kinguin.net")

"""Requests to addresses of strangers reach the public internet only, and the host that they name."""

import contextlib
import socket
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from bitloot.core.outside import InvalidIPAddress, PortRefused, answer_to
from bitloot.tests.proxy import write_certificate
from bitloot.tests.serving import start_serving

pytestmark = pytest.mark.once
TIMEOUT = (3.05, 5.0)


def resolve_to(monkeypatch, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _host, port, *_, **__: [(family, socket.SOCK_STREAM, 6, "", (address, port))]
    )


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.0.0.5", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104
    "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1",
    "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:a00:1::", "ff02::1", "2001:db8::1",
    # Site-local; and what wraps an address of IPv4: as such (::10.0.0.1, ::8.8.8.8), NAT64, 6to4, Teredo, ISATAP.
    "fec0::1", "::a00:1", "::808:808", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::1", "2001::a9fe:a9fe",
    "fe80::5efe:a00:1", "::ffff:0:a00:1", "4000::1",
])  # fmt: skip
def test_a_name_that_leads_inside_is_not_called(monkeypatch, address):
    resolve_to(monkeypatch, address)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was called"))
    for url in ("https://shop.example/x", "http://shop.example/x"):
        with pytest.raises(InvalidIPAddress), answer_to(requests.Request("GET", url), timeout=TIMEOUT):
            pytest.fail("it was answered")


@pytest.mark.parametrize("port", [22, 80, 444, 5432, 6379, 8080])
def test_what_is_no_port_of_a_web_server_is_not_called(monkeypatch, port):
    resolve_to(monkeypatch, "93.184.215.14")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was called"))
    request = requests.Request("GET", f"https://shop.example:{port}/")
    with pytest.raises(PortRefused), answer_to(request, timeout=TIMEOUT):
        pytest.fail("it was answered")


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1"])
@pytest.mark.parametrize("port", ["", ":443", ":8443"])
def test_a_public_address_is_called_at_a_port_of_web_servers(monkeypatch, address, port):
    called = []

    def connect(_socket, place):
        called.append(place[:2])
        raise ConnectionRefusedError

    resolve_to(monkeypatch, address)
    monkeypatch.setattr(socket.socket, "connect", connect)
    request = requests.Request("GET", f"https://shop.example{port}/")
    with pytest.raises(requests.ConnectionError), answer_to(request, timeout=TIMEOUT):
        pytest.fail("it was answered")
    assert called == [(address, int(port[1:] or 443))]


class Handler(BaseHTTPRequestHandler):
    trickles = b""  # what is sent before headers that never end

    def do_GET(self):
        if self.trickles:
            self.trickle()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

    def trickle(self):
        self.wfile.write(self.trickles)
        with contextlib.suppress(OSError):
            while True:
                time.sleep(0.1)
                self.wfile.write(b"a")

    def log_message(self, *args):
        pass


@pytest.fixture
def https_server(tmp_path):
    """Serve https on loopback under the name "shop.example"; yield the port and the file to trust."""
    file = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, tmp_path / "privkey.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.daemon_threads, server.block_on_close = True, False
        start_serving(server)
        yield server.server_port, str(file)
        server.shutdown()


def test_the_certificate_has_to_be_the_hosts(https_server, monkeypatch):
    port, trusted = https_server
    resolve_to(monkeypatch, "127.0.0.1")

    def get(host):
        request = requests.Request("GET", f"https://{host}:{port}/")
        with answer_to(request, timeout=TIMEOUT, allow_loopback=True, verify=trusted) as response:
            return response.text

    assert get("shop.example") == f"shop.example:{port}"
    with pytest.raises(requests.exceptions.SSLError):
        get("other.example")


@pytest.mark.parametrize("trickles", [b"HTTP", b"HTTP/1.1 200 OK\r\nX-Slow: "])
def test_headers_that_never_end_are_cut_off(https_server, monkeypatch, trickles):
    port, trusted = https_server
    resolve_to(monkeypatch, "127.0.0.1")
    monkeypatch.setattr(Handler, "trickles", trickles)
    request, started = requests.Request("GET", f"https://shop.example:{port}/"), time.monotonic()
    answered = answer_to(request, timeout=(3.05, 0.5), allow_loopback=True, verify=trusted)
    with pytest.raises(requests.RequestException), answered:
        pytest.fail("it was answered")
    assert time.monotonic() - started < 5

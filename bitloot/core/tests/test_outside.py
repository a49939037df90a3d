"""Requests to addresses of strangers reach the public internet only, and the host that they name."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bitloot.core.outside import InvalidIPAddress, answer_to

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
])  # fmt: skip
def test_a_name_that_leads_inside_is_not_called(monkeypatch, address):
    resolve_to(monkeypatch, address)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was called"))
    for url in ("https://shop.example/x", "http://shop.example/x"):
        with pytest.raises(InvalidIPAddress), answer_to(requests.Request("GET", url), timeout=TIMEOUT):
            pytest.fail("it was answered")


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
    """Serve https on loopback under the name "shop.example"; yield the port and the file to trust."""
    file = certificate("shop.example", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port, file
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

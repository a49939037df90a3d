import contextlib
import datetime
import gzip
import logging
import socket
import ssl
import struct
import threading
import time
from decimal import Decimal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bitloot.core.providers import (
    MAX_ANSWER_BYTES,
    Answer,
    Cause,
    CredentialsRefused,
    OverBudget,
    ProviderNotSent,
    ProviderRejected,
    ProviderUnavailable,
    Transport,
    UnreadableAnswer,
)
from bitloot.core.reader import Fields
from bitloot.core.strict_json import Odd


class Wire:
    """A server on loopback that gives one scripted answer after another and keeps what it was sent."""

    def __init__(self, tls=None):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._tls = tls
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open = []
        self.answers = []
        self.requests = []
        self.connections = 0
        self.keeps = False  # deaf to “Connection: close”
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.host}"
        self._threads[0].start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for conn in self._open:
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self._listener.accept()
                self.connections += 1
                self._open.append(conn)
                self._threads.append(threading.Thread(target=self._serve, args=(conn, self.connections), daemon=True))
                self._threads[-1].start()

    def _serve(self, conn, number):
        with conn, contextlib.suppress(OSError):
            if self._tls:
                conn = self._tls.wrap_socket(conn, server_side=True)
            with conn:
                while request := self._read(conn):
                    self.requests.append((number, request))
                    answer = self.answers.pop(0)
                    if callable(answer):
                        answer(conn)
                        return
                    conn.sendall(answer)
                    if b"Connection: close" in request and not self.keeps:
                        return

    def _read(self, conn):
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = conn.recv(65536)
            if not chunk:
                return None
            received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += conn.recv(65536)
        return head + b"\r\n\r\n" + body


@pytest.fixture
def wire():
    server = Wire()
    yield server
    server.close()


@pytest.fixture
def elsewhere():
    server = Wire()
    yield server
    server.close()


def transport(wire, read_timeout=5, **headers):
    headers = {"X-Api-Key": "the-api-key", **headers}
    return Transport(provider="shop", base_url=f"{wire.url}/v1/", headers=headers, read_timeout=read_timeout)


def answer(body=b'{"ok":true}', status="200 OK", **headers):
    headers = {"Content-Length": len(body), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def unavailable(call, *args, **kwargs):
    with pytest.raises(ProviderUnavailable) as caught:
        call(*args, **kwargs)
    assert not isinstance(caught.value, ProviderNotSent)
    return caught.value


def test_a_request_goes_out_once_as_asked(wire):
    wire.answers = [answer(status="201 Created")]
    got = transport(wire).request("POST", "/order", body=b'{"a":1}', params={"q": "x y"}, headers={"X-One": "1"})
    assert (got.status, got.body, got.ok, got.json()) == (201, b'{"ok":true}', True, {"ok": True})
    [(_, sent)] = wire.requests
    head, body = sent.split(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/order?q=x+y HTTP/1.1"
    assert body == b'{"a":1}'
    assert {"X-Api-Key: the-api-key", "X-One: 1", "Accept-Encoding: identity", "Content-Type: application/json"} <= set(
        lines
    )
    assert not [line for line in lines if line.lower().startswith(("cookie", "authorization"))]


@pytest.mark.parametrize(
    "status", ["200 OK", "204 No Content", "400 Bad Request", "401 No", "404 No", "409 No", "422 No"]
)
def test_answers_that_say_something_are_returned(wire, status):
    wire.answers = [answer(b"", status)]
    got = transport(wire).request("GET", "/")
    assert (got.status, got.ok) == (int(status[:3]), status.startswith("2"))


@pytest.mark.parametrize("status", ["500 X", "502 X", "503 X", "599 X", "429 X", "408 X", "304 X", "600 X"])
def test_answers_that_prove_nothing_are_unavailable_and_asked_for_once(wire, status):
    wire.answers = [answer(b"<html>" if status != "304 X" else b"", status, Retry_After="0")]
    err = unavailable(transport(wire).request, "GET", "/")
    assert (err.status, err.body) == (int(status[:3]), b"<html>" if status != "304 X" else b"")
    assert len(wire.requests) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", ["301 X", "302 X", "303 X", "307 X", "308 X"])
def test_a_redirect_is_never_followed(wire, elsewhere, method, status, caplog):
    elsewhere.answers = [answer()]
    wire.answers = [answer(b"moved", status, Location=f"{elsewhere.url}/v1/order")]
    err = unavailable(transport(wire).request, method, "/order", body=b"{}" if method == "POST" else None)
    assert (err.status, err.body, len(wire.requests), elsewhere.connections) == (int(status[:3]), b"moved", 1, 0)
    assert "shop answered with a redirect, which is never followed" in caplog.messages


def endless(conn):
    conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for _ in range(1000):
        conn.sendall(chunk)


@pytest.mark.parametrize("status", ["200 OK", "307 X", "500 X"])
def test_an_answer_is_read_up_to_the_limit_only(wire, elsewhere, status):
    wire.answers = [answer(b"x" * (8 * MAX_ANSWER_BYTES), status, Location=elsewhere.url)]
    assert str(unavailable(transport(wire).request, "GET", "/")) == "answer too large"


def test_an_endless_answer_is_cut(wire):
    wire.answers = [endless]
    assert str(unavailable(transport(wire).request, "GET", "/")) == "answer too large"


def test_an_answer_of_the_limit_is_read_whole(wire):
    wire.answers = [answer(b"x" * MAX_ANSWER_BYTES)]
    assert len(transport(wire).request("GET", "/").body) == MAX_ANSWER_BYTES


def test_a_chunked_answer_is_read_whole(wire):
    wire.answers = [b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n']
    assert transport(wire).request("GET", "/").json() == {"a": 1}


def drip(conn, start=b""):
    conn.sendall(start)
    for _ in range(1000):
        conn.sendall(b"x")
        time.sleep(0.05)


DRIPPING = {
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
}


@pytest.mark.parametrize("start", DRIPPING.values(), ids=DRIPPING)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_dripping_body_ends_at_the_deadline(wire, method, start):
    wire.answers = [lambda conn: drip(conn, start)]
    started = time.monotonic()
    unavailable(transport(wire, 0.4).request, method, "/")
    assert 0.4 <= time.monotonic() - started < 8  # CONNECT_TIMEOUT counts as well


def only_continue(conn):
    for _ in range(1000):
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.05)


SLOW_HEADS = {
    "status": lambda conn: drip(conn, b"HTTP/1.1 200 "),
    "headers": lambda conn: drip(conn, b"HTTP/1.1 200 OK\r\nX-Slow: "),
    "100 Continue": only_continue,
}


@pytest.mark.parametrize("slow", SLOW_HEADS.values(), ids=SLOW_HEADS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_headers_that_drip_end_at_the_timeout_and_the_effect_is_unknown(wire, method, slow):
    wire.answers = [slow]
    started = time.monotonic()
    err = unavailable(transport(wire, 0.4).request, method, "/")
    assert err.cause is Cause.UNREACHABLE
    assert time.monotonic() - started < 8


def test_an_answer_that_was_slow_shortens_no_other(wire):
    wire.answers = [lambda conn: (time.sleep(0.3), conn.sendall(answer()), wire._serve(conn, 1)), answer()]
    asked = transport(wire, 0.5)
    assert asked.request("GET", "/").ok
    time.sleep(0.3)
    assert asked.request("GET", "/").ok


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_silence_ends_at_the_timeout_and_was_perhaps_heard(wire, method):
    wire.answers = [lambda conn: time.sleep(1)]
    err = unavailable(transport(wire, 0.2).request, method, "/")
    assert (err.status, len(wire.requests)) == (None, 1)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("end", [reset, lambda conn: None], ids=["reset", "closed"])
def test_a_connection_lost_after_sending_leaves_the_effect_unknown(wire, method, end):
    wire.answers = [end]
    unavailable(transport(wire).request, method, "/", body=b"{}")
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "torn",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 2",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-One: 1\r\n" * 200 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-One: " + b"x" * 1_000_000 + b"\r\n\r\n{}",
        b"",
    ],
    ids=range(9),
)
def test_a_torn_answer_leaves_the_effect_unknown(wire, torn):
    wire.answers = [lambda conn: conn.sendall(torn)]
    unavailable(transport(wire).request, "POST", "/", body=b"{}")
    assert len(wire.requests) == 1


def test_an_answer_torn_in_its_headers_is_not_mistaken_for_one(wire):
    wire.answers = [lambda conn: conn.sendall(b"HTTP/1.1 200 OK\r\nX-One: ")]
    unavailable(transport(wire).request("POST", "/", body=b"{}").json)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_connection_sent_nothing(method):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ProviderNotSent):
        Transport(provider="shop", base_url=f"http://127.0.0.1:{port}", headers={}).request(method, "/")


def test_a_host_without_an_address_was_sent_nothing():
    with pytest.raises(ProviderNotSent):
        Transport(provider="shop", base_url="http://shop.invalid", headers={}).request("POST", "/", body=b"{}")


@pytest.mark.parametrize("key", ["two\nlines", "two\r\nX-Evil: 1"])
def test_a_key_that_does_not_fit_a_header_was_not_sent(wire, key):
    with pytest.raises(ProviderNotSent):
        transport(wire).request("POST", "/", headers={"X-Api-Key": key})
    assert wire.connections == 0


@pytest.fixture
def tls(tmp_path):
    """A server certificate that nobody we trust has signed."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    (tmp_path / "cert").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server = Wire(context)
    server.url = f"https://{server.host}"
    yield server
    server.close()


def test_a_certificate_we_do_not_trust_is_sent_nothing(tls):
    with pytest.raises(ProviderNotSent):
        transport(tls).request("POST", "/", body=b"{}")
    assert tls.requests == []


def test_a_failed_handshake_is_judged_with_care(wire):
    wire.url = f"https://{wire.host}"
    wire.answers = [lambda conn: conn.sendall(answer())]
    wire._read = lambda conn: conn.recv(1)
    unavailable(transport(wire).request, "POST", "/", body=b"{}")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "gzip, gzip"])
@pytest.mark.parametrize("status", ["200 OK", "307 X"])
def test_a_compressed_answer_is_never_unpacked(wire, elsewhere, encoding, status):
    bomb = gzip.compress(b"0" * (64 * 1024 * 1024), 1)
    wire.answers = [answer(bomb, status, Content_Encoding=encoding, Location=elsewhere.url)]
    assert str(unavailable(transport(wire).request, "GET", "/")) == "compressed answer to a request for identity"
    assert elsewhere.connections == 0


def test_proxies_and_netrc_of_the_environment_are_ignored(wire, elsewhere, monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, elsewhere.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wire.answers = [answer()]
    transport(wire).request("GET", "/")
    assert elsewhere.connections == 0
    assert b"uthorization" not in wire.requests[0][1]


def test_cookies_are_not_kept(wire):
    wire.answers = [answer(Set_Cookie="session=1; Path=/"), answer(), answer()]
    client = transport(wire)
    for method in ("GET", "GET", "POST"):
        client.request(method, "/")
    assert not [request for _, request in wire.requests if b"ookie" in request]


def test_reads_share_a_connection_and_each_write_has_its_own(wire):
    wire.answers = [answer() for _ in range(6)]
    client = transport(wire)
    for method in ("GET", "GET", "POST", "POST", "GET", "DELETE"):
        client.request(method, "/", body=b"{}" if method == "POST" else None)
    assert [number for number, _ in wire.requests] == [1, 1, 2, 3, 1, 4]
    assert [b"Connection: close" in request for _, request in wire.requests] == [False, False, True, True, False, True]


def test_a_write_has_its_own_connection_even_where_the_other_side_keeps_it(wire):
    wire.keeps = True
    wire.answers = [answer() for _ in range(3)]
    client = transport(wire)
    for _ in range(3):
        client.request("POST", "/", body=b"{}")
    assert [number for number, _ in wire.requests] == [1, 2, 3]


def test_a_write_is_not_hurt_by_a_connection_that_the_other_side_just_closed(wire):
    wire.answers = [lambda conn: conn.sendall(answer()), answer(status="201 Created")]
    client = transport(wire)
    client.request("GET", "/")
    assert client.request("POST", "/", body=b"{}").status == 201


def test_a_connection_is_not_used_again_after_an_answer_was_left_unread(wire):
    wire.answers = [answer(b"x" * (2 * MAX_ANSWER_BYTES)), answer()]
    client = transport(wire)
    unavailable(client.request, "GET", "/")
    assert client.request("GET", "/").json() == {"ok": True}
    assert [number for number, _ in wire.requests] == [1, 2]


def test_the_log_names_the_call_and_no_secret(wire, caplog):
    caplog.set_level(logging.DEBUG, "bitloot")
    wire.answers = [answer(b'{"serial":"FAKE"}'), lambda conn: None]
    client = transport(wire)
    got = client.request("POST", "/order", body=b'{"client_secret":"s3cret"}', params={"email": "a@b.test"})
    unavailable(client.request, "GET", "/order")
    assert [message.split(" in ")[0] for message in caplog.messages] == [
        "shop POST /order: 200",
        "shop GET /order: ConnectionError",
    ]
    assert repr(got) == "Answer(status=200)"


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff", b"[" * 5000])
def test_an_answer_that_is_no_json_cannot_be_read(body):
    with pytest.raises(UnreadableAnswer, match="unreadable answer") as caught:
        Answer(200, body).json()
    assert (caught.value.status, caught.value.body) == (200, body)


def test_a_bad_value_spoils_only_its_own_member():
    body = b'{"a":1e999,"b":NaN,"c":"\\u0000","d":1,"d":2,"e":[-Infinity,5],"f":6}'
    answer = Answer(200, body).json()
    assert [type(answer[name]) for name in "abd"] == [Odd] * 3
    assert (answer["c"], answer["e"][1], answer["f"]) == ("\x00", 5, 6)
    with pytest.raises(UnreadableAnswer):
        Fields(answer, what="answer").text("c")


CAUSES = {
    ProviderNotSent: Cause.UNREACHABLE,
    ProviderUnavailable: Cause.UNREACHABLE,
    CredentialsRefused: Cause.CREDENTIALS,
    ProviderRejected: Cause.REQUEST,
    UnreadableAnswer: Cause.NONSENSE,
}


def test_the_causes_are_told_apart():
    assert {kind: kind("why").cause for kind in CAUSES} == CAUSES
    assert OverBudget("why", seconds=1).cause is Cause.BUDGET
    assert [cause.words for cause in Cause] == [
        "cannot be reached", "refuses our credentials", "refuses this request", "answers nonsense",
        "is not asked more often than it allows",
    ]  # fmt: skip
    assert {*CAUSES.values(), Cause.BUDGET} == set(Cause)


def test_an_answer_keeps_every_digit():
    assert Answer(200, b'{"a":0.1000000000000000055}').json() == {"a": Decimal("0.1000000000000000055")}


def test_a_transport_knows_its_host():
    assert Transport(provider="shop", base_url="https://shop.test:444/v1", headers={}).host == "shop.test:444"

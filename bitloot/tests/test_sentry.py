"""What Sentry receives, at a receiver of ours: enough to find an error, and nothing that opens anything."""

import gzip
import json
import subprocess
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from bitloot.tests.serving import start_serving
from tools.dev.devenv import ROOT, process_environment

# Status and body of what the providers answer, in turn; the marks become secrets of the process that asks.
ANSWERS = [
    (400, b'{"message":"SECRETS"}'),
    (401, b'{"code":"AUTH","message":"bad key SECRETS"}'),
    (403, b"SECRETS"),
    (404, b'{"kind":"OrderNotFound","detail":"SECRETS"}'),
    (422, b'{"kind":"ConstraintViolation","detail":"SECRETS","violations":[]}'),
    (429, b'{"message":"SECRETS"}'),
    (500, b"<html>SECRETS</html>"),
    (302, b"SECRETS"),
    (200, b"SECRETS, which is no JSON"),
    (200, b'{"status":"SECRETS","payment_status":"SECRETS","results":[{"orderId":"SECRETS"}]}'),
    (200, b'[{"serial":"SECRETS","type":"SECRETS"}]'),
]


@dataclass
class Receiver:
    """Takes envelopes as Sentry does, and answers everything else as a provider in trouble."""

    server: ThreadingHTTPServer
    secrets: str
    envelopes: list[bytes] = field(default_factory=list)
    asked: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for envelope in self.envelopes for line in envelope.splitlines() if line[:1] == b"{"]
        return [line for line in lines if "event_id" in line and "platform" in line]

    def answer(self) -> tuple[int, bytes]:
        # Eleven calls for each answer, see reported.py.
        status, body = ANSWERS[self.asked // 11 % len(ANSWERS)]
        self.asked += 1
        return status, body.replace(b"SECRETS", self.secrets.encode())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "/envelope" in self.path:
            self.receiver.envelopes.append(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
            self._send(200, b"{}")
        else:
            self._send(*self.receiver.answer())

    def do_GET(self) -> None:
        self._send(*self.receiver.answer())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> tuple[Receiver, dict[str, str], str]:
    var = tmp_path_factory.mktemp("reported")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    environment = process_environment(var, port=8000, sandbox_port=8001)
    written = dict(line.split("=", 1) for line in (var / "dev.env").read_text().splitlines())
    secrets = [value for name, value in written.items() if name.endswith(("_KEY", "_SECRET"))]
    receiver = Handler.receiver = Receiver(server, " ".join([*secrets, "CNRY1-CNRY2-CNRY3"]))
    start_serving(server)
    environment |= {
        "SENTRY_DSN": f"{receiver.url.replace('://', '://canary@')}/1",
        "NOWPAYMENTS_BASE_URL": f"{receiver.url}/v1",
        "KINGUIN_BASE_URL": f"{receiver.url}/esa/api",
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "ANSWERS": json.dumps([status for status, _ in ANSWERS]),
    }
    command = [sys.executable, "-m", "bitloot.tests.reported"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    *printed, canaries = done.stdout.splitlines()
    return receiver, json.loads(canaries), "\n".join([*printed, done.stderr])


def test_errors_arrive_with_the_order_and_the_request(reported):
    receiver, _, _ = reported
    calls = [event for event in receiver.events if event.get("logger") == "bitloot.tests.reported"]
    assert len(calls) > 50
    assert {(event["tags"]["request"], event["tags"]["order"]) for event in calls} == {
        ("canary-request-id", "canary-order-id")
    }
    names = {error["type"] for event in calls for error in event.get("exception", {}).get("values", [])}
    assert {"ProviderUnavailable", "UnreadableAnswer", "KinguinRejected", "UnreadableKey", "AmbiguousSearch"} <= names
    asked = {urlsplit(event["request"]["url"]).path for event in receiver.events if "request" in event}
    assert {"/api/webhooks/kinguin", "/admin/"} <= asked


def test_no_secret_token_code_link_or_address_arrives(reported):
    receiver, canaries, _ = reported
    everything = b"\n".join(receiver.envelopes).decode()
    assert [name for name, canary in canaries.items() if canary in everything] == []


def test_of_a_request_only_what_is_listed_arrives(reported):
    receiver, _, _ = reported
    requests = [event["request"] for event in receiver.events if "request" in event]
    assert {name for request in requests for name in request} == {"method", "url", "headers"}
    assert {name for request in requests for name in request["headers"]} <= {"Content-Length", "Content-Type", "Host"}
    assert not any("?" in request["url"] for request in requests)
    frames = [
        frame
        for event in receiver.events
        for error in event.get("exception", {}).get("values", [])
        for frame in error.get("stacktrace", {}).get("frames", [])
    ]
    assert frames
    assert not any("vars" in frame for frame in frames)
    assert not any(event.get("extra") for event in receiver.events)


def test_what_strangers_can_cause_at_will_spends_no_quota(reported):
    receiver, _, log = reported
    assert not [event for event in receiver.events if event.get("logger", "").startswith("django.security")]
    assert "evil" not in b"\n".join(receiver.envelopes).decode()
    assert "evil" not in log
    assert "TooManyFields" in log


def test_the_log_of_the_same_errors_holds_none_of_it_either(reported):
    _, canaries, log = reported
    assert "request=canary-request-id order=canary-order-id" in log
    assert [name for name, canary in canaries.items() if canary in log] == []

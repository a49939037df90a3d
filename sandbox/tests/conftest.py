import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from werkzeug.test import Client

from sandbox.app import create_app
from sandbox.config import Config

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name):
    return json.loads((FIXTURES / name).read_text())


def shape(value):
    """The types of a JSON value, so that two bodies can be compared without their values."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if type(value) in (int, float) else type(value).__name__


PATIENCE_SECONDS = 60  # of a busy machine


class Store:
    """What the store's webhook routes received, over real HTTP; `answers` are given before 200s."""

    def __init__(self):
        self.received = []
        self.answers = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def _handler(self):
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                store.received.append((self.path, dict(self.headers), raw))
                self.send_response(store.answers.pop(0) if store.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        return Handler

    def wait(self, count):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.received) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.received) >= count, self.received
        return [json.loads(raw) for _, _, raw in self.received]

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Caller:
    """The sandbox's APIs with their credentials."""

    def __init__(self, app):
        self.app = app
        self.http = Client(app)
        self.config = app.world.config

    def kinguin(self, method, path, body=None, **headers):
        headers = {"X-Api-Key": self.config.kinguin_api_key, **headers}
        return self.http.open(f"/kinguin/esa/api{path}", method=method, json=body, headers=headers)

    def nowpayments(self, method, path, body=None, **headers):
        headers = {"x-api-key": self.config.nowpayments_api_key, **headers}
        return self.http.open(f"/nowpayments/v1{path}", method=method, json=body, headers=headers)

    def control(self, path, body=None):
        return self.http.post(f"/control{path}", json=body or {})

    def order(self, external_id="order-1", *, product=1, qty=1, price=20.0, **line):
        products = [{"productId": f"64b{product:021d}", "qty": qty, "price": price, **line}]
        return self.kinguin("POST", "/v2/order", {"products": products, "orderExternalId": external_id})

    def payment(self, order_id="order-1", *, price=7.49, coin="eth", **more):
        body = {"price_amount": price, "price_currency": "eur", "pay_currency": coin, "order_id": order_id, **more}
        return self.nowpayments("POST", "/payment", body)

    def ledger(self, *what):
        rows = self.http.get("/control/ledger").json["ledger"]
        return [row for row in rows if not what or row["what"] in what]

    def until(self, check):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (outcome := check()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert outcome
        return outcome


@pytest.fixture
def store():
    store = Store()
    yield store
    store.close()


@pytest.fixture
def make_config(tmp_path, store):
    def make(**changes):
        values = {
            "kinguin_api_key": "kinguin-key",
            "kinguin_client_id": "client",
            "kinguin_client_secret": "client-secret",
            "kinguin_webhook_secret": "kinguin-hook",
            "nowpayments_api_key": "nowpayments-key",
            "nowpayments_ipn_secret": "ipn-secret",
            "db": str(tmp_path / "sandbox.sqlite3"),
            "store_url": store.url,
            "deliver_after_ms": 0,
            "step_ms": 0,
            "retry_ms": 10,
            "hold_s": 0,
        }
        return Config(**{**values, **changes})

    return make


@pytest.fixture
def start(make_config):
    apps = []

    def run(**changes):
        apps.append(create_app(make_config(**changes)))
        return Caller(apps[-1])

    yield run
    for app in apps:
        app.close()


@pytest.fixture
def sandbox(start):
    """A calm sandbox that delivers only when told."""
    return start(deliver="manual")

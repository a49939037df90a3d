import concurrent.futures
import signal
import smtplib
import socket
import subprocess
import sys
import time

import pytest
import requests

from tools.dev.supervise import free_port, wait_until

KEY = {"X-Api-Key": "kinguin-key"}


class Server:
    def __init__(self, config):
        self.url = f"http://127.0.0.1:{config.port}"
        command = [sys.executable, "-m", "sandbox", "--config-json", config.to_json()]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.http = requests.Session()
        self.http.trust_env = False

    def ready(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if self.http.get(f"{self.url}/nowpayments/v1/status", timeout=5).ok:
                    return self
            except requests.RequestException:
                time.sleep(0.05)
        raise AssertionError(self.process.communicate()[1])

    def order(self, external_id, **options):
        body = {
            "products": [{"productId": "64b000000000000000000001", "qty": 1, "price": 8}],
            "orderExternalId": external_id,
        }
        return self.http.post(f"{self.url}/kinguin/esa/api/v2/order", json=body, headers=KEY, timeout=60, **options)

    def ledger(self, what):
        rows = self.http.get(f"{self.url}/control/ledger?what={what}", timeout=60).json()["ledger"]
        return [row["external_id"] for row in rows]

    def end(self, by=signal.SIGKILL):
        self.process.send_signal(by)
        self.process.communicate(timeout=60)
        self.http.close()
        return self.process.returncode


@pytest.fixture
def serve(make_config):
    servers = []

    def run(**changes):
        servers.append(Server(make_config(**changes)))
        return servers[-1].ready()

    yield run
    for server in servers:
        if server.process.poll() is None:
            server.end()


def test_ledger_and_pending_webhook_outlive_kill_9(serve, store):
    port = free_port()
    options = {"port": port, "deliver": "manual", "retry_ms": 1000}
    server = serve(**options)
    orders = [f"order-{n}" for n in range(20)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert [answer.status_code for answer in pool.map(server.order, orders)] == [201] * 20
    store.wait(20)
    store.answers = [500]
    server.order("last")
    store.wait(21)
    server.end()
    store.received.clear()

    server = serve(**options)

    assert sorted(server.ledger("sold")) == sorted([*orders, "last"])
    assert server.order("last").status_code == 422
    assert store.wait(1)[-1]["orderExternalId"] == "last"


def test_terminated_server_ends_though_a_call_is_held(serve, store):
    server = serve(port=free_port(), hold_s=90)
    rule = {"op": "kinguin.order.create", "fault": "accept_then_silent", "times": 1}
    server.http.post(f"{server.url}/control/faults", json=rule, timeout=60)
    with pytest.raises(requests.RequestException), requests.Session() as other:
        other.post(
            f"{server.url}/kinguin/esa/api/v2/order",
            json={"products": [{"productId": "64b000000000000000000001", "qty": 1, "price": 8}]},
            headers=KEY,
            timeout=0.5,
        )
    wait_until(lambda: server.ledger("sold"), seconds=60, what="the order, whose caller did not wait for it")

    started = time.monotonic()

    assert server.end(signal.SIGTERM) == 0
    assert time.monotonic() - started < 50  # the call is held for a minute


def test_hundred_slow_calls_run_side_by_side(serve):
    server = serve(port=free_port(), delay_ms=600, deliver="manual")

    def call(number):
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{server.url}/kinguin/esa/api/v1/balance", headers=KEY, timeout=120).status_code

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        assert list(pool.map(call, range(100))) == [200] * 100

    # One after the other they would take a minute.
    assert time.monotonic() - started < 40


def test_taken_port_is_named(serve, make_config, tmp_path):
    server = serve(port=free_port())

    second = Server(make_config(port=int(server.url.rpartition(":")[2]), db=str(tmp_path / "other.sqlite3")))
    _, said = second.process.communicate(timeout=120)
    second.http.close()

    assert second.process.returncode == 1
    assert "choose another --port" in said


def test_the_sandbox_is_a_mail_server_too(serve):
    port = free_port()
    server = serve(port=free_port(), mail_port=port)
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as line:
        for number in range(2):
            line.sendmail("shop@x.example", ["ada@x.example"], f"Subject: Number {number}\n\nYour key is ready.\n")
    shown = server.http.get(f"{server.url}/control/mails", timeout=60).json()
    assert shown["taken"] == 2
    assert shown["mails"][0] == {"to": ["ada@x.example"], "subject": "Number 1", "text": "Your key is ready.\n"}


def test_a_purchase_whose_caller_is_killed_while_it_sends_was_never_asked_for(serve):
    server = serve()
    port = int(server.url.rpartition(":")[2])
    for body in ("", '{"orderExternalId": "order-1", "prod'):
        with socket.create_connection(("127.0.0.1", port)) as caller:
            head = ["POST /kinguin/esa/api/v2/order HTTP/1.1", "Host: kinguin", f"X-Api-Key: {KEY['X-Api-Key']}"]
            caller.sendall("\r\n".join([*head, "Content-Length: 300", "", body]).encode())
    server.order("order-2")
    assert server.ledger("order_received") == ["order-2"]

"""That `make bench` can be run at all; how fast anything is, no test says."""

import http.server
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from bitloot.tests.serving import start_serving
from tools.bench import crypto, load, report
from tools.bench.cpu import Meter
from tools.bench.delivery import Deliveries, Mails
from tools.bench.http import Sample
from tools.bench.lookups import Size, Sweep
from tools.dev.devenv import ROOT


class Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen[self.path] += 1
        time.sleep(0.06 if self.path == "/slow" else 0)
        self.send_response(204 if self.path in ("/nothing", "/slow") else 201)
        if self.path in ("/nothing", "/slow"):
            self.end_headers()
            return
        self.send_header("content-length", "0" if self.path == "/mute" else str(len(body) * 20_000))
        self.end_headers()
        if self.path != "/mute":
            self.wfile.write(body * 20_000)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.seen = Counter()
        thread = start_serving(server)
        yield server
        server.shutdown()
        thread.join()


def post(path, body=b"12345"):
    return load.request("POST", path, host="127.0.0.1", body=body, headers={"X-One": "1"})


def test_a_request_is_plain_http():
    assert post("/a", b"{}") == (
        b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nX-One: 1\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_every_request_is_sent_once_and_every_answer_read_to_its_end(server):
    done = load.run(
        [post("/large"), post("/nothing"), post("/mute")] * 10,
        port=server.server_port, connections=4, seconds=30, keep_bodies=True,
    )  # fmt: skip
    assert [dict(done.statuses), dict(server.seen)] == [{201: 20, 204: 10}, {"/large": 10, "/nothing": 10, "/mute": 10}]
    assert Counter(len(body) for body in done.bodies) == {0: 20, 100_000: 10}
    assert [len(done.latencies), done.percentile(0.0) > 0, done.rate > 0] == [30, True, True]


def test_a_run_ends_when_its_time_is_over(server):
    done = load.run([post("/slow")] * 1000, port=server.server_port, connections=2, seconds=1)
    assert 2 <= len(done.latencies) < 1000


def test_a_pace_is_kept_and_a_wait_counts_from_when_its_turn_was(server):
    done = load.run_paced([post("/nothing")] * 30, port=server.server_port, connections=2, rate=100)
    assert [done.statuses, done.seconds > 0.28] == [{204: 30}, True]
    slow = load.run_paced([post("/slow")] * 4, port=server.server_port, connections=1, rate=1000)
    assert slow.percentile(0.99) > 0.2  # the last one waited for the three before it


@pytest.mark.node
def test_a_page_that_is_left_open_asks_seldom():
    assert 1 <= crypto.reads_per_minute() < 10


def test_a_server_that_hangs_up_stops_the_measurement():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(load.NoAnswer):
            load.run([post("/")] * 2, port=server.server_port, connections=1, seconds=5)
        thread.join()


def test_the_meter_counts_a_process_and_what_it_started():
    burn = "import time; t = time.process_time()\nwhile time.process_time() - t < {}: pass"
    child = f"subprocess.run([sys.executable, '-c', {burn.format(0.2)!r}])"
    code = f"import subprocess, sys\n{child}\n{burn.format(0.1)}\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        meter = Meter([process.pid])
        meter.start()
        while meter.used() < 0.25 and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None
        process.communicate(b"\n")


def test_the_table_shows_medians_and_spread():
    samples = [Sample(rate, 1.0, 2.0, 0.5, 100) for rate in (900.0, 1000.0, 1200.0)]
    lines = [
        report.http_line("IPN", samples),
        report.delivery_line("Orders", [Deliveries(40.0, 20.0, 45.0, 200), Deliveries(42.0, 22.0, 47.0, 200)]),
        report.mail_line("Mailed", [Mails(0.5, 0.9, 100)]),
    ]
    assert report.table(lines).splitlines() == [
        "| what                                 | rate /s | p50 ms | p99 ms | CPU s per 1000 | spread of the rate |",
        "|--------------------------------------|---------|--------|--------|----------------|--------------------|",
        "| IPN                                  | 1000    | 1.0    | 2.0    | 0.50           | 900 to 1200        |",
        "| Orders; worker 21.0 ms CPU per order | 41.0    |        |        | 46.0           | 40 to 42           |",
        "| Mailed: p95 900 ms                   |         | 500    |        |                | 0.9 to 0.9         |",
    ]


def test_sizes_are_told_side_by_side_with_the_plan():
    sweep = Sweep(0.031, 2, "Update on webhooks_webhooklog")
    told = report.sizes(
        [Size(orders, {"order by its id": 99.0}, {"webhooks": sweep}) for orders in (10_000, 1_000_000)]
    )
    assert [" ".join(line.split()) for line in told.splitlines()] == [
        "one lookup, median µs 10 000 orders 1 000 000 orders",
        "order by its id 99 99",
        "sweep of webhooks 0.031 ms, 2 pages 0.031 ms, 2 pages",
        "",
        "The plan of a sweep at 1 000 000 orders:",
        "Update on webhooks_webhooklog",
    ]


@pytest.mark.nightly
@pytest.mark.production
@pytest.mark.timeout(600)
def test_the_bench_measures_an_acknowledgement_and_a_delivery():
    command = [sys.executable, "-m", "tools.bench", "--quick", "--seconds", "0.3", "--orders", "3"]
    command += ["--only", "^IPN, repeated|revealed|Page: order|sealed, opened|in 0 ms|paid to mailed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    assert [done.returncode, done.stderr] == [0, ""]
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows[:3] == ["what", "IPN, repeated, worker stopped", "Key revealed, 100 a second"]
    assert [row.partition(":")[0].partition(";")[0] for row in rows[3:]] == [
        "Page",
        "A key sealed",
        "A key opened",
        "A link to R2 signed",
        "Orders delivered, the supplier answers in 0 ms",
        "From paid to mailed at 10 orders/s",
    ]

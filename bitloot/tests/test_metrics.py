"""`/metrics` over real rows, and the dashboard and alert rules that read it."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
import responses
import yaml
from django.conf import settings
from django.core.cache import cache
from django.db.models.functions import Now
from prometheus_client.parser import text_string_to_metric_families

from bitloot.accounting.tests import ledgers
from bitloot.core.models import Sweep
from bitloot.core.outcome import Outcome
from bitloot.core.providers import ProviderError, Transport
from bitloot.ops.metrics import GAUGES
from bitloot.tests.services import DIRECT, EMBEDDED, free_port, wait_until
from fulfillment.call_log import ANSWERS
from fulfillment.models import Reservation, SupplierCall, SupplierGate
from orders.alerts import raise_alert
from orders.models import AlertChannel, Email, Order
from orders.tests.factories import make_order, make_paid_order
from payments.models import Payment, Refund
from storage.services import reveal
from storage.tests.factories import OPENER, make_item, make_key
from tools.dev.devenv import ROOT, process_environment
from webhooks.models import WebhookLog
from webhooks.tests.factories import make_log

pytestmark = pytest.mark.django_db
DEPLOY = Path(settings.BASE_DIR) / "deploy"
RULES = DEPLOY / "prometheus" / "bitloot.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "bitloot.json"
STATUSES = {
    "bitloot_orders": Order.Status,
    "bitloot_payments": Payment.Status,
    "bitloot_reservations": Reservation.Status,
    "bitloot_refunds": Refund.Status,
    "bitloot_mails": Email.Status,
    "bitloot_webhooks_day": WebhookLog.Status,
}


TOKEN = "a-token-of-ours-for-scrapes-7Qx2"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def exported(client, settings):
    def scrape():
        cache.clear()
        settings.METRICS_TOKEN = TOKEN
        return client.get("/metrics", headers=AUTHORIZED).content.decode()

    return scrape


@pytest.fixture
def scraped(exported):
    def scrape():
        families = text_string_to_metric_families(exported())
        return {(one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples}

    return scrape


@pytest.fixture
def busy():
    """A store in which each gauge has something to say."""
    delivered = ledgers.delivered_order()
    ledgers.put(delivered, paid_at=Now() - timedelta(seconds=90), fulfilled_at=Now())
    ledgers.refunded_order()
    reservation = ledgers.reservation_of(delivered)
    for outcome, milliseconds in (("ok", 120), ("ok", 140), ("ProviderUnavailable", 5000)):
        SupplierCall.objects.create(reservation=reservation, call="read", outcome=outcome, milliseconds=milliseconds)
    ledgers.put(ledgers.reservation_of(ledgers.paid_order()), next_attempt_at=Now() - timedelta(minutes=10))
    ledgers.paying(ledgers.make_order(), "confirming")
    SupplierGate.objects.create(host="kinguin.example", balance="12.50")
    AlertChannel.objects.create(name="mail to staff", delivered_at=Now())
    raise_alert("low_balance", "kinguin.example", "It is low.")
    make_log()
    Sweep.objects.create(name="coins")
    return delivered


def test_each_gauge_says_what_the_rows_say(busy, scraped):
    seen = scraped()
    assert {name for name, *_ in GAUGES} <= {name for name, *_ in seen}
    assert seen["bitloot_orders", "fulfilled"] == 1
    assert seen["bitloot_alerts_open", "low_balance"] == 1
    assert seen["bitloot_supplier_calls", "ProviderUnavailable", "read"] == 1
    assert seen["bitloot_supplier_call_seconds", "0.95", "read"] == 5
    assert seen["bitloot_paid_to_key_seconds", "0.5"] == pytest.approx(90, abs=2)
    assert seen["bitloot_queue_oldest_seconds", "reservation"] == pytest.approx(600, abs=60)
    assert seen["bitloot_supplier_balance_eur", "kinguin.example"] == 12.5
    assert [seen["bitloot_webhooks_day", "received"], seen["bitloot_payments_moving",]] == [1, 1]


def test_an_empty_store_can_be_watched(scraped):
    seen = scraped()
    assert seen["bitloot_queue_due", "webhooklog"] == 0
    assert not any(name == "bitloot_paid_to_key_seconds" for name, *_ in seen)


def test_a_gate_is_closed_in_safe_mode(busy, scraped, settings):
    assert scraped()["bitloot_supplier_gate_open", "kinguin.example"] == 1
    settings.SAFE_MODE = True
    assert scraped()["bitloot_supplier_gate_open", "kinguin.example"] == 0


def test_many_rows_cost_no_more_statements(busy, scraped, django_assert_max_num_queries):
    for _ in range(3):
        ledgers.delivered_order()
    with django_assert_max_num_queries(45):
        scraped()


def expressions():
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


SAMPLES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def sample_names(text):
    """The names that a query can use, of every family that a page announces, with samples or without."""
    announced = re.findall(r"^# TYPE (bitloot_\w+) (\w+)$", text, re.MULTILINE)
    return {name + ending for name, kind in announced for ending in SAMPLES[kind]}


def test_rules_and_dashboard_read_what_there_is(exported):
    known = sample_names(exported())
    named = {name for expression in expressions() for name in re.findall(r"bitloot_\w+", expression)}
    assert named - known == set()
    assert {name for name in known if name.endswith(("_total", "_bucket"))} - named <= {
        "bitloot_broker_messages_dropped_total", "bitloot_wakeups_sent_total", "bitloot_wakeups_lost_total",
    }  # fmt: skip


def test_counters_count_what_happens(scraped, client, settings):
    before = scraped()

    def more(*sample):
        return scraped().get(sample, 0) - before.get(sample, 0)

    order = make_order(status="fulfilled", paid_at=Now())
    reveal(order=order, keys=[make_key(make_item(order=order)) for _ in range(2)], by=OPENER)
    log = make_log()
    log = WebhookLog.objects.claim(only=log.pk)[0]
    log.mark_done(Outcome.processed("Noted."))
    client.post("/api/payments/ipn", b"{}", content_type="application/json")
    settings.THROTTLE_SCALE = 1 / 600
    assert [client.get("/api/products").status_code for _ in range(2)] == [200, 429]
    assert more("bitloot_keys_opened_total") == 2
    assert more("bitloot_webhooks_handled_total", "nowpayments", "processed") == 1
    assert more("bitloot_webhooks_total", "401", "nowpayments") == 1
    assert more("bitloot_throttled_total", "read") == 1


def test_the_time_from_payment_to_key_is_observed_once_it_is_committed(scraped, django_capture_on_commit_callbacks):
    before = scraped().get(("bitloot_delivery_seconds_count",), 0)
    order = make_paid_order()
    ledgers.put(order, paid_at=Now() - timedelta(seconds=90))
    order.refresh_from_db()
    with django_capture_on_commit_callbacks(execute=True):
        assert order.mark_fulfilled()
        assert not order.mark_fulfilled()
        assert scraped()["bitloot_delivery_seconds_count",] == before
    after = scraped()
    assert after["bitloot_delivery_seconds_count",] == before + 1
    assert after["bitloot_delivery_seconds_bucket", "120.0"] - after["bitloot_delivery_seconds_bucket", "60.0"] >= 1


@responses.activate
def test_a_providers_calls_are_timed_by_outcome(scraped):
    transport = Transport(provider="kinguin", base_url="https://kinguin.example", headers={})
    before = scraped()
    for status in (200, 404, 503, 302):
        responses.get("https://kinguin.example/x", status=status)
        with contextlib.suppress(ProviderError):
            transport.request("GET", "/x")
    after = scraped()
    counted = {
        outcome: after[key] - before.get(key, 0)
        for outcome in ("ok", "refused", "unreachable", "nonsense")
        if (key := ("bitloot_provider_call_seconds_count", *sorted(("kinguin", outcome))))
    }
    assert counted == {"ok": 1, "refused": 1, "unreachable": 1, "nonsense": 1}


# --- other processes


def ask(port, headers=AUTHORIZED):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
    with DIRECT.open(request, timeout=10) as answer:
        return answer.read().decode()


def reachable(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# What granian's workers do: children of one parent that import the application, and are asked in turn.
WEB = f"""
import bitloot.wsgi
from django.test import Client
client = Client()
client.post("/api/payments/ipn", b"{{}}", content_type="application/json")
print(client.get("/metrics", headers={AUTHORIZED!r}).content.decode())
"""


@pytest.mark.once
@pytest.mark.timeout(180)
def test_every_process_exports_its_counters_to_those_who_have_the_token(tmp_path):
    port = free_port(row=2)  # the worker's and beat's
    own = process_environment(tmp_path, port=8000, sandbox_port=8001, METRICS_PORT=str(port), METRICS_TOKEN=TOKEN)
    own |= EMBEDDED | {"TMPDIR": str(tmp_path)}

    def start(*words, **options):
        return subprocess.Popen([sys.executable, *words], cwd=ROOT, env=own, text=True, **options)

    assert start("manage.py", "migrate", "-v0").wait(60) == 0
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    beat = ("bitloot.beat", "beat", "--pidfile=", "--schedule", str(tmp_path / "beat"))
    others = [start("-m", "celery", "-A", *words, **quiet) for words in (("bitloot", "worker"), beat)]
    web = [start("-c", WEB, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        pages = [process.communicate(timeout=60)[0] for process in web]
        counted = [re.findall(r'bitloot_webhooks_total{answer="401",provider="nowpayments"} (\S+)', p) for p in pages]
        assert max(counted) == ["2.0"]  # whoever was asked last knows of both
        assert all("bitloot_build_info" in page for page in pages)
        for at, name in ((port, "bitloot_delivery_seconds_bucket"), (port + 1, "bitloot_beat_sent_total")):
            wait_until(lambda at=at: reachable(at), seconds=60, what="a metrics page")
            names = sample_names(ask(at))
            assert name in names
            # Theirs would keep BitLootDown from noticing that no web process answers.
            assert not names & {gauge for gauge, *_ in GAUGES}
            with pytest.raises(urllib.error.HTTPError, match="404") as refused:
                ask(at, headers={})
            refused.value.close()
    finally:
        for process in (*others, *web):
            process.kill()
            process.wait(10)


def test_rules_and_dashboard_name_statuses_that_there_are():
    found = [match for one in expressions() for match in re.findall(r'(bitloot_\w+)\{status!?="(\w+)"\}', one)]
    assert found
    assert [(name, status) for name, status in found if status not in STATUSES[name].values] == []


def test_an_answer_of_the_supplier_is_no_error():
    (rule,) = (one for one in expressions() if "!~" in one)
    named = re.search(r'outcome!~"([^"]+)"', rule)
    assert set(named[1].split("|")) == {"ok", *(error.__name__[:20] for error in ANSWERS)}


def test_each_rule_says_what_is_wrong_and_how_urgent_it_is():
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"].endswith(".")
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert re.fullmatch(r"\d+[mh]", rule["for"])

"""`/metrics` over real rows, and the dashboard and alert rules that read it."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.core.cache import cache
from django.db.models.functions import Now
from prometheus_client.parser import text_string_to_metric_families

from bitloot.accounting.tests import ledgers
from bitloot.ops.metrics import GAUGES
from fulfillment.call_log import ANSWERS
from fulfillment.models import Reservation, SupplierCall, SupplierGate
from orders.alerts import raise_alert
from orders.models import AlertChannel, Email, Order
from payments.models import Payment, Refund
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


@pytest.fixture
def scraped(client, settings):
    def scrape():
        cache.clear()
        settings.METRICS_TOKEN = "a-token-of-ours"
        text = client.get("/metrics", headers={"Authorization": "Bearer a-token-of-ours"}).content.decode()
        families = text_string_to_metric_families(text)
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


def test_rules_and_dashboard_read_what_there_is():
    named = {name for expression in expressions() for name in re.findall(r"bitloot_\w+", expression)}
    assert named - {name for name, *_ in GAUGES} == set()


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

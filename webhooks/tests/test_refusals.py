import pytest
from django.core.cache import caches
from django.test import RequestFactory

from orders.models import Alert
from webhooks import refusals
from webhooks.models import WebhookLog
from webhooks.tasks import report_refusals

ROUTES = ["/api/payments/ipn", "/api/webhooks/kinguin"]


@pytest.fixture(autouse=True)
def _fresh_counters():
    caches["local"].clear()


@pytest.fixture
def rung(monkeypatch):
    notified = []
    monkeypatch.setattr("bitloot.core.wakeup.notify_now", notified.append)
    return notified


@pytest.mark.parametrize("route", ROUTES)
def test_flood_without_signature_gets_429_and_touches_no_database(client, settings, route, rung):
    # No django_db mark: a query would fail this test.
    settings.THROTTLE_SCALE = 0.05  # fifteen a minute
    statuses = [client.post(route, b"{}", content_type="application/json").status_code for _ in range(20)]
    assert statuses == [401] * 15 + [429] * 5
    assert rung == ["refusals"]


def test_addresses_are_counted_apart(settings, rung):
    settings.THROTTLE_SCALE = 1 / refusals.TOO_MANY
    first, second = (RequestFactory().post("/", REMOTE_ADDR=address) for address in ("192.0.2.1", "192.0.2.2"))
    assert [refusals.status_for(first, "kinguin") for _ in range(2)] == [401, 429]
    assert refusals.status_for(second, "kinguin") == 401


def test_without_throttles_nothing_is_429(client, settings, rung):
    settings.THROTTLE_SCALE = 0
    statuses = {client.post(ROUTES[0], b"{}", content_type="application/json").status_code for _ in range(320)}
    assert statuses == {401}


@pytest.mark.django_db
def test_staff_hear_of_refusals_once():
    report_refusals()
    report_refusals()
    assert Alert.objects.get(kind="webhooks_refused").times == 2
    assert not WebhookLog.objects.exists()

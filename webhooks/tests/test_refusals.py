import pytest
from django.core.cache import caches
from django.test import RequestFactory

from orders.models import Alert
from webhooks import refusals
from webhooks.models import WebhookLog

ROUTES = ["/api/payments/ipn", "/api/webhooks/kinguin"]


@pytest.fixture(autouse=True)
def _fresh_counters():
    caches["local"].clear()


@pytest.mark.parametrize("route", ROUTES)
def test_flood_without_signature_gets_429_and_touches_no_database(client, settings, route):
    # No django_db mark: a query would fail this test.
    caches["local"].set_many({"told:kinguin": True, "told:nowpayments": True})
    settings.THROTTLE_SCALE = 0.05  # fifteen a minute
    statuses = [client.post(route, b"{}", content_type="application/json").status_code for _ in range(20)]
    assert statuses == [401] * 15 + [429] * 5


def test_addresses_are_counted_apart(settings):
    settings.THROTTLE_SCALE = 1 / refusals.TOO_MANY
    first, second = (RequestFactory().post("/", REMOTE_ADDR=address) for address in ("192.0.2.1", "192.0.2.2"))
    assert [refusals.status_for(first, "kinguin") for _ in range(2)] == [401, 429]
    assert refusals.status_for(second, "kinguin") == 401


@pytest.mark.django_db
def test_without_throttles_nothing_is_429(client, settings):
    settings.THROTTLE_SCALE = 0
    statuses = {client.post(ROUTES[0], b"{}", content_type="application/json").status_code for _ in range(320)}
    assert statuses == {401}


@pytest.mark.django_db
def test_staff_hear_of_refusals_once_a_minute_from_however_many_addresses():
    for host in range(3):
        request = RequestFactory().post("/", REMOTE_ADDR=f"192.0.2.{host}")
        for _ in range(refusals.TELL_STAFF_AT):
            refusals.status_for(request, "kinguin")
    assert Alert.objects.get(kind="webhooks_refused").times == 1
    assert not WebhookLog.objects.exists()

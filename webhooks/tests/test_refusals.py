import pytest
from django.core.cache import caches
from django.test import RequestFactory

from bitloot.ops import watchdog
from orders.models import Alert
from webhooks import refusals
from webhooks.models import WebhookLog
from webhooks.tests.factories import sign

ROUTES = ["/api/payments/ipn", "/api/webhooks/kinguin"]


@pytest.fixture(autouse=True)
def _fresh_counters():
    caches["local"].clear()
    refusals._to_report.clear()


@pytest.mark.parametrize("route", ROUTES)
def test_flood_without_signature_gets_429_and_touches_no_database(client, settings, route):
    # No django_db mark: a query would fail this test.
    settings.THROTTLE_SCALE = 0.05  # fifteen a minute
    statuses = [client.post(route, b"{}", content_type="application/json").status_code for _ in range(20)]
    assert statuses == [401] * 15 + [429] * 5
    assert refusals._to_report == {"nowpayments" if "ipn" in route else "kinguin"}


def test_addresses_are_counted_apart(settings):
    settings.THROTTLE_SCALE = 1 / refusals.TOO_MANY
    first, second = (RequestFactory().post("/", REMOTE_ADDR=address) for address in ("192.0.2.1", "192.0.2.2"))
    assert [refusals.status_for(first, "kinguin") for _ in range(2)] == [401, 429]
    assert refusals.status_for(second, "kinguin") == 401


def test_without_throttles_nothing_is_429(client, settings):
    settings.THROTTLE_SCALE = 0
    statuses = {client.post(ROUTES[0], b"{}", content_type="application/json").status_code for _ in range(320)}
    assert statuses == {401}


SIGNED = b'{"payment_id":5077125051,"payment_status":"finished"}'
# The same IPN in other bytes, which fit its signature only after they were read.
SPACED = SIGNED.replace(b",", b", ")


@pytest.mark.django_db
def test_flooding_address_is_heard_only_with_bytes_that_are_signed_as_they_come(client, settings):
    settings.THROTTLE_SCALE = 1 / refusals.TOO_MANY

    def send(body):
        headers = {"x-nowpayments-sig": sign(SIGNED)}
        return client.post(ROUTES[0], body, content_type="application/json", headers=headers).status_code

    assert send(SPACED) == 200
    assert [send(b"{}") for _ in range(3)] == [401, 429, 429]
    assert [send(SPACED), send(SIGNED)] == [429, 200]


@pytest.mark.redis
def test_processes_count_refusals_together(settings):
    settings.THROTTLE_SCALE = 20 / refusals.TOO_MANY
    request = RequestFactory().post("/", REMOTE_ADDR="192.0.2.1")
    statuses = []
    for _ in range(22):
        caches["local"].clear()  # as another process finds it
        statuses.append(refusals.status_for(request, "kinguin"))
    assert statuses == [401] * 20 + [429] * 2
    assert refusals._to_report == {"kinguin"}


@pytest.mark.once  # with Redis the count is shared, and the tenth refusal is the tenth of all
@pytest.mark.django_db
def test_the_watchdog_tells_staff_once_without_any_broker(client):
    for _ in range(2):
        caches["local"].clear()
        assert {client.post(ROUTES[0], b"{}", content_type="application/json").status_code for _ in range(12)} == {401}
        assert watchdog.look() is None
    alert = Alert.objects.get(kind="webhooks_refused")
    assert (alert.times, "NOWPayments" in alert.message) == (2, True)
    assert not WebhookLog.objects.exists()

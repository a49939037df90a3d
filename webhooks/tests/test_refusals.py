import pytest
from django.core.cache import caches

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


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_of_a_flooding_address_is_verified(client, settings, route):
    settings.THROTTLE_SCALE = 1 / refusals.TOO_MANY
    assert [client.post(route, b"{}", content_type="application/json").status_code for _ in range(2)] == [401, 429]
    # Without a secret a verification ends with 503.
    settings.NOWPAYMENTS_IPN_SECRET = settings.KINGUIN_WEBHOOK_SECRET = ()
    answer = client.post(route, b"{}", content_type="application/json")
    assert (answer.status_code, answer["Retry-After"]) == (429, "60")


def test_without_throttles_nothing_is_429(client, settings):
    settings.THROTTLE_SCALE = 0
    statuses = {client.post(ROUTES[0], b"{}", content_type="application/json").status_code for _ in range(320)}
    assert statuses == {401}


SIGNED = b'{"payment_id":5077125051,"payment_status":"finished"}'


@pytest.mark.django_db
def test_a_flooding_address_shuts_nobody_else_out(client, settings):
    settings.THROTTLE_SCALE = 1 / refusals.TOO_MANY

    def send(body, address):
        headers = {"x-nowpayments-sig": sign(SIGNED)}
        options = {"content_type": "application/json", "headers": headers, "REMOTE_ADDR": address}
        return client.post(ROUTES[0], body, **options).status_code

    flood = [send(b"{}", "2001:db8:1:2::1"), send(b"{}", "2001:db8:1:2::2"), send(SIGNED, "2001:db8:1:2::3")]
    assert flood == [401, 429, 429]
    assert [send(SIGNED, address) for address in ("192.0.2.1", "2001:db8:1:3::1")] == [200, 200]


@pytest.mark.redis
def test_processes_count_refusals_together(client, settings):
    settings.THROTTLE_SCALE = 20 / refusals.TOO_MANY
    statuses = []
    for _ in range(22):
        caches["local"].clear()  # as another process finds it
        statuses.append(
            client.post(ROUTES[1], b"{}", REMOTE_ADDR="192.0.2.9", content_type="application/json").status_code
        )
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

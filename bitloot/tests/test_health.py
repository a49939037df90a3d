from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import InterfaceError, OperationalError, connection
from django.db.models.functions import Now
from django.test import Client

from fulfillment import gate
from fulfillment.models import Reservation, SupplierGate
from orders.alerts import raise_alert
from orders.models import Email
from orders.tests.factories import make_paid_order
from payments.models import Coin
from storage.models import Key
from storage.tests.factories import make_key
from webhooks.models import WebhookLog
from webhooks.tests.factories import make_log

pytestmark = pytest.mark.django_db


@pytest.fixture
def coin():
    return Coin.objects.create(code="btc", name="Bitcoin")


@pytest.fixture
def down():
    def refuse(*_):
        raise OperationalError("server closed the connection")

    with connection.execute_wrapper(refuse):
        yield


TOKEN = "a-token-of-ours"


@pytest.fixture(autouse=True)
def _token(settings):
    settings.METRICS_TOKEN = TOKEN


def ready(client):
    answer = client.get("/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
    return answer.status_code, answer.json()


def test_alive_is_alive_without_a_database(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = client.get("/livez")
    assert [answer.status_code, answer.content, answer["Content-Type"]] == [200, b"ok", "text/plain"]


@pytest.mark.usefixtures("down")
def test_alive_even_while_the_database_is_away(client):
    assert client.get("/livez").status_code == 200


@pytest.mark.usefixtures("coin")
def test_ready(client):
    assert ready(client) == (200, {"status": "ok", "degraded": []})


@pytest.mark.usefixtures("coin")
def test_strangers_read_one_word(client, settings, django_assert_max_num_queries):
    settings.SAFE_MODE = True
    ready(client)
    with django_assert_max_num_queries(2):
        answers = [client.get("/readyz", headers=sent).json() for sent in ({}, {"Authorization": "Bearer wrong"})]
    assert answers == [{"status": "ok"}] * 2
    settings.KEY_ENCRYPTION_SECRET = ""
    answer = client.get("/readyz")
    assert [answer.status_code, answer.json()] == [503, {"status": "unavailable"}]


@pytest.mark.usefixtures("coin", "down")
def test_strangers_read_one_word_without_a_database(client):
    answer = client.get("/readyz")
    assert [answer.status_code, answer.json()] == [503, {"status": "unavailable"}]


@pytest.mark.usefixtures("coin")
def test_staff_who_are_signed_in_read_why(client, settings):
    settings.SAFE_MODE = True
    client.force_login(get_user_model().objects.create(username="ada"))
    assert client.get("/readyz").json() == {"status": "ok"}
    client.force_login(get_user_model().objects.create(username="grace", is_staff=True))
    assert client.get("/readyz").json() == {"status": "degraded", "degraded": ["safe mode: nothing is bought"]}


@pytest.mark.usefixtures("down")
def test_not_ready_without_a_database(client):
    assert ready(client) == (503, {"status": "unavailable", "reason": "database"})


def test_not_ready_while_the_connection_itself_fails():
    def refuse(*_):
        raise InterfaceError("connection already closed")

    with connection.execute_wrapper(refuse):
        assert Client(raise_request_exception=False).get("/readyz").status_code == 503


@pytest.mark.usefixtures("coin")
def test_not_ready_without_the_master_key_of_a_key(client, settings):
    make_key()
    settings.KEY_ENCRYPTION_SECRET = "another-secret-" * 4
    cache.clear()
    assert ready(client) == (503, {"status": "unavailable", "reason": "master key"})


def test_a_store_without_coins_is_degraded(client):
    assert ready(client) == (200, {"status": "degraded", "degraded": ["payments: no coin is on offer yet"]})


@pytest.mark.usefixtures("coin")
def test_each_queue_in_which_work_waits_is_named(client):
    make_log()
    make_key(make_paid_order().items.get())
    rows = {"webhook logs": WebhookLog, "purchases": Reservation, "keys": Key, "emails": Email}
    for model in rows.values():
        assert model.objects.update(next_attempt_at=Now() - timedelta(seconds=80))
    assert ready(client) == (200, {"status": "ok", "degraded": []})
    for name, model in rows.items():
        model.objects.update(next_attempt_at=Now() - timedelta(seconds=95))
        assert ready(client) == (
            200,
            {"status": "degraded", "degraded": [f"{name}: work waits for over 90 s; is a worker running?"]},
        )
        model.objects.update(next_attempt_at=None)


@pytest.mark.usefixtures("coin")
def test_a_stopped_supplier_safe_mode_and_alerts_are_named(client, settings):
    settings.SAFE_MODE = True
    gate.stop("kinguin.example", reason="by hand")
    SupplierGate.objects.create(host="open.example")
    raise_alert("kind", "subject", "Message.")
    Email.objects.update(next_attempt_at=None)
    assert ready(client)[1]["degraded"] == [
        "safe mode: nothing is bought",
        "supplier kinguin.example: stopped",
        "2 open alerts; see the admin",
    ]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_looking_is_all_that_can_be_done(client, path, method):
    assert getattr(client, method)(path).status_code == 405


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_head_is_an_empty_get(client, path):
    answer = client.head(path)
    assert [answer.status_code, answer.content] == [200, b""]


def test_metrics_need_their_token(client, settings):
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404
    settings.METRICS_TOKEN = "a-token-of-ours"
    for wrong in ("", "Bearer", "Bearer wrong", "Bearer \xe9", "Bearer a-token-of-ours "):
        assert client.get("/metrics", headers={"Authorization": wrong}).status_code == 404
    answer = client.get("/metrics", headers={"Authorization": "Bearer a-token-of-ours"})
    assert answer.status_code == 200
    for name in ("bitloot_webhooks_total", "bitloot_wakeups_sent_total", "bitloot_wakeups_lost_total"):
        assert name in answer.content.decode()

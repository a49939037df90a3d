"""What a provider is answered, and what is then stored. What is wrong with a call: test_bad_webhooks.py."""

import json
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, close_old_connections, connection, connections
from django.test import Client
from django.utils import timezone

from bitloot.core import wakeup
from fulfillment import sync
from fulfillment.models import SupplierStock
from orders.models import Email
from orders.tests import test_bounces as bounces
from orders.tests.factories import make_product
from webhooks.models import WebhookLog
from webhooks.tests.factories import ipn, sign, supplier_event

pytestmark = pytest.mark.django_db
RECORDED = Path(django_settings.BASE_DIR) / "payments" / "tests" / "fixtures"
SIGNED = json.loads((RECORDED / "ipn_signatures.json").read_text())
SUPPLIER = Path(django_settings.BASE_DIR) / "fulfillment" / "tests" / "fixtures"
IPN_PATHS = ["/api/payments/ipn", "/api/webhooks/nowpayments"]
KINGUIN_PATHS = ["/api/webhooks/kinguin", "/api/kinguin/webhook"]


@pytest.fixture
def client():
    return Client(raise_request_exception=False, enforce_csrf_checks=True)


def send_ipn(client, body, signature=None, path=IPN_PATHS[0], content_type="application/json", **extra):
    headers = {"x-nowpayments-sig": sign(body) if signature is None else signature}
    return client.generic("POST", path, body, content_type, headers=headers, **extra)


def send_event(client, body, path=KINGUIN_PATHS[0], content_type="application/json", **headers):
    sent = {"X-Event-Secret": django_settings.KINGUIN_WEBHOOK_SECRET[0], "X-Event-Name": "order.status", **headers}
    return client.generic("POST", path, body, content_type, headers={k: v for k, v in sent.items() if v is not None})


@pytest.mark.parametrize("path", IPN_PATHS)
def test_an_ipn_is_stored_and_answered_200_with_nothing(client, path):
    answer = send_ipn(client, ipn(), path=path)
    log = WebhookLog.objects.get()
    assert [answer.status_code, answer.content, answer["Content-Length"]] == [200, b"", "0"]
    assert "Content-Type" not in answer
    assert [log.provider, log.event_type, log.external_id, log.status] == [
        "nowpayments",
        "finished",
        "5077125051",
        "received",
    ]
    assert [bytes(log.body), log.headers] == [ipn(), {"x-nowpayments-sig": sign(ipn())}]


def test_an_ipn_costs_one_statement(client, django_assert_num_queries):
    with django_assert_num_queries(1):
        send_ipn(client, ipn())
    with django_assert_num_queries(1):
        send_ipn(client, ipn())


def test_a_forged_ipn_does_no_database_work(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert send_ipn(client, ipn(), "0" * 128).status_code == 401


@pytest.mark.parametrize("name", SIGNED["signatures"])
def test_every_recorded_ipn_is_taken(client, settings, name):
    settings.NOWPAYMENTS_IPN_SECRET = (SIGNED["secret"],)
    assert send_ipn(client, (RECORDED / name).read_bytes(), SIGNED["signatures"][name]).status_code == 200
    assert WebhookLog.objects.count() == 1


def test_a_thousand_repeats_are_one_row(client):
    answers = {send_ipn(client, ipn()).status_code for _ in range(200)}
    assert [answers, WebhookLog.objects.get().repeats] == [{200}, 199]


@pytest.mark.parametrize("path", KINGUIN_PATHS)
def test_a_supplier_event_is_stored_and_answered_204_with_nothing(client, path):
    answer = send_event(client, supplier_event(), path=path)
    log = WebhookLog.objects.get()
    assert [answer.status_code, answer.content, answer["Content-Length"]] == [204, b"", "0"]
    assert "Content-Type" not in answer
    assert [log.provider, log.event_type, log.external_id] == ["kinguin", "order.status", "abc-def"]
    assert log.headers == {"X-Event-Name": "order.status"}


def test_the_supplier_secret_is_not_stored(client):
    send_event(client, supplier_event())
    assert django_settings.KINGUIN_WEBHOOK_SECRET[0] not in repr(list(WebhookLog.objects.values()))


@pytest.mark.parametrize("content_type", ["aplication/json", "text/plain", "", "application/x-www-form-urlencoded"])
def test_kinguins_own_spelling_of_the_content_type_is_taken(client, content_type):
    assert send_event(client, supplier_event(), content_type=content_type).status_code == 204
    assert WebhookLog.objects.count() == 1


@pytest.mark.parametrize("body", [b"", b"{}", b" {} "])
def test_the_dashboards_test_button_is_answered_and_not_stored(client, body):
    answer = send_event(client, body)
    assert [answer.status_code, answer.content, WebhookLog.objects.count()] == [204, b"", 0]


def test_a_storm_of_news_of_strangers_products_is_answered_without_a_row(client, django_assert_max_num_queries):
    with django_assert_max_num_queries(2):  # what we sell is read once a minute
        for number in range(50):
            assert news_of(client, "6a1f0c2b9d3e4f5061728394", qty=number).status_code == 204
    assert (WebhookLog.objects.count(), SupplierStock.objects.count()) == (0, 0)


def test_news_of_what_we_sell_bring_its_next_look_forward(client):
    stock = SupplierStock.objects.create(product=make_product(), due_at=timezone.now() + timedelta(minutes=10))
    sync.on_sale_in.cache_clear()
    for number in range(5):
        assert news_of(client, stock.product.supplier_product_id, qty=number).status_code == 204
    sync.on_sale_in.cache_clear()
    stock.refresh_from_db()
    assert stock.due_at < timezone.now() + timedelta(seconds=sync.SOON_SECONDS)
    assert not WebhookLog.objects.exists()


def news_of(client, product_id, **members):
    body = json.loads((SUPPLIER / "webhook_product_update.json").read_text()) | {"productId": product_id, **members}
    return send_event(client, json.dumps(body).encode(), **{"X-Event-Name": "product.update"})


def test_what_a_body_says_decides_and_not_its_event_name(client):
    assert send_event(client, supplier_event(), **{"X-Event-Name": "product.update"}).status_code == 204
    assert WebhookLog.objects.get().event_type == "product.update"


def test_both_secrets_are_taken_while_they_are_being_changed(client, settings):
    old, new = "old-secret-of-16-characters", "new-secret-of-16-characters"
    settings.NOWPAYMENTS_IPN_SECRET = settings.KINGUIN_WEBHOOK_SECRET = (new, old)
    for secret in (old, new):
        assert send_ipn(client, ipn(), sign(ipn(), secret)).status_code == 200
        assert send_event(client, supplier_event(), **{"X-Event-Secret": secret}).status_code == 204
    settings.NOWPAYMENTS_IPN_SECRET = settings.KINGUIN_WEBHOOK_SECRET = (new,)
    assert send_ipn(client, ipn(), sign(ipn(), old)).status_code == 401
    assert send_event(client, supplier_event(), **{"X-Event-Secret": old}).status_code == 401


@pytest.mark.parametrize(
    ("dialect", "headers", "status", "content"),
    [
        ("reservations", lambda secret, body: {"X-Auth-Token": secret}, 200, b'{"ok":true}'),
        ("orders", lambda secret, body: {"X-KINGUIN-SIGNATURE": sign(body, secret)}, 200, b'{"ok":true}'),
    ],
)
def test_each_dialect_has_its_own_proof_and_answer(client, settings, dialect, headers, status, content):
    settings.KINGUIN_API = dialect
    body = b'{"reservationId":"r1","event":"delivered","orderId":"o1","type":"order.ready"}'
    proof = headers(settings.KINGUIN_WEBHOOK_SECRET[0], body)
    assert client.generic("POST", KINGUIN_PATHS[0], body, "application/json").status_code == 401
    answer = client.generic("POST", KINGUIN_PATHS[0], body, "application/json", headers=proof)
    assert [answer.status_code, answer.content, answer["Content-Type"]] == [status, content, "application/json"]
    assert WebhookLog.objects.count() == 1


@pytest.fixture
def broken_database():
    """Refuse every statement, the way a server does that has just gone away."""

    def refuse(*_):
        raise OperationalError("server closed the connection unexpectedly")

    with connection.execute_wrapper(refuse):
        yield


@pytest.mark.parametrize("send", [lambda c: send_ipn(c, ipn()), lambda c: send_event(c, supplier_event())])
@pytest.mark.usefixtures("broken_database")
def test_what_cannot_be_stored_is_answered_503(client, send):
    answer = send(client)
    assert [answer.status_code, answer.content, answer["Retry-After"]] == [503, b"", "5"]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_webhook_survives_that_the_server_ends_its_connection(client, settings):
    connection.ensure_connection()
    own = connection.connection.info.backend_pid
    parameters = connections["default"].get_connection_params()
    wanted = {name: parameters[name] for name in ("dbname", "user", "host", "port") if name in parameters}
    with psycopg.connect(**wanted, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [own])
    answers = []
    for number in (1, 2):
        answers.append(send_ipn(client, ipn(payment_id=number)).status_code)
        close_old_connections()  # as Django does after each request, but for its test client's
    assert answers == [503, 200]
    assert WebhookLog.objects.get().external_id == "2"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_is_answered_503_and_nothing_is_half_done(client, monkeypatch, settings):
    bounces.use_postmark(settings)
    came_back = bounces.event(Email(pk=1, to="kim@example.org"))
    with monkeypatch.context() as away:
        connection.close()
        connection.close_pool()
        away.setitem(connection.settings_dict["OPTIONS"], "pool", {"min_size": 1, "max_size": 4, "timeout": 0.5})
        away.setitem(connection.settings_dict, "PORT", "1")
        away.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        assert send_ipn(client, ipn()).status_code == 503
        assert send_event(client, supplier_event()).status_code == 503
        assert bounces.tell(client, came_back).status_code == 503
        connection.close()
        connection.close_pool()
    assert WebhookLog.objects.count() == 0
    assert send_ipn(client, ipn()).status_code == 200


def test_a_dead_broker_changes_no_answer(client, monkeypatch, django_capture_on_commit_callbacks):
    def refuse(*_, **__):
        raise ConnectionRefusedError

    monkeypatch.setattr(wakeup.current_app, "send_task", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        assert send_ipn(client, ipn()).status_code == 200
        assert send_event(client, supplier_event()).status_code == 204
    assert WebhookLog.objects.count() == 2


def test_workers_are_woken_on_commit(client, monkeypatch, django_capture_on_commit_callbacks):
    rung = []
    monkeypatch.setattr(wakeup, "notify_now", rung.append)
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        send_ipn(client, ipn())
    assert [rung, len(callbacks)] == [["webhooks"], 1]

"""Outgoing webhooks, against a receiver that listens on loopback and verifies them with the receivers' own library."""

import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail as outbox
from django.core.exceptions import ValidationError
from django.db import connection, connections, transaction
from django.db.models.functions import Now
from standardwebhooks import Webhook, WebhookVerificationError

from bitloot.core.decisions import DecisionRefused
from bitloot.core.queue import MAX_CRASHES
from bitloot.partners import delivery, services
from bitloot.partners.delivery import OFF_AFTER, RETRIES
from bitloot.partners.events import Event
from bitloot.partners.models import Endpoint, OutgoingWebhook
from bitloot.partners.tasks import drain_outgoing_webhooks
from bitloot.partners.tests.factories import make_endpoint, make_key
from bitloot.partners.tests.receiver import running_receiver
from orders.models import Alert, Order
from orders.tasks import drain_mails
from orders.tests.factories import make_order

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """A worker that ends here and now: nothing in the code may catch it."""


@pytest.fixture
def receiver(settings):
    settings.WEBHOOKS_TO_LOOPBACK = True
    with running_receiver() as server:
        yield server


@pytest.fixture
def endpoint(receiver):
    return make_endpoint(receiver.url)


def own_order(endpoint, **fields):
    order = make_order(**fields)
    Order.objects.filter(pk=order.pk).update(placed_with=endpoint.api_key_id)
    order.refresh_from_db()
    return order


def owed(endpoint):
    services.send_test(endpoint)
    return OutgoingWebhook.objects.latest("created_at")


def drained(webhook):
    """Let the row's time come, whatever it and its endpoint wait for."""
    OutgoingWebhook.objects.filter(pk=webhook.pk).update(next_attempt_at=Now(), claim_token=None)
    Endpoint.objects.update(paused_until=None)
    drain_outgoing_webhooks()
    webhook.refresh_from_db()
    return webhook


# --- what is sent ---

MOVES = {
    "order.underpaid": ("pending", lambda order: order.mark_underpaid(message="m")),
    "order.paid": ("pending", lambda order: order.mark_paid(message="m")),
    "order.partially_fulfilled": ("fulfilling", lambda order: order.mark_partially_fulfilled(message="m")),
    "order.fulfilled": ("fulfilling", lambda order: order.mark_fulfilled()),
    "order.held": ("paid", lambda order: order.hold(reason="held_by_staff", message="m")),
    "order.expired": ("pending", lambda order: order.expire()),
    "order.cancelled": ("pending", lambda order: order.cancel(message="m")),
    "order.failed": ("paid", lambda order: order.fail(reason="r", message="m")),
    "order.refund_due": ("paid", lambda order: order.mark_refund_due(reason="r", message="m")),
    "order.refunded": ("refund_due", lambda order: order.mark_refunded(message="m")),
}


@pytest.mark.parametrize("event", Event.values)
def test_each_move_is_told_once_signed_and_without_a_key_or_an_address(receiver, endpoint, event):
    status, move = MOVES[event]
    order = own_order(endpoint, status=status)
    assert move(order)
    assert not move(order)
    drain_outgoing_webhooks()
    (told,) = receiver.opened(services.secret_of(endpoint))
    assert told["type"] == event
    assert datetime.fromisoformat(told["timestamp"]).tzinfo
    assert told["data"] == {
        "order_id": str(order.pk),
        "status": event.removeprefix("order."),
        "fulfillment_status": order.fulfillment_word,
        "total": str(order.total),
        "currency": "EUR",
    }
    row = OutgoingWebhook.objects.get()
    assert [row.status, row.response_status, row.response, row.order] == ["delivered", 200, "thanks", order]
    assert receiver.posted[0][0]["webhook-id"] == row.message_id


def test_orders_without_a_key_cost_no_query(django_assert_num_queries):
    order = make_order()
    make_endpoint()
    with django_assert_num_queries(2):  # the move, and its line in the timeline
        order.hold(reason="held_by_staff", message="m")


def test_only_events_that_were_asked_for_are_owed(endpoint):
    Endpoint.objects.update(events=["order.paid"])
    make_endpoint("https://other.example", key=make_key(name="Another Shop")[0])
    order = own_order(endpoint)
    order.mark_paid(message="m")
    order.hold(reason="held_by_staff", message="m")
    assert [row.event for row in OutgoingWebhook.objects.all()] == ["order.paid"]
    assert OutgoingWebhook.objects.get().endpoint == endpoint


def test_what_is_undone_is_not_told(endpoint):
    order = own_order(endpoint)
    with transaction.atomic():
        order.mark_paid(message="m")
        assert OutgoingWebhook.objects.exists()
        transaction.set_rollback(True)
    assert not OutgoingWebhook.objects.exists()


def test_the_signature_is_that_of_the_specification():
    """The test vector of https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md."""
    webhook = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    signed = webhook.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, '{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_changed_body_or_another_endpoint_s_secret_does_not_verify(receiver, endpoint):
    drained(owed(endpoint))
    secret, other = services.secret_of(endpoint), services.secret_of(make_endpoint(key=endpoint.api_key))
    headers, body = receiver.posted[0]
    Webhook(secret).verify(body, headers)
    for key, text in ((secret, body + b" "), (other, body)):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(text, headers)


def test_secrets_change_without_a_gap(receiver, endpoint, settings):
    before = services.secret_of(endpoint)
    services.renew_secret(endpoint)
    endpoint.refresh_from_db()
    settings.ORDER_TOKEN_SECRET_FALLBACKS = [settings.ORDER_TOKEN_SECRET]
    settings.ORDER_TOKEN_SECRET = "n" * 43
    drained(owed(endpoint))
    assert receiver.opened(before) == receiver.opened(services.secret_of(endpoint))
    Endpoint.objects.update(renewed_at=Now() - timedelta(hours=25))
    receiver.posted.clear()
    drained(owed(endpoint))
    with pytest.raises(WebhookVerificationError):
        receiver.opened(before)


# --- what goes wrong ---


def test_a_refusal_is_tried_for_three_days_under_one_id(receiver, endpoint):
    receiver.status, receiver.answer = 503, b"away"
    row = owed(endpoint)
    for tries, seconds in enumerate(RETRIES, 1):
        drained(row)
        waits = OutgoingWebhook.objects.filter(pk=row.pk, next_attempt_at__lte=Now() + timedelta(seconds=seconds + 1))
        assert waits.filter(next_attempt_at__gte=Now() + timedelta(seconds=seconds - 5)).exists()
        assert [row.status, row.attempts, row.response_status, row.response] == ["queued", tries, 503, "away"]
    assert timedelta(days=3) < timedelta(seconds=sum(RETRIES))
    drained(row)
    assert [row.status, row.error] == ["failed", "It answered 503. It was tried for three days."]
    assert {headers["webhook-id"] for headers, _ in receiver.posted} == {row.message_id}
    assert row.next_attempt_at is None


def test_an_endpoint_that_failed_rests_and_its_other_events_wait_without_a_try(receiver, endpoint):
    receiver.status = 500
    for _ in range(3):
        owed(endpoint)
    drain_outgoing_webhooks()
    assert len(receiver.posted) == 1
    assert sorted(OutgoingWebhook.objects.values_list("attempts", flat=True)) == [0, 0, 1]
    receiver.status = 200
    drained(OutgoingWebhook.objects.get(attempts=1))
    endpoint.refresh_from_db()
    assert [endpoint.failing_since, endpoint.paused_until] == [None, None]


def test_days_of_failure_switch_it_off_and_its_owner_and_staff_hear_of_it(receiver, endpoint):
    receiver.status = 500
    row = drained(owed(endpoint))
    Endpoint.objects.update(failing_since=Now() - timedelta(seconds=OFF_AFTER))
    drained(row)
    endpoint.refresh_from_db()
    assert [endpoint.is_enabled, endpoint.off_reason] == [False, "Nothing arrived for 3 days. It answered 500."]
    alert = Alert.objects.get(kind="endpoint_off", status="open")
    assert alert.about_pk == str(endpoint.pk)
    drain_mails()
    (letter,) = [message for message in outbox.outbox if message.to == ["dev@partner.example"]]
    assert "127.0.0.1" in letter.body
    assert "CANARYTOKEN" not in f"{letter.body} {alert.message}"
    assert drained(row).status == "failed"
    own_order(endpoint).mark_paid(message="m")
    assert OutgoingWebhook.objects.count() == 1
    services.switch_on(endpoint, actor="ada")
    assert not Alert.objects.filter(status="open").exists()
    receiver.status = 200
    services.redeliver(row)
    assert drained(row).status == "delivered"


@pytest.mark.parametrize(("end", "is_enabled"), [("/new", True), ("", False)])
def test_a_new_address_begins_without_the_failures_of_the_earlier_one(receiver, endpoint, end, is_enabled):
    receiver.status = 500
    row = drained(owed(endpoint))
    Endpoint.objects.update(failing_since=Now() - timedelta(seconds=OFF_AFTER))
    endpoint.refresh_from_db()
    services.change_endpoint(endpoint, url=endpoint.url + end, events=endpoint.events)
    drained(row)
    endpoint.refresh_from_db()
    assert endpoint.is_enabled is is_enabled


def test_an_endpoint_that_is_gone_is_switched_off_at_once(receiver, endpoint):
    receiver.status = 410
    drained(owed(endpoint))
    endpoint.refresh_from_db()
    assert not endpoint.is_enabled


def test_an_answer_of_the_earlier_address_switches_the_new_one_off_no_more(receiver, endpoint):
    receiver.status = 410
    row = owed(endpoint)
    with running_receiver() as other:

        def move_once_posted(execute, sql, params, many, context):
            if receiver.posted:
                receiver.posted.clear()
                Endpoint.objects.update(url=other.url)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(move_once_posted):
            drained(row)
        endpoint.refresh_from_db()
        assert [endpoint.is_enabled, endpoint.failing_since, row.status] == [True, None, "queued"]
        assert drained(row).status == "delivered"
        assert len(other.posted) == 1


def test_a_redirect_is_not_followed(receiver, endpoint):
    with running_receiver() as other:
        receiver.status, receiver.headers = 307, {"Location": other.url}
        assert [drained(owed(endpoint)).response_status, other.posted] == [307, []]


def test_a_killed_worker_s_event_is_sent_again(receiver, endpoint, at):
    row = owed(endpoint)

    def die():
        raise Killed

    at("queue.before_release", die)
    with pytest.raises(Killed):
        drain_outgoing_webhooks()
    row.refresh_from_db()
    assert [row.status, row.claim_token is None, len(receiver.posted)] == ["queued", False, 1]
    assert drain_outgoing_webhooks() == 0  # its lease runs
    assert drained(row).status == "delivered"
    assert len({headers["webhook-id"] for headers, _ in receiver.posted}) == 1


def test_one_that_kills_its_worker_every_time_is_given_up(endpoint):
    row = owed(endpoint)
    OutgoingWebhook.objects.update(crashes=MAX_CRASHES)
    assert drained(row).error == "Sending it crashed the worker three times."


def test_a_key_has_three_deliveries_at_a_time(receiver, endpoint):
    with delivery._room.taken(endpoint.api_key_id), delivery._room.taken(endpoint.api_key_id):
        assert drained(owed(endpoint)).status == "delivered"
        with delivery._room.taken(endpoint.api_key_id):
            assert [drained(owed(endpoint)).status, len(receiver.posted)] == ["queued", 1]


@pytest.mark.django_db(transaction=True)
def test_of_two_who_send_again_at_once_one_does(receiver, endpoint):
    row = drained(owed(endpoint))

    def press(_):
        try:
            services.redeliver(OutgoingWebhook.objects.get(pk=row.pk))
        except DecisionRefused:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(press, range(4))) == [False, False, False, True]
    drain_outgoing_webhooks()
    assert len(receiver.posted) == 2


# --- where nothing is sent ---


@pytest.mark.once
def test_a_name_that_leads_inside_is_not_called(endpoint, settings, monkeypatch):
    """bitloot/core/tests/test_outside.py has the other addresses."""
    settings.WEBHOOKS_TO_LOOPBACK = False
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was called"))
    Endpoint.objects.update(url="https://hooks.partner.example/x")
    row = drained(owed(endpoint))
    assert row.error == "Its host leads to an address that is not public; nothing was sent."


@pytest.mark.once
def test_a_name_is_looked_up_once_and_that_address_called(receiver, endpoint, monkeypatch):
    """A name server that answers the check with one address and the connection with another gains nothing."""
    real, asked = socket.getaddrinfo, []

    def answer(host, *rest, **options):
        if host == "hooks.partner.example":
            asked.append(host)
            return real("127.0.0.1" if len(asked) == 1 else "10.0.0.1", *rest, **options)
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    Endpoint.objects.update(url=receiver.url.replace("127.0.0.1", "hooks.partner.example"))
    assert drained(owed(endpoint)).status == "delivered"
    assert asked == ["hooks.partner.example"]
    assert receiver.posted[0][0]["Host"] == f"hooks.partner.example:{receiver.server_port}"


@pytest.mark.once
def test_without_debug_only_https_leaves(receiver, endpoint, settings):
    settings.WEBHOOKS_TO_LOOPBACK = False
    row = drained(owed(endpoint))
    assert [row.error, receiver.posted] == ["Its address has to begin with https://; nothing was sent.", []]


def test_an_address_in_capitals_is_called(endpoint, settings, monkeypatch):
    settings.WEBHOOKS_TO_LOOPBACK = False
    called = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: called.append(host) or [])
    Endpoint.objects.filter(pk=endpoint.pk).update(url="HTTPS://Hooks.Partner.Example/")
    assert "https" not in drained(owed(endpoint)).error
    assert called == ["hooks.partner.example"]


@pytest.mark.once
@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.partner.example/", "https://127.0.0.1/", "https://[::1]/", "https://10.1.2.3/", "https://localhost/",
        "https://intranet/", "https://user:word@hooks.partner.example/", "https://hooks.partner.example/#x", "https://",
        "ftp://hooks.partner.example/", "https://hooks.partner.example:99999/", "hooks.partner.example",
        "https://hooks partner.example/", "https://*.partner.example/", "https://.partner.example/", "https://１２７.０.０.１/",
        "https://[v1.x]/", "https://hooks.partner.example:6379/", "https://hooks.partner.example:80/",
        "https://[fec0::1]/", "https://[::a00:1]/",
    ],
)  # fmt: skip
def test_an_address_that_could_never_do_is_refused(url, settings):
    settings.WEBHOOKS_TO_LOOPBACK = False
    with pytest.raises(ValidationError):
        services.validate_url(url)
    for url in ("https://hooks.partner.example:8443/x?token=y", "HTTPS://Hooks.Partner.Example/", "https://例え.jp/é"):
        services.validate_url(url)


# --- what is kept ---


def test_the_answer_is_kept_short_and_scrubbed(receiver, endpoint):
    secret = services.secret_of(endpoint)
    receiver.answer = f"got {secret} for kim@example.org\n\x00\x1b[31mkey AAAAA-BBBBB-CCCCC ".encode() + b"x" * 5000
    row = drained(owed(endpoint))
    assert row.response.startswith("got [hidden] for [hidden]@example.org   [31mkey [hidden] xxx")
    assert len(row.response) == 500


def test_an_answer_that_breaks_off_is_an_answer(receiver, endpoint):
    receiver.headers = {"Content-Length": "1000"}
    assert drained(owed(endpoint)).status == "delivered"


def test_no_secret_and_no_address_is_logged_or_stored(receiver, endpoint, caplog):
    caplog.set_level(logging.DEBUG, "bitloot")
    receiver.status = 500
    row = drained(owed(endpoint))
    stored = f"{OutgoingWebhook.objects.values()} {Endpoint.objects.defer('url').values('off_reason', 'generation')}"
    for secret in (services.secret_of(endpoint), "CANARYTOKEN"):
        assert secret not in f"{caplog.text} {stored} {row.error}"
    assert row.message_id in caplog.text


@pytest.mark.once
def test_what_cannot_be_reached_is_said_in_words(receiver, endpoint):
    Endpoint.objects.update(url="http://127.0.0.1:9/")
    row = drained(owed(endpoint))
    assert [row.error, row.response_status] == ["It cannot be reached.", None]


def test_what_waited_is_sent_when_its_endpoint_is_on_again(receiver, endpoint):
    receiver.status = 500
    row = drained(owed(endpoint))
    services.switch_off(endpoint, actor="ada", reason="The shop moves house.")
    with pytest.raises(DecisionRefused):
        services.send_test(Endpoint.objects.get())
    receiver.status = 200
    services.switch_on(Endpoint.objects.get(), actor="ada")
    drain_outgoing_webhooks()
    row.refresh_from_db()
    assert row.status == "delivered"

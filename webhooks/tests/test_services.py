import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256

import pytest
from django.db import IntegrityError, connections, transaction
from django.db.models.functions import Now

from bitloot.core.decisions import DecisionRefused
from bitloot.core.outcome import Outcome
from bitloot.core.providers import ProviderRejected, ProviderUnavailable
from bitloot.core.queue import LeaseLost
from orders.models import Alert
from orders.tests.database import dying_at
from payments.exceptions import UnknownPayment
from webhooks import services
from webhooks.handlers import HANDLERS
from webhooks.models import WebhookLog
from webhooks.services import TamperedBody, give_up, handle_row, replay
from webhooks.tasks import drain_webhooks
from webhooks.tests.factories import ipn, make_log, received, supplier_event

pytestmark = pytest.mark.django_db


@pytest.fixture
def handler(monkeypatch):
    """What the handler of NOWPayments does; the one above the inbox is another module's business."""
    calls = []

    def set_outcome(outcome):
        def handle(log):
            calls.append(log.pk)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setitem(HANDLERS, WebhookLog.Provider.NOWPAYMENTS, handle)
        return calls

    return set_outcome


def work(log):
    WebhookLog.objects.filter(pk=log.pk, next_attempt_at__isnull=False).update(next_attempt_at=Now(), claim_token=None)
    drain_webhooks()
    log.refresh_from_db()
    return log


def test_a_webhook_is_stored_byte_for_byte_and_due_at_once():
    body = b'{"payment_id" :1,\xc3\xa9"\\u0000"'
    log = make_log(body=body, external_id="x" * 70, event_type="y" * 70)
    assert [bytes(log.body), bytes(log.body_sha256)] == [body, sha256(body).digest()]
    assert [log.external_id, log.event_type, log.status, log.outcome] == ["x" * 64, "y" * 64, "received", ""]
    assert [log.repeats, log.replays, log.attempts, log.crashes, log.processed_at] == [0, 0, 0, 0, None]
    assert set(log.headers) == {"x-nowpayments-sig"}
    assert WebhookLog.objects.filter(pk=log.pk, next_attempt_at__lte=Now(), received_at__lte=Now()).exists()


def test_the_same_body_again_is_only_counted_once_it_was_processed(handler):
    handler(Outcome.processed("done"))
    first = make_log()
    handle_row(WebhookLog.objects.claim()[0])
    for _ in range(3):
        again = make_log()
    assert [again.pk, again.repeats, WebhookLog.objects.count()] == [first.pk, 3, 1]
    assert again.status == "processed"
    assert again.next_attempt_at is None


@pytest.mark.parametrize("status", ["ignored", "failed"])
def test_what_was_ignored_or_failed_is_handled_again_when_the_provider_sends_it_again(handler, status):
    calls = handler(Outcome.processed("done"))
    log = make_log()
    ended = {"status": status, "next_attempt_at": None, "attempts": 5, "crashes": 4}
    WebhookLog.objects.filter(pk=log.pk).update(**ended)
    services.raise_alert("webhook_failed", log, "It failed.")
    again = make_log()
    assert [again.pk, again.status, again.attempts, again.crashes, again.repeats] == [log.pk, "received", 0, 0, 1]
    drain_webhooks()
    again.refresh_from_db()
    assert [again.status, calls] == ["processed", [log.pk]]
    assert Alert.objects.get().status == "closed"


def test_what_is_sent_again_while_a_worker_fails_over_it_is_looked_at_once_more():
    log = make_log()
    WebhookLog.objects.filter(pk=log.pk).update(status="failed", next_attempt_at=Now())
    (claimed,) = WebhookLog.objects.claim()
    make_log()
    claimed.mark_failed(outcome="Once more.")
    assert WebhookLog.objects.filter(pk=log.pk, next_attempt_at__lte=Now()).exists()


def test_one_body_of_two_providers_is_two_webhooks():
    make_log("nowpayments", b"{}")
    make_log("kinguin", b"{}")
    assert WebhookLog.objects.count() == 2


def counts():
    return {bytes(log.body): log.repeats for log in WebhookLog.objects.all()}


def test_webhooks_that_come_at_once_share_a_statement(django_assert_num_queries):
    same, other = received(b"same"), received(b"other")
    with django_assert_num_queries(1):
        services._insert([same, other, same, received(b"same", "kinguin")])
    assert sorted((log.provider, bytes(log.body), log.repeats) for log in WebhookLog.objects.all()) == [
        ("kinguin", b"same", 0),
        ("nowpayments", b"other", 0),
        ("nowpayments", b"same", 1),
    ]


def test_what_a_shared_statement_repeats_is_counted():
    services._insert([received(b"same")])
    services._insert([received(b"same"), received(b"other"), received(b"same")])
    assert counts() == {b"same": 2, b"other": 0}


def test_in_a_transaction_a_webhook_is_stored_with_it_and_never_with_others():
    with transaction.atomic():
        services.store(received())
        assert len(counts()) == 1
        transaction.set_rollback(True)
    assert counts() == {}


@pytest.mark.django_db(transaction=True)
def test_of_webhooks_from_many_threads_none_is_lost():
    def keep(number):
        try:
            services.store(received(str(number % 50).encode()))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(keep, range(200)))
    assert counts() == {str(number).encode(): 3 for number in range(50)}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_processes_with_the_same_webhooks_do_not_wait_for_each_other():
    webhooks = [received(str(number).encode()) for number in range(16)]

    def keep(order):
        try:
            for _ in range(300):
                services._insert(webhooks[::order])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(keep, (1, -1)))
    assert set(counts().values()) == {599}


def test_the_database_keeps_a_body_once():
    log = make_log()
    with pytest.raises(IntegrityError), transaction.atomic():
        WebhookLog.objects.create(provider=log.provider, body=b"other", body_sha256=log.body_sha256)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.processed("paid"), "processed"),
        (Outcome.ignored("not ours"), "ignored"),
        (Outcome.processed("x" * 400), "processed"),
    ],
)
def test_what_came_of_it_is_written_down(handler, outcome, status):
    calls = handler(outcome)
    log = work(make_log())
    assert [log.status, log.outcome, log.next_attempt_at, log.attempts] == [status, outcome.text[:300], None, 0]
    assert log.processed_at is not None
    work(log)
    assert calls == [log.pk]
    assert not Alert.objects.exists()


@pytest.mark.parametrize("error", [ProviderUnavailable("no answer"), UnknownPayment("not yet")])
def test_what_cannot_be_told_yet_is_asked_again_later(handler, error):
    calls = handler(error)
    log = make_log()
    for attempts, pause in ((1, 1), (2, 2), (3, 4)):
        work(log)
        assert [log.status, log.attempts, log.outcome] == ["received", attempts, f"Waiting: {error}"]
        assert WebhookLog.objects.filter(next_attempt_at__lte=Now() + timedelta(seconds=pause)).exists()
        assert not WebhookLog.objects.filter(next_attempt_at__lte=Now() + timedelta(seconds=pause - 1)).exists()
    handler(Outcome.processed("paid"))
    assert [work(log).status, log.outcome, len(calls)] == ["processed", "paid", 3 + 1]
    assert not Alert.objects.exists()


def test_waiting_has_an_end(handler):
    handler(ProviderUnavailable("no answer"))
    log = make_log()
    WebhookLog.objects.update(attempts=services.TRIES_WITHOUT_ANSWER - 1)
    assert [work(log).status, log.outcome, log.next_attempt_at] == ["ignored", "Gave up waiting: no answer", None]
    alert = Alert.objects.get()
    assert (alert.kind, alert.about_pk, alert.status) == ("webhook_failed", str(log.pk), "open")
    assert "never came: no answer" in alert.message
    handler(Outcome.processed("paid"))
    services.replay(log)
    assert [work(log).status, Alert.objects.get().status] == ["processed", "closed"]


def test_a_refusal_is_waited_out_as_silence_is(handler):
    handler(ProviderRejected("not now"))
    log = make_log()
    assert [work(log).status, log.outcome] == ["received", "Waiting: not now"]


def test_a_failure_is_shown_at_once_tried_again_and_left_for_a_person(handler):
    calls = handler(ValueError("a bug"))
    log = make_log()
    for attempts, pause in ((1, 4), (2, 8), (3, 16), (4, 30)):
        work(log)
        assert [log.status, log.outcome, log.attempts] == ["failed", "ValueError: a bug", attempts]
        assert WebhookLog.objects.filter(next_attempt_at__lte=Now() + timedelta(seconds=pause)).exists()
        assert not WebhookLog.objects.filter(next_attempt_at__lte=Now() + timedelta(seconds=pause - 2)).exists()
    work(log)
    work(log)
    assert [log.attempts, log.next_attempt_at, len(calls)] == [5, None, 5]
    alert = Alert.objects.get()
    assert [alert.kind, alert.about_model, alert.about_pk] == ["webhook_failed", "webhooks.webhooklog", str(log.pk)]
    assert [alert.status, alert.times] == ["open", 5]


@pytest.mark.parametrize("fail", [lambda log: services._fail(log, ValueError("a bug")), give_up])
def test_no_failure_is_recorded_that_nobody_is_told(fail):
    log = make_log()
    (claimed,) = WebhookLog.objects.all().claim()
    with dying_at("orders_alert"), pytest.raises(SystemExit):
        fail(claimed)
    log.refresh_from_db()
    assert [log.status, log.outcome] == ["received", ""]


def test_a_failure_that_is_mended_closes_its_alert(handler):
    handler(ValueError("a bug"))
    log = work(make_log())
    handler(Outcome.processed("paid"))
    assert [work(log).status, Alert.objects.get().status] == ["processed", "closed"]


def test_replay_hands_the_row_to_its_handler_once_more(handler):
    calls = handler(ValueError("a bug"))
    log = make_log()
    for _ in range(5):
        work(log)
    handler(Outcome.processed("paid"))
    replay(log)
    log.refresh_from_db()
    assert [log.status, log.attempts, log.crashes, log.replays] == ["received", 0, 0, 1]
    assert [work(log).status, log.outcome, len(calls)] == ["processed", "paid", 6]
    assert Alert.objects.get().status == "closed"


def test_replay_of_what_was_handled_runs_it_again(handler):
    calls = handler(Outcome.processed("paid"))
    log = work(make_log())
    for _ in range(3):
        replay(log)
        work(log)
    assert [log.replays, log.status, len(calls)] == [3, "processed", 4]


def test_replay_leaves_a_row_that_a_worker_holds(handler):
    handler(Outcome.processed("paid"))
    log = make_log()
    (claimed,) = WebhookLog.objects.claim()
    with pytest.raises(DecisionRefused, match="A worker is handling it"):
        replay(log)
    log.refresh_from_db()
    assert [log.replays, log.claim_token] == [0, claimed.claim_token]
    handle_row(claimed)
    log.refresh_from_db()
    assert log.status == "processed"


def test_a_body_that_was_changed_is_not_replayed(handler):
    calls = handler(Outcome.processed("paid"))
    log = work(make_log())
    WebhookLog.objects.update(body=ipn(payment_status="refunded"))
    log.refresh_from_db()
    with pytest.raises(TamperedBody):
        replay(log)
    log.refresh_from_db()
    assert [log.status, log.replays, log.next_attempt_at, len(calls)] == ["processed", 0, None, 1]


def test_a_worker_that_lost_its_lease_records_nothing(handler):
    handler(Outcome.processed("paid"))
    log = make_log()
    (claimed,) = WebhookLog.objects.claim()
    WebhookLog.objects.update(claim_token=None)
    with pytest.raises(LeaseLost):
        handle_row(claimed)
    log.refresh_from_db()
    assert [log.status, log.outcome] == ["received", ""]


def test_a_row_that_kills_its_worker_is_given_up():
    log = make_log()
    (claimed,) = WebhookLog.objects.claim()
    give_up(claimed)
    log.refresh_from_db()
    assert [log.status, log.outcome, log.next_attempt_at] == [
        "failed",
        "Handling it crashed the worker three times.",
        None,
    ]
    assert Alert.objects.get().about_pk == str(log.pk)


def test_three_kills_in_a_row_end_in_give_up(handler):
    calls = handler(Outcome.processed("paid"))
    log = make_log()
    for _ in range(3):
        assert WebhookLog.objects.claim()  # and the worker dies
        WebhookLog.objects.update(next_attempt_at=Now(), claim_token=None)
    assert [work(log).status, calls] == ["failed", []]


def test_every_provider_has_a_handler():
    assert set(HANDLERS) == set(WebhookLog.Provider)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b"{", "The body is not valid JSON in UTF-8."),
        (b'{"payment_id":"\\u0000"}', "A string holds a character that cannot be stored."),
        (ipn(payment_id=-1), "payment_id is not a number of up to 19 digits."),
        (b'{"id":"1","batch_withdrawal_id":"2","status":"FINISHED"}', "no payment of ours, a payout perhaps"),
        (ipn(), "neither payment nor order is ours"),
        (ipn(order_id="GK-1"), "neither payment nor order is ours"),
    ],
)
def test_an_ipn_that_means_nothing_to_us_is_ignored_with_a_reason(body, outcome):
    log = work(make_log(body=body))
    assert [log.status, log.outcome] == ["ignored", outcome]


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (supplier_event(), "no purchase of ours"),
        (b"\xff", "unknown"),
        (b"[]", "unknown"),
        (json.dumps({"orderId": "../../v1/balance"}).encode(), "unknown"),
    ],
)
def test_a_supplier_event_that_means_nothing_to_us_is_ignored_with_a_reason(body, outcome):
    log = work(make_log("kinguin", body, "order.status"))
    assert [log.status, log.outcome] == ["ignored", outcome]


def test_names_for_people():
    assert str(WebhookLog(provider="kinguin", event_type="order.status", external_id="a")) == "kinguin order.status a"

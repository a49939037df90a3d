"""Workers that note themselves, and the alert about those that are gone."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from bitloot.core.models import WorkerSeen
from bitloot.core.presence import Presence, living
from orders.models import Alert, Email
from orders.tasks import housekeeping
from orders.tests.factories import make_order
from orders.workers import watch

pytestmark = [pytest.mark.django_db, pytest.mark.once]
LONG_AGO = timedelta(minutes=5)


@pytest.fixture
def late():
    """A mail that no worker sends."""
    mail = make_order().emails.get()
    Email.objects.filter(pk=mail.pk).update(next_attempt_at=Now() - LONG_AGO)
    return mail


def seen(host, ago=LONG_AGO):
    return WorkerSeen.objects.create(host=host, pid=1, version="1", queues="orders", seen_at=Now() - ago)


def open_alerts():
    return [alert.message for alert in Alert.objects.filter(kind="no_worker", status="open")]


def test_process_keeps_one_row_fresh_writes_seldom_and_says_goodbye(django_assert_num_queries):
    presence = Presence()
    presence.note()
    with django_assert_num_queries(0):
        presence.note()
    WorkerSeen.objects.update(seen_at=Now() - LONG_AGO)
    presence._next = 0
    with django_assert_num_queries(1):
        presence.note()
    assert living().count() == 1
    presence.end()
    assert not WorkerSeen.objects.exists()


def test_row_that_somebody_deleted_is_made_again_and_old_ones_are_forgotten():
    presence = Presence()
    presence.note()
    WorkerSeen.objects.all().delete()
    old = seen("old", timedelta(days=2))
    presence._next = 0
    presence.note()
    assert [living().count(), WorkerSeen.objects.filter(pk=old.pk).exists()] == [1, False]


def test_missing_worker_is_an_alert_only_while_work_waits(late):
    Presence().note()
    housekeeping()
    assert open_alerts() == []
    seen("node-2")
    housekeeping()
    (message,) = open_alerts()
    assert message.startswith("These workers are gone without having been stopped: node-2, process 1. Work waits: ")
    Email.objects.update(next_attempt_at=None)
    housekeeping()
    assert open_alerts() == []


def test_where_no_worker_is_left_the_last_one_is_named(late):
    assert watch().message.startswith("No worker has been running for a day. Work waits: ")
    seen("node-1")
    assert watch().message.startswith("No worker is running; node-1, process 1 was the last. Work waits: ")
    assert Alert.objects.get().times == 2


def test_shop_where_nothing_waits_needs_no_worker_to_be_seen():
    assert watch() is None

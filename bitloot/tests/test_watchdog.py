"""What no worker can report is noticed by the web process, and delivered by it while no worker runs."""

import subprocess
import sys
from datetime import timedelta

import pytest
from django.conf import settings as shop
from django.core import mail as outbox
from django.db.models.functions import Now

from bitloot.core.models import Sweep
from bitloot.core.presence import Presence
from bitloot.ops import watchdog
from bitloot.tasks import prune
from orders.alerts import raise_alert
from orders.models import Alert, Email, Notification
from orders.tasks import remind
from orders.tests.factories import make_order
from orders.tests.test_notifications import receiver  # noqa: F401
from tools.dev.devenv import ROOT

pytestmark = [pytest.mark.django_db, pytest.mark.once]
MINUTE = timedelta(minutes=1)


def waiting(minutes):
    order = make_order()
    Email.objects.all().delete()
    return Email.objects.create(
        kind=Email.Kind.ORDER_RECEIVED, order=order, to=order.email, next_attempt_at=Now() - minutes * MINUTE
    )


def open_kinds():
    return set(Alert.objects.filter(status="open").values_list("kind", flat=True))


def test_work_that_waits_is_an_alert_that_leaves_without_a_worker(receiver):  # noqa: F811
    mail = waiting(6)
    watchdog.look()
    assert open_kinds() == {"no_worker"}
    assert receiver.posted == []  # a worker, if there is one, is given a minute
    Notification.objects.update(next_attempt_at=Now() - 2 * MINUTE)
    Email.objects.filter(kind="alert").update(next_attempt_at=Now() - 2 * MINUTE)
    watchdog.look()
    assert [posted["title"].partition(": ")[2] for _, posted in receiver.posted] == ["Worker missing"]
    assert [message.to for message in outbox.outbox] == [["ada@shop.example"], ["kim@shop.example"]]
    mail.refresh_from_db()
    assert mail.status == "queued"  # customers' mails are the worker's
    assert Alert.objects.get().times == 2


def test_work_that_waits_although_a_worker_is_there_is_another_alert():
    Presence().note()
    waiting(6)
    watchdog.look()
    assert open_kinds() == {"work_late"}


def test_a_queue_that_is_served_is_no_alert():
    Presence().note()
    waiting(4)
    watchdog.look()
    assert open_kinds() == set()


def test_what_a_worker_holds_is_not_sent_twice(receiver):  # noqa: F811
    raise_alert("order_held", "order 1", "Decide about it.")
    Notification.objects.update(next_attempt_at=Now() - 2 * MINUTE)
    assert len(Notification.objects.claim(8)) == 1
    watchdog.look()
    assert receiver.posted == []


def test_a_sweep_is_late_after_three_rounds_and_some_patience():
    watchdog.look()
    assert set(Sweep.objects.values_list("name", flat=True)) == set(shop.CELERY_BEAT_SCHEDULE)
    Sweep.objects.filter(name__in=["alerts", "prune"]).update(ended_at=Now() - 20 * MINUTE)
    watchdog.look()
    assert list(Alert.objects.values_list("kind", "about_pk")) == [("sweep_late", "alerts")]


def test_a_task_that_ends_well_is_noted_and_one_that_fails_is_not():
    watchdog.look()
    Sweep.objects.update(ended_at=Now() - timedelta(days=1))
    remind.apply()
    assert [sweep.name for sweep in Sweep.objects.filter(ended_at__gt=Now() - MINUTE)] == ["alerts"]
    prune.apply(args=["an argument that it does not take"])
    assert Sweep.objects.filter(name="prune", ended_at__gt=Now() - MINUTE).count() == 0


def test_each_web_process_has_a_watchdog():
    names = "[thread.name for thread in threading.enumerate()]"
    code = f"import sys, threading, bitloot.wsgi; print({names}, 'apprise' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "watchdog" in done.stdout
    assert done.stdout.endswith("False\n")  # what the worker sends with takes memory that web has no use for

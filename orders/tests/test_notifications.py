"""Alerts that leave through STAFF_EMAIL and ALERT_URL, against a receiver that listens on loopback."""

import json
import logging
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO

import pytest
from django.core import mail as outbox
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models.functions import Now

from bitloot.tests.serving import start_serving
from orders import notifications, notifier
from orders.alerts import close_alert, raise_alert
from orders.models import Alert, AlertChannel, Email, Notification
from orders.tasks import drain_mails, drain_notifications
from orders.tests.factories import make_order

pytestmark = pytest.mark.django_db
TOKEN = "CANARYTOKEN"


class Receiver(ThreadingHTTPServer):
    """Takes what apprise posts for json:// URLs, or answers `status`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.posted = 200, []
        start_serving(self)

    def url(self, path="alerts"):
        return f"json://staff:{TOKEN}@127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.posted.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Stay quiet."""


@contextmanager
def running_receiver():
    server = Receiver()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def receiver(settings):
    with running_receiver() as server:
        settings.ALERT_URL = (server.url(),)
        settings.STAFF_EMAIL = ("ada@shop.example", "kim@shop.example")
        yield server


def drained(row):
    Notification.objects.filter(pk=row.pk).update(next_attempt_at=Now(), claim_token=None)
    drain_notifications()
    row.refresh_from_db()
    return row


def test_an_alert_is_posted_once_with_a_link_to_its_row(receiver, settings):
    order = make_order()
    for _ in range(3):
        alert = raise_alert("order_held", "order 1", "Decide about it.", order=order)
    drain_notifications()
    ((path, posted),) = receiver.posted
    assert (path, posted["title"]) == ("/alerts", f"{settings.STORE_NAME}: Order held")
    link = f"{settings.SITE_URL}/admin/orders/alert/{alert.pk}/change/"
    assert posted["message"] == f"Decide about it.\nOrder {order.pk}\n{link}"
    row = Notification.objects.get()
    assert [row.alert, row.status, row.next_attempt_at, row.error] == [alert, "sent", None, ""]
    assert drain_notifications() == 0


def test_an_alert_that_opens_anew_is_posted_again(receiver):
    raise_alert("order_held", "order 1", "One.")
    close_alert("order_held", "order 1")
    raise_alert("order_held", "order 1", "Two.")
    drain_notifications()
    assert [posted["message"].partition("\n")[0] for _, posted in receiver.posted] == ["One.", "Two."]


def test_every_address_gets_a_mail_of_its_own(receiver, settings):
    alert = raise_alert("order_held", "order 1", "Decide about it.")
    drain_mails()
    assert sorted(message.to for message in outbox.outbox) == [["ada@shop.example"], ["kim@shop.example"]]
    assert notifications.link_to(alert) in outbox.outbox[0].body
    assert notifications.link_to(alert) in outbox.outbox[0].alternatives[0][0]
    assert set(Email.objects.values_list("status", "alert")) == {("sent", alert.pk)}


def test_each_url_is_a_channel_that_fails_for_itself(receiver, settings):
    settings.ALERT_URL = ("json://127.0.0.1:9/away", receiver.url("there"))
    raise_alert("order_held", "order 1", "Decide about it.")
    drain_notifications()
    assert [path for path, _ in receiver.posted] == ["/there"]
    failed, sent = Notification.objects.order_by("pk")
    assert [failed.status, failed.attempts, sent.status] == ["queued", 1, "sent"]
    assert failed.next_attempt_at is not None


def test_a_service_that_refuses_is_tried_again_until_it_takes_it(receiver):
    receiver.status = 500
    raise_alert("order_held", "order 1", "Decide about it.")
    row = drained(Notification.objects.get())
    assert [row.status, row.attempts, row.error] == ["queued", 1, notifier.REFUSED]
    receiver.status = 200
    assert drained(row).status == "sent"
    assert len(receiver.posted) == 2


def test_a_service_that_refuses_for_a_day_is_an_alert_of_its_own_and_no_endless_chain(receiver):
    receiver.status = 403
    raise_alert("order_held", "order 1", "Decide about it.")
    for _ in range(2):
        for row in Notification.objects.filter(status="queued"):
            Notification.objects.filter(pk=row.pk).update(attempts=notifier.MAX_ATTEMPTS)
            assert drained(row).status == "failed"
    (channel,) = notifications.url_channels()
    alert = Alert.objects.get(kind="alert_undelivered")
    assert (alert.about_model, alert.about_pk, alert.times) == ("", channel, 2)
    assert not Notification.objects.filter(status="queued").exists()
    assert Email.objects.filter(alert=alert).count() == 2


def test_a_notification_that_crashes_is_given_up(receiver):
    raise_alert("order_held", "order 1", "Decide about it.")
    Notification.objects.update(crashes=3)
    drain_notifications()
    assert Notification.objects.earliest("pk").error == "Sending it crashed the worker three times."


def test_a_channel_that_was_taken_out_ends_its_rows(receiver, settings):
    raise_alert("order_held", "order 1", "Decide about it.")
    settings.ALERT_URL = ()
    row = drained(Notification.objects.get())
    assert [row.status, row.error, row.next_attempt_at] == ["failed", "This channel is no longer in ALERT_URL.", None]
    assert not Alert.objects.filter(kind="alert_undelivered").exists()


def test_no_token_is_logged_stored_or_shown(receiver, settings, caplog, admin_client):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("apprise").setLevel("CRITICAL")  # as settings.LOGGING has it; caplog lowered the root only
    receiver.status = 500
    raise_alert("order_held", "order 1", "Decide about it.")
    drain_notifications()
    (row,) = Notification.objects.values()
    shown = admin_client.get("/admin/").content.decode()
    assert TOKEN not in f"{row} {AlertChannel.objects.values()} {caplog.text} {shown} {notifications.last_deliveries()}"
    assert row["channel"].startswith("json ")
    assert settings.LOGGING["loggers"]["apprise"]["level"] == "CRITICAL"


def test_two_channels_of_one_service_have_two_names(settings):
    settings.ALERT_URL = ("json://127.0.0.1/a", "json://127.0.0.1/b")
    assert len(notifications.url_channels()) == 2


def test_the_last_delivery_of_each_channel_is_kept(receiver):
    assert [last.delivered_at for last in notifications.last_deliveries()] == [None, None, None]
    raise_alert("order_held", "order 1", "Decide about it.")
    drain_mails()
    drain_notifications()
    ada, kim, posted = notifications.last_deliveries()
    assert [ada.channel, kim.channel] == ["mail to ada@shop.example", "mail to kim@shop.example"]
    assert None not in (ada.delivered_at, kim.delivered_at, posted.delivered_at)
    receiver.status = 500
    raise_alert("order_held", "order 2", "Decide about it.")
    drain_notifications()
    *_, posted = notifications.last_deliveries()
    assert posted.error == notifier.REFUSED
    assert posted.failed_at > posted.delivered_at


# --- manage.py test_alert ---


def send_test_alert():
    out, complaint = StringIO(), ("", 0)
    try:
        call_command("test_alert", stdout=out)
    except CommandError as err:
        complaint = (str(err), err.returncode)
    return out.getvalue().splitlines(), complaint


def test_a_test_alert_goes_through_every_channel(receiver, settings):
    (channel,) = notifications.url_channels()
    lines, complaint = send_test_alert()
    assert complaint == ("", 0)
    assert lines == ["ok mail to ada@shop.example", "ok mail to kim@shop.example", f"ok {channel}"]
    assert [message.to for message in outbox.outbox] == [["ada@shop.example"], ["kim@shop.example"]]
    assert [posted["title"] for _, posted in receiver.posted] == [f"{settings.STORE_NAME}: test alert"]
    assert all(last.delivered_at for last in notifications.last_deliveries())


def test_a_test_alert_names_the_channels_that_failed(receiver, settings):
    settings.EMAIL_BACKEND, settings.EMAIL_HOST = "bitloot.core.smtp.EmailBackend", "127.0.0.1"
    settings.EMAIL_PORT = 9
    receiver.status = 500
    (channel,) = notifications.url_channels()
    lines, complaint = send_test_alert()
    assert complaint == (f"Not delivered: mail to ada@shop.example, mail to kim@shop.example, {channel}.", 1)
    assert lines[0] == "FAILED mail to ada@shop.example: ConnectionRefusedError"
    assert TOKEN not in "".join(lines)
    assert all(last.error for last in notifications.last_deliveries())


def test_a_test_alert_without_any_channel_is_an_error(settings):
    settings.ALERT_URL = settings.STAFF_EMAIL = ()
    assert send_test_alert() == ([], ("There is no channel: set STAFF_EMAIL or ALERT_URL.", 1))

"""Scenarios of the runbook: keys, mails, webhooks, machines and staff."""

import smtplib
from collections import namedtuple
from datetime import timedelta
from unittest import mock

import responses
from django.conf import settings
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import call_command
from django.db.models.functions import Now

from bitloot.core import sweeps
from bitloot.core.models import Sweep, WorkerSeen
from bitloot.core.outcome import Outcome
from bitloot.core.presence import Presence
from bitloot.ops import watchdog
from bitloot.ops.backup.places import new_name
from bitloot.partners.models import OutgoingWebhook
from bitloot.partners.services import secret_of
from bitloot.partners.tasks import drain_outgoing_webhooks
from bitloot.partners.tests.factories import make_endpoint
from bitloot.partners.tests.receiver import running_receiver as partner
from bitloot.tasks import look_around
from bitloot.tests.runbook import open_alerts, row
from bitloot.tests.test_doctor import tls  # noqa: F401
from fulfillment.tests.world import HOUR
from orders import notifier
from orders.alerts import raise_alert
from orders.models import Notification, Order
from orders.tasks import drain_mails, drain_notifications, housekeeping
from orders.tests import test_bounces as bounces
from orders.tests.factories import make_order
from orders.tests.test_notifications import running_receiver
from payments.ipn import IpnHint
from payments.sync import handle_ipn
from payments.tests.factories import make_payment, on_read
from storage.downloads import report_download
from storage.models import Key
from storage.services import reveal, shred, upload
from storage.tests.conftest import use_store
from storage.tests.factories import OPENER, claim, make_key
from storage.tests.s3stub import running_stub
from webhooks.models import WebhookLog
from webhooks.services import HANDLERS
from webhooks.tasks import drain_webhooks
from webhooks.tests.factories import ipn, make_log, sign


class Server(EmailBackend):
    """The mail server, which refuses the first address that the customer gave."""

    def send_messages(self, messages):
        for message in messages:
            if "wrong" in message.to[0]:
                raise smtplib.SMTPRecipientsRefused({message.to[0]: (550, b"no such user")})
        return super().send_messages(messages)


@row("alert:mail_failed")
def correct_the_address(staff):
    staff.fixture("settings").EMAIL_BACKEND = f"{__name__}.Server"
    order = make_order(email="wrong@example.org")
    drain_mails()
    staff.sees()
    staff.decides(order, "Correct the e-mail address", email="right@example.org")
    drain_mails()
    return order, "pending"


@row("alert:mail_bounced")
def correct_the_address_that_mails_come_back_from(staff):
    bounces.use_postmark(staff.fixture("settings"))
    wire = staff.fixture_of(responses.RequestsMock(assert_all_requests_are_fired=False))
    wire.post(bounces.API, json=bounces.ACCEPTED)
    order = make_order(email="wrong@example.org")
    drain_mails()
    bounces.tell(staff.anybody(), bounces.event(order.emails.get()))
    staff.sees()
    staff.decides(order, "Correct the e-mail address", email="right@example.org")
    drain_mails()
    return order, "pending"


@row("alert:webhook_failed")
def mend_and_replay(staff):
    order = make_order()
    log = make_log(body=ipn())

    def work(handler):
        with mock.patch.dict(HANDLERS, nowpayments=handler):
            WebhookLog.objects.exclude(next_attempt_at=None).update(next_attempt_at=Now())
            drain_webhooks()

    def broken(log):
        raise ZeroDivisionError("a bug")

    def mended(log):
        make_payment(order, "finished")
        order.mark_paid(message="Paid.")
        return Outcome.processed("paid")

    for _ in range(10):
        work(broken)
    staff.sees()
    staff.decides(log, "Replay: run the handler again")
    work(mended)
    return order, "paid"


def at_a_store_that_fails(staff):
    stub = staff.fixture_of(running_stub())
    return stub, use_store(staff.fixture("settings"), "r2.R2Storage", stub.options)


@row("alert:object_store")
def wait_for_the_object_store(staff):
    stub, _ = at_a_store_that_fails(staff)
    key = make_key()
    stub.fail("PUT", *["403"] * 5)
    for _ in range(5):
        upload(claim(key))
    staff.sees()
    upload(claim(key))
    shred(key, reason="The order of this test was never paid.")


@row("alert:key_integrity")
def add_a_missing_master_key(staff):
    at_a_store_that_fails(staff)
    key, settings = make_key(), staff.fixture("settings")
    old, settings.KEY_ENCRYPTION_SECRET = settings.KEY_ENCRYPTION_SECRET, "z" * 43
    upload(claim(key))
    staff.sees()
    settings.KEY_ENCRYPTION_SECRET_FALLBACKS = [old]
    upload(claim(key))
    key.refresh_from_db()
    assert key.status == "stored"
    staff.closes("key_integrity")
    shred(key, reason="The order of this test was never paid.")


def handed_out(**fields):
    key = make_key()
    reveal(order=key.item.order, keys=[key], by=OPENER)
    Key.objects.filter(pk=key.pk).update(**fields)
    return key


def reports(key, result):
    report_download(order=key.item.order, key_id=key.pk, result=result)


@row("alert:key_not_opened")
def wait_until_the_key_opens(staff):
    key = handed_out()
    reports(key, "not_opened")
    staff.sees()
    reports(key, "opened")
    shred(key, reason="The order of this test was never paid.")


@row("alert:browser_download")
def set_the_cors_rule(staff):
    at_a_store_that_fails(staff)
    key = handed_out(status="stored", ciphertext=None)
    reports(key, "opened_from_shop")
    staff.sees()
    reports(key, "opened")
    shred(key, reason="The order of this test was never paid.")


@row("alert:ipn_other_order")
def look_the_payment_up(staff):
    payment, other = make_payment(), make_order()
    with responses.RequestsMock() as wire:
        on_read(wire, payment)
        handle_ipn(IpnHint(payment.external_id, "finished", str(other.pk), ""))
    staff.sees()
    staff.closes("ipn_other_order")
    return payment.order, "paid"


@row("alert:webhooks_refused")
def enter_both_secrets(staff):
    settings, order = staff.fixture("settings"), make_order()
    body, theirs = ipn(order_id=str(order.pk)), "the new one, of their dashboard"
    signed = {"x-nowpayments-sig": sign(body, theirs)}

    def post():
        return staff.anybody().post("/api/payments/ipn", body, content_type="application/json", headers=signed)

    assert {post().status_code for _ in range(10)} == {401}
    watchdog.look()
    staff.sees()
    settings.NOWPAYMENTS_IPN_SECRET = (*settings.NOWPAYMENTS_IPN_SECRET, theirs)
    assert post().status_code == 200
    staff.closes("webhooks_refused")


@row("alert:work_late")
def restart_the_worker_that_hangs(staff):
    Presence().note()
    order = make_order()
    order.emails.create(kind="order_received", to=order.email, next_attempt_at=Now() - timedelta(minutes=6))
    watchdog.look()
    staff.sees()
    drain_mails()
    watchdog.look()


@row("alert:sweep_late")
def start_beat(staff):
    assert list(sweeps.late()) == []  # a store that has just started is given time
    Sweep.objects.update(ended_at=Now() - timedelta(days=1))
    watchdog.look()
    staff.sees()
    for task in {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}:
        sweeps.ended(task)
    watchdog.look()


@row("alert:certificate")
def renew_the_certificate(staff):
    serve = staff.fixture("tls")
    serve(days=3)
    look_around()
    staff.sees()
    serve(days=60)
    look_around()


@row("alert:backup_late")
def make_a_backup(staff):
    settings, folder = staff.fixture("settings"), staff.fixture("tmp_path")
    settings.BACKUP_SECRET, settings.BACKUP_TARGET = "b" * 43, str(folder)
    old = folder / "bitloot-20260101T000000Z.backup"
    old.touch()
    look_around()
    staff.sees()
    old.rename(folder / new_name())
    look_around()


@row("alert:disk_full")
def make_room(staff):
    def has(free):
        usage = namedtuple("usage", "total used free")(100, 100 - free, free)
        staff.fixture("monkeypatch").setattr("shutil.disk_usage", lambda _: usage)

    has(free=4)
    look_around()
    staff.sees()
    has(free=10)
    look_around()
    assert "alert:disk_full" in open_alerts()  # it would fill up again at once
    has(free=20)
    look_around()


@row("alert:alert_undelivered")
def correct_the_channel(staff):
    receiver, settings = staff.fixture_of(running_receiver()), staff.fixture("settings")
    settings.ALERT_URL = (receiver.url(),)
    receiver.status = 500
    raise_alert("staff_locked", "staff sign-in", "Look at it.")
    Notification.objects.update(attempts=notifier.MAX_ATTEMPTS - 1)
    drain_notifications()
    staff.sees()
    receiver.status = 200
    call_command("test_alert")
    staff.closes("alert_undelivered")
    staff.closes("staff_locked")


@row("alert:endpoint_off")
def switch_an_endpoint_on(staff):
    staff.fixture("settings").WEBHOOKS_TO_LOOPBACK = True
    receiver, order = staff.fixture_of(partner()), make_order()
    endpoint = make_endpoint(receiver.url)
    Order.objects.update(placed_with=endpoint.api_key_id)
    order.refresh_from_db()
    receiver.status = 410
    order.expire()
    drain_outgoing_webhooks()
    staff.sees()
    receiver.status = 200
    staff.decides(endpoint, "Switch on again")
    staff.decides(endpoint, "Send a test event")
    staff.decides(OutgoingWebhook.objects.get(order=order), "Send again")
    drain_outgoing_webhooks()
    assert {event["type"] for event in receiver.opened(secret_of(endpoint))} == {"webhook.test", "order.expired"}


@row("alert:no_worker")
def start_the_worker_that_is_gone(staff):
    order = make_order()  # its mail waits
    order.emails.update(next_attempt_at=Now() - HOUR)
    WorkerSeen.objects.create(host="web1", pid=7, version="1", queues="orders", seen_at=Now() - HOUR)
    housekeeping()
    staff.sees()
    Presence().note()
    drain_mails()
    housekeeping()


@row("alert:staff_locked")
def look_at_the_sign_ins(staff):
    for _ in range(12):
        staff.anybody().post("/admin/login/", {"username": "guess", "password": "wrong"})
    staff.sees()
    staff.closes("staff_locked")

"""What the buttons of the admin do, one row or many at a time."""

import uuid
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models.functions import Now

from bitloot.core.admin.formatting import short
from bitloot.core.outcome import Outcome
from bitloot.tests.staff import do, list_of, make_rows, press, text
from fulfillment.models import Reservation, SupplierGate
from orders.models import Alert, Order, OrderEvent
from orders.tests.factories import make_order
from payments.models import Payment
from webhooks.handlers import HANDLERS
from webhooks.models import WebhookLog
from webhooks.tasks import drain_webhooks
from webhooks.tests.factories import ipn, make_log

pytestmark = pytest.mark.django_db


def test_fresh_link_is_mailed_and_ends_the_older_ones(boss, rows):
    said = press(boss, rows.order, "mail_fresh_link")
    rows.order.refresh_from_db()
    assert rows.order.link_generation == 2
    assert rows.order.emails.filter(kind="fresh_link").count() == 1
    assert OrderEvent.objects.get(order=rows.order, kind="mail").actor == boss.user.username
    done = "a fresh link goes to the customer; older links no longer open the order"
    assert said == [f"order {str(rows.order.pk)[:8]}: {done}"]
    assert LogEntry.objects.get().object_id == str(rows.order.pk)


def test_run_delivery_wakes_the_purchases_of_a_paid_order(boss, rows):
    Reservation.objects.update(next_attempt_at=None)
    press(boss, rows.order, "run_delivery")
    assert Reservation.objects.due().count() == 1
    assert OrderEvent.objects.filter(order=rows.order, kind="staff", actor=boss.user.username).count() == 1


def test_run_delivery_of_an_unpaid_order_is_refused(boss):
    order = make_order()
    assert "It is not paid" in press(boss, order, "run_delivery")[0]
    assert LogEntry.objects.count() == 0


def test_alert_is_closed_once(boss, rows):
    press(boss, rows.alert, "close")
    rows.alert.refresh_from_db()
    assert (rows.alert.status, rows.alert.closed_by) == ("closed", boss.user.username)
    assert "It is closed already." in press(boss, rows.alert, "close")[0]
    assert LogEntry.objects.count() == 1


def test_payment_is_read_again(boss, rows):
    Payment.objects.update(next_attempt_at=None)
    press(boss, rows.payment, "read_again")
    assert Payment.objects.due().count() == 1


def test_gate_is_stopped_and_opened(boss, rows, settings):
    press(boss, rows.gate, "stop")
    gate = SupplierGate.objects.get(pk=rows.gate.pk)
    assert (gate.status, gate.reason) == ("stopped", f"stopped by {boss.user.username}")
    assert "It is stopped already." in press(boss, rows.gate, "stop")[0]
    settings.SAFE_MODE = True
    assert "SAFE_MODE is set" in press(boss, rows.gate, "open_again")[1]
    assert SupplierGate.objects.get(pk=rows.gate.pk).status == "open"
    assert "It is open already." in press(boss, rows.gate, "open_again")[0]


def test_run_now_wakes_what_waits_and_refuses_what_is_over_or_in_hand(boss, rows):
    def set_to(**fields):
        Reservation.objects.filter(pk=rows.reservation.pk).update(next_attempt_at=None, **fields)

    set_to(status="pending")
    assert "takes its next step within seconds" in press(boss, rows.reservation, "run_now")[0]
    assert Reservation.objects.due().count() == 1
    for fields, why in (
        ({"status": "delivered"}, "It is delivered already"),
        ({"status": "cancelled"}, "It has ended"),
        ({"status": "sending", "claimed_until": Now() + timedelta(minutes=1)}, "A worker is handling it right now"),
        ({"status": "unknown", "claimed_until": None, "supplier_order_id": None}, "Search for it at the supplier"),
    ):
        set_to(**fields)
        assert why in press(boss, rows.reservation, "run_now")[0]
        assert Reservation.objects.due().count() == 0


def test_held_purchase_goes_on_unless_something_may_have_been_bought(boss, rows):
    assert "It is not held" in press(boss, rows.reservation, "resume")[0]
    Reservation.objects.update(status="held", reason="out_of_stock")
    assert "Something may have been bought" in press(boss, rows.reservation, "resume")[0]
    Reservation.objects.update(supplier_order_id=None)
    press(boss, rows.reservation, "resume")
    rows.reservation.refresh_from_db()
    assert (rows.reservation.status, rows.reservation.reason) == ("pending", "")
    assert OrderEvent.objects.filter(kind="reservation", actor=boss.user.username).count() == 1


def test_action_takes_a_hundred_rows_and_says_so(boss):
    first = make_rows().alert
    Alert.objects.bulk_create(Alert(kind="test", about_pk=str(number), message="x") for number in range(120))
    said = do(boss, "orders.alert", "close", first, select_across="1")
    assert said[0].startswith("100 alerts: closed")
    assert "Only the first 100 were taken" in said[1]
    assert Alert.objects.filter(status="closed").count() == 100
    assert LogEntry.objects.count() == 100


def test_action_on_several_rows_counts_those_that_were_left(boss, rows):
    other = make_rows().alert
    press(boss, other, "close")
    said = do(boss, "orders.alert", "close", rows.alert, other)
    assert said[0] == f"{short(rows.alert)}: closed; it opens again, with a mail, if the same thing happens again"
    assert said[1] == "1 left unchanged: It is closed already."


def test_ids_that_are_none_do_not_crash_an_action(boss, rows):
    for name, action in (("orders.order", "mail_fresh_link"), ("webhooks.webhooklog", "replay")):
        for value in ("garbage", "9" * 40, "-1", "\x00"):
            ticked = {"action": action, "_selected_action": [value], "index": "0"}
            assert boss.post(list_of(name), ticked).status_code in (302, 400), value


def test_broken_handler_is_mended_and_replayed(boss, monkeypatch):
    order = make_order()

    def broken(log):
        raise ZeroDivisionError("a bug")

    def mended(log):
        paid = Order.objects.get(pk=order.pk).mark_paid(message="Paid.")
        return Outcome.processed("paid" if paid else "nothing new")

    def work():
        WebhookLog.objects.filter(next_attempt_at__isnull=False, status="received").update(next_attempt_at=Now())
        drain_webhooks()
        log.refresh_from_db()
        order.refresh_from_db()
        return log.status, log.outcome, order.status

    log = make_log(body=ipn())
    monkeypatch.setitem(HANDLERS, "nowpayments", broken)
    assert work() == ("failed", "ZeroDivisionError: a bug", "pending")
    assert "It could not be handled: ZeroDivisionError: a bug" in text(boss.get("/admin/"))

    monkeypatch.setitem(HANDLERS, "nowpayments", mended)
    assert "handed to its handler again" in press(boss, log, "replay")[0]
    assert work() == ("processed", "paid", "paid")
    timeline = list(order.events.values_list("to_status", "message"))

    assert do(boss, "webhooks.webhooklog", "replay", log)[0].endswith("the result within seconds")
    assert work() == ("processed", "nothing new", "paid")
    assert list(order.events.values_list("to_status", "message")) == timeline
    assert log.replays == 2
    assert LogEntry.objects.filter(object_id=str(log.pk)).count() == 2


def test_webhook_in_a_workers_hand_or_with_a_changed_body_is_not_replayed(boss, rows):
    WebhookLog.objects.filter(pk=rows.log.pk).update(claim_token=uuid.uuid4())
    assert "A worker is handling it right now" in press(boss, rows.log, "replay")[0]
    WebhookLog.objects.filter(pk=rows.log.pk).update(claim_token=None, body=b"{}")
    assert "not the one that was verified" in press(boss, rows.log, "replay")[0]
    rows.log.refresh_from_db()
    assert rows.log.replays == 0
    assert LogEntry.objects.count() == 0

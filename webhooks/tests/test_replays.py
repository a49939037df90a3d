"""Replays: a row for each attempt and each replay, runs by filter, and dry runs that change nothing."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.core import serializers
from django.db import connections, transaction
from django.db.models.functions import Now

from bitloot.core.decisions import DecisionRefused
from bitloot.core.queue import LeaseLost
from bitloot.core.rehearsal import NotRehearsed, rehearse
from bitloot.ops import retention
from bitloot.tests.parallel import at_once, somebody_waits_for_a_lock
from bitloot.tests.staff import make_staff
from fulfillment.models import Reservation
from orders.models import OrderEvent
from orders.tests.database import between, dying_at
from orders.tests.factories import make_order, make_paid_order
from payments.nowpayments import NowPaymentsClient
from payments.tests.conftest import wire  # noqa: F401
from payments.tests.factories import ASKED, make_payment, on_read, read_answer, url
from webhooks import replays
from webhooks.choosing import Chosen, UnknownFilter, chosen
from webhooks.foresight import foresee
from webhooks.models import Replay, ReplayRun, WebhookAttempt, WebhookLog
from webhooks.services import replay
from webhooks.tasks import drain_replays, drain_webhooks
from webhooks.tests.factories import ipn, make_log, supplier_event

pytestmark = pytest.mark.django_db
ALL = Chosen(provider="nowpayments")


def inbox(count=3):
    """Webhooks that mean nothing to us, each handled once."""
    logs = [make_log(body=ipn(payment_id=1, number=number), external_id=f"x{number}") for number in range(count)]
    drain_webhooks()
    return logs


def work(run):
    """Let the workers come by until the run has ended."""
    for _ in range(30):
        ReplayRun.objects.filter(finished_at=None).update(next_attempt_at=Now())
        drain_replays()
        drain_webhooks()
    run.refresh_from_db()
    return run


def everything():
    """Every row of the store but those that say what was rehearsed."""
    told = {"webhooks.replay", "webhooks.replayrun", "admin.logentry"}
    models = [model for model in apps.get_models() if model._meta.label_lower not in told]
    return {model._meta.label: serializers.serialize("json", model._default_manager.order_by("pk")) for model in models}


def ipn_of(payment, status="finished"):
    body = ipn(payment_id=int(payment.external_id), payment_status=status, order_id=str(payment.order_id))
    return make_log(body=body, event_type=status, external_id=payment.external_id)


# --- attempts


def test_each_attempt_keeps_its_error_and_who_had_it_replayed(wire):  # noqa: F811
    payment = make_payment()
    log = ipn_of(payment)
    wire.get(url(f"/payment/{payment.external_id}"), status=500)
    drain_webhooks()
    wire.replace("GET", url(f"/payment/{payment.external_id}"), json=read_answer(payment))
    replay(log, actor="kim")
    drain_webhooks()
    replay(WebhookLog.objects.get(), actor="ada")
    drain_webhooks()
    tries = [(one.verdict, one.text, one.replay and one.replay.actor) for one in WebhookAttempt.objects.all()]
    assert tries == [
        ("waiting", "nowpayments answered 500", None),
        ("processed", "paid", "kim"),
        ("processed", "already finished", "ada"),
    ]
    assert [(one.actor, one.verdict, one.text) for one in Replay.objects.all()] == [
        ("kim", "processed", "paid"),
        ("ada", "processed", "already finished"),
    ]


# --- the filter


def test_webhooks_are_found_by_order_address_and_every_name_of_a_purchase():
    order = make_paid_order(email="Kim@Shop.example")
    payment = make_payment(order, external_id="5077125999")
    Reservation.objects.update(supplier_order_id="TST1")
    purchase = Reservation.objects.get(item__order=order)
    mine = {ipn_of(payment).pk}
    mine.add(make_log("kinguin", supplier_event(orderId="TST1"), "order.status", "TST1").pk)
    mine.add(make_log("kinguin", supplier_event(orderId="TST1", n=2), "order.status", purchase.external_id).pk)
    make_log(body=ipn(payment_id=2), external_id="2")
    for term in (str(order.pk), order.pk.hex, "kim@shop.EXAMPLE", f"order {order.pk}"):
        assert set(chosen(Chosen(search=term)).values_list("pk", flat=True)) == mine, term
    assert chosen(Chosen(search="5077125999")).get().external_id == "5077125999"
    assert not chosen(Chosen(search="nobody@shop.example")).exists()


def test_the_lists_address_chooses_what_the_list_shows():
    query = {
        "status__exact": "failed",
        "received_at__gte": "2026-03-01 00:00:00+00:00",
        "q": "x",
        "p": "2",
        "id__in": "1,2",
    }
    wanted = Chosen.of_list(query)
    since = datetime(2026, 3, 1, tzinfo=UTC)
    assert wanted == Chosen(status="failed", since=since, search="x", ids=[1, 2])
    assert Chosen.from_json(json.loads(json.dumps(wanted.as_json()))) == wanted
    for bad in ({"outcome__contains": "x"}, {"id__in": "x"}, {"received_at__lt": "soon"}):
        with pytest.raises(UnknownFilter):
            Chosen.of_list(bad)


# --- runs


def test_run_replays_each_webhook_that_matches_once_with_a_row_and_a_line_for_each():
    logs, user = inbox(60), make_staff()
    make_log("kinguin", supplier_event(), "order.status")
    run, is_new = replays.start_run(ALL, is_dry=False, actor=user.username, user_id=user.pk)
    assert is_new
    assert [run.total, work(run).status, run.replays.count()] == [60, "finished", 60]
    assert replays.progress(run) == {"ignored": 60}
    assert set(WebhookLog.objects.filter(provider="nowpayments").values_list("replays", flat=True)) == {1}
    assert LogEntry.objects.filter(object_id__in=[str(log.pk) for log in logs], user=user).count() == 60
    assert WebhookLog.objects.get(provider="kinguin").replays == 0


def test_run_leaves_room_for_the_webhooks_that_arrive_meanwhile():
    inbox(60)
    replays.start_run(ALL, is_dry=False, actor="kim")
    drain_replays()
    assert WebhookLog.objects.due().count() == replays.IN_HAND


def test_same_form_twice_and_two_people_at_once_are_one_run():
    inbox()
    form = uuid.uuid4()
    first, _ = replays.start_run(ALL, is_dry=False, actor="kim", pk=form)
    assert replays.start_run(ALL, is_dry=False, actor="ada") == (first, False)
    work(first)
    assert replays.start_run(ALL, is_dry=False, actor="kim", pk=form) == (first, False)
    assert [WebhookLog.objects.first().replays, Replay.objects.count()] == [1, 3]


def test_worker_that_is_killed_in_a_run_costs_no_webhook_a_second_replay():
    inbox()
    run, _ = replays.start_run(ALL, is_dry=False, actor="kim")
    with dying_at("webhooks_replayrun"), pytest.raises(SystemExit):
        # Handed over, and killed before it is written how far the run is.
        replays.advance(ReplayRun.objects.claim()[0])
    assert Replay.objects.count() == 3
    ReplayRun.objects.update(claim_token=None)
    assert [work(run).status, Replay.objects.count(), WebhookLog.objects.first().replays] == ["finished", 3, 1]


def test_what_cannot_be_replayed_is_left_with_the_reason_and_nothing_at_all_is_no_run():
    logs = inbox()
    WebhookLog.objects.filter(pk=logs[1].pk).update(body=b"")
    run, _ = replays.start_run(ALL, is_dry=False, actor="kim")
    assert replays.progress(work(run)) == {"ignored": 2, "left": 1}
    with pytest.raises(DecisionRefused, match="Nothing matches"):
        replays.start_run(Chosen(status="failed"), is_dry=False, actor="kim")


def test_stopped_run_hands_over_nothing_more():
    inbox(60)
    run, _ = replays.start_run(ALL, is_dry=False, actor="kim")
    drain_replays()
    replays.stop(run, actor="ada")
    assert [work(run).status, run.note, run.replays.count()] == ["stopped", "Stopped by ada.", replays.IN_HAND]


def test_run_that_is_stopped_in_the_middle_of_a_part_hands_over_nothing_more():
    inbox()
    run, _ = replays.start_run(ALL, is_dry=False, actor="kim")
    with between("webhooks_replay", lambda: replays.stop(run, actor="ada")), pytest.raises(LeaseLost):
        replays.advance(ReplayRun.objects.claim()[0])
    run.refresh_from_db()
    assert [run.status, run.replays.count()] == ["stopped", 0]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_people_and_two_workers_at_once_replay_each_webhook_once():
    inbox(40)
    start = threading.Barrier(6)

    def press(_):
        start.wait()
        try:
            run, _ = replays.start_run(ALL, is_dry=False, actor="kim")
            for claimed in ReplayRun.objects.claim(2):
                replays.advance(claimed)
            return run.pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as threads:
        runs = set(threads.map(press, range(6)))
    assert len(runs) == 1
    assert work(ReplayRun.objects.get()).status == "finished"
    assert set(WebhookLog.objects.values_list("replays", flat=True)) == {1}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_webhook_that_staff_replay_while_a_run_hands_it_over_holds_no_run_up():
    (log,) = inbox(1)
    run, _ = replays.start_run(ALL, is_dry=False, actor="kim")
    stale = WebhookLog.objects.get(pk=log.pk)
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            replays.advance(ReplayRun.objects.claim()[0])
            pressed = thread.submit(at_once, lambda: replay(stale, actor="ada"))
            somebody_waits_for_a_lock()
        pressed.result()
    assert [work(run).status, replays.progress(run)] == ["finished", {"left": 1}]
    assert Replay.objects.get(run=None).verdict == "ignored"
    assert [one.replay and one.replay.actor for one in WebhookAttempt.objects.all()] == [None, "ada"]


def test_body_that_is_forgotten_after_a_run_has_listed_its_part_is_left_alone():
    logs = inbox(2)
    run, _ = replays.start_run(ALL, is_dry=False, actor="kim")
    WebhookLog.objects.filter(pk=logs[1].pk).update(received_at=Now() - timedelta(days=91))
    with between("webhooks_replay", lambda: retention.prune_all(of_owner=True)):
        replays.advance(ReplayRun.objects.claim()[0])
    assert [work(run).status, replays.progress(run)] == ["finished", {"ignored": 1, "left": 1}]
    assert WebhookLog.objects.get(pk=logs[1].pk).outcome == "neither payment nor order is ours"


# --- dry runs


@pytest.mark.parametrize("word", ["finished", "partially_paid", "confirming", "refunded", "failed", "from_the_future"])
def test_dry_run_says_what_the_replay_then_does_and_changes_nothing(wire, word):  # noqa: F811
    payment = make_payment()
    log = ipn_of(payment, word)
    if word == "from_the_future":
        on_read(wire, payment, "waiting", payment_status=word)
    else:
        on_read(wire, payment, word)
    before = everything()
    foreseen = foresee(log).text
    assert everything() == before
    newest = OrderEvent.objects.last().pk
    drain_webhooks()
    happened = OrderEvent.objects.filter(pk__gt=newest)
    assert {event.message for event in happened} <= {line[10:].partition(" (")[0] for line in foreseen.splitlines()}
    assert WebhookLog.objects.get().outcome in foreseen
    assert "Mail to the customer: “" in foreseen or word not in ("finished", "partially_paid")


def test_dry_run_that_pays_an_order_buys_mails_and_wakes_nothing(wire):  # noqa: F811
    payment = make_payment()
    on_read(wire, payment, "finished")
    run, _ = replays.start_run(Chosen(ids=[ipn_of(payment).pk]), is_dry=True, actor="kim")
    before = everything()
    drain_replays()
    assert everything() == before
    only = run.replays.get()
    assert only.verdict == "would_change"
    assert f"waiting, 0 BTC arrived, its order pending → finished, {ASKED} BTC arrived, its order paid" in only.text
    assert "A purchase would begin: 1 x " in only.text
    assert [call.request.method for call in wire.calls] == ["GET"]


def test_dry_run_of_a_suppliers_webhook_says_which_purchase_would_be_looked_at():
    purchase = Reservation.objects.get(item__order=make_paid_order())
    Reservation.objects.update(next_attempt_at=None)
    log = make_log(
        "kinguin", supplier_event(orderExternalId=purchase.external_id), "order.status", purchase.external_id
    )
    before = everything()
    assert f"A worker would take the next step of {purchase}" in foresee(log).text
    assert everything() == before


def test_dry_run_says_that_it_would_wait_or_that_nothing_would_change(wire):  # noqa: F811
    payment = make_payment()
    log = ipn_of(payment)
    wire.get(url(f"/payment/{payment.external_id}"), status=500)
    assert foresee(log).text == "It would wait and try again: nowpayments answered 500"
    assert foresee(inbox(1)[0]).verdict == "no_change"


def test_rehearsal_sends_nothing_that_could_change_something_at_a_provider(wire):  # noqa: F811
    client = NowPaymentsClient.from_settings()
    with pytest.raises(NotRehearsed, match="POST"):
        rehearse(lambda: client._transport.request("POST", "/payment", body=b"{}"))
    assert len(wire.calls) == 0


def test_dry_run_is_repeated_for_real_once():
    inbox()
    dry, _ = replays.start_run(ALL, is_dry=True, actor="kim")
    assert replays.objection_to_replaying(dry) == "The dry run has not ended yet."
    assert replays.progress(work(dry)) == {"no_change": 3}
    replays.replay_these(dry, actor="kim")
    with pytest.raises(DecisionRefused, match="replayed already"):
        replays.replay_these(dry, actor="ada")
    real = ReplayRun.objects.get(is_dry=False)
    assert [work(real).wanted, real.status, Replay.objects.filter(run=real).count()] == [dry.wanted, "finished", 3]


def test_webhook_that_is_handled_at_once_costs_no_row_and_its_attempt_is_kept_before_the_next(wire):  # noqa: F811
    (log,) = inbox(1)
    assert not WebhookAttempt.objects.exists()
    assert [(one.verdict, one.text) for one in WebhookLog.objects.get().newest_tries] == [
        ("ignored", "neither payment nor order is ours")
    ]
    make_log(body=bytes(log.body))  # the provider sends it again
    drain_webhooks()
    make_log(body=bytes(log.body))
    drain_webhooks()
    tries = list(WebhookAttempt.objects.all())
    assert [(one.verdict, one.replay) for one in tries] == [("ignored", None)] * 3
    assert tries[0].at < tries[1].at < tries[2].at


def test_webhook_that_is_replayed_alone_before_its_turn_holds_no_run_up():
    (log,) = inbox(1)
    run, _ = replays.start_run(ALL, is_dry=False, actor="kim")
    drain_replays()  # handed over, and not handled yet
    replay(WebhookLog.objects.get(pk=log.pk), actor="ada")
    assert [work(run).status, replays.progress(run)] == ["finished", {"left": 1}]
    assert Replay.objects.get(run=None).verdict == "ignored"


def test_run_that_kills_its_workers_is_given_up():
    inbox(1)
    run, _ = replays.start_run(ALL, is_dry=True, actor="kim")
    for _ in range(3):
        assert ReplayRun.objects.claim()  # and the worker dies
        ReplayRun.objects.update(next_attempt_at=Now(), claim_token=None)
    assert [work(run).status, run.note[:34], run.replays.count()] == [
        "stopped", "It crashed the worker three times.", 0
    ]  # fmt: skip


def test_no_run_remembers_a_customers_address(wire):  # noqa: F811
    payment = make_payment(make_order(email="kim@shop.example"))
    on_read(wire, payment, "finished")
    ipn_of(payment)
    make_log(body=ipn(payment_id=1), external_id="1")
    run, _ = replays.begin(Chosen(search="Kim@shop.example"), is_dry=True, user=make_staff())
    assert [work(run).status, run.total, run.replays.get().verdict] == ["finished", 1, "would_change"]
    told = [run.wanted, run.replays.get().text, LogEntry.objects.get().change_message]
    assert "kim@shop.example" not in str(told).lower()
    with pytest.raises(DecisionRefused, match="Nothing matches"):
        replays.begin(Chosen(search="ada@shop.example"), is_dry=True, user=make_staff())

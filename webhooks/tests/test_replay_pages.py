"""The webhook log in the admin: attempts, neighbours, search, and replays by filter with their permissions."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from bitloot.tests.staff import make_rows, make_staff, page_of, press
from webhooks.models import Replay, ReplayRun, WebhookLog
from webhooks.tasks import drain_replays, drain_webhooks
from webhooks.tests.factories import ipn, make_log

pytestmark = [pytest.mark.django_db, pytest.mark.once]
LIST = reverse("admin:webhooks_webhooklog_changelist")
REPLAY = reverse("admin:webhooks_webhooklog_replay")
VIEW = "webhooks.view_webhooklog", "webhooks.view_replayrun", "webhooks.view_replay", "webhooks.view_webhookattempt"


@pytest.fixture
def inbox():
    logs = [make_log(body=ipn(payment_id=7, n=n, status="waiting"), external_id="7") for n in range(3)]
    drain_webhooks()
    return logs


def signed_in(client, *permissions):
    client.force_login(make_staff(*VIEW, *permissions))
    return client


def text(answer):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def begin(client, do, query="?external_id=7"):
    form = client.get(REPLAY + query)
    run = form.context["run"]
    return client.post(REPLAY + query, {"do": do, "run": run}, follow=True), run


def test_page_shows_each_attempt_what_came_before_and_what_changed(client, inbox):
    page = text(signed_in(client).get(page_of(inbox[1])))
    assert "ignored neither payment nor order is ours" in page
    assert f"{inbox[0].pk}: finished, ignored" in page
    assert f"{inbox[2].pk}: finished, ignored" in page
    assert "n 0 1" in page
    assert "status" not in page.partition("Key Before")[2].partition("Payload")[0]
    first = text(client.get(page_of(inbox[0])))
    assert "It is the first about this payment or purchase." in first


def test_list_is_searched_by_order_and_address(client):
    rows, _ = make_rows(), make_rows()
    signed_in(client)
    for term in (str(rows.order.pk), rows.order.email.upper(), rows.payment.external_id, str(rows.log.pk)):
        assert list(client.get(LIST, {"q": term}).context["cl"].queryset) == [rows.log], term


def test_dry_run_then_replay_of_all_that_match(client, inbox):
    signed_in(client, "webhooks.replay_webhooks", "webhooks.rehearse_webhook")
    assert f"{REPLAY}?external_id=7" in client.get(LIST, {"external_id": 7}).content.decode()
    shown, pk = begin(client, "dry")
    run = ReplayRun.objects.get()
    assert (run.pk, run.is_dry, run.total) == (pk, True, 3)
    assert "0 of 3" in text(shown)
    drain_replays()
    page = text(client.get(page_of(run)))
    assert "3 of 3" in page
    assert "Nothing would change. Its handler says: neither payment nor order is ours." in page
    assert WebhookLog.objects.first().replays == 0
    url = reverse("admin:webhooks_replayrun_decide", args=[run.pk, "replay_these"])
    answer = client.post(url, {"seen": client.get(url).context["seen"]}, follow=True)
    assert "they are replayed in the background" in text(answer)
    drain_replays()
    drain_webhooks()
    assert list(Replay.objects.filter(run__is_dry=False).values_list("verdict", flat=True)) == ["ignored"] * 3
    assert LogEntry.objects.filter(content_type__model="webhooklog").count() == 3


def test_form_that_is_sent_twice_begins_one_run(client, inbox):
    signed_in(client, "webhooks.replay_webhooks")
    _, pk = begin(client, "replay")
    again = client.post(f"{REPLAY}?external_id=7", {"do": "replay", "run": pk}, follow=True)
    assert "This run had begun already" in text(again)
    assert [ReplayRun.objects.count(), LogEntry.objects.filter(object_id=str(pk)).count()] == [1, 1]


@pytest.mark.parametrize(
    ("permission", "do", "label"),
    [
        ("webhooks.rehearse_webhook", "replay", "Replay all that match"),
        ("webhooks.replay_webhooks", "dry", "Dry run of all that match"),
    ],
)
def test_each_needs_its_own_permission_and_a_refusal_is_logged(client, inbox, permission, do, label):
    signed_in(client, permission)
    assert client.post(f"{REPLAY}?external_id=7", {"do": do}).status_code == 403
    assert LogEntry.objects.get().change_message == f"Refused “{label}”: no permission."
    assert not ReplayRun.objects.exists()


def test_without_either_permission_there_is_no_way_and_a_get_begins_nothing(client, inbox):
    assert REPLAY not in signed_in(client).get(LIST).content.decode()
    assert client.get(REPLAY).status_code == 403
    signed_in(client, "webhooks.replay_webhooks").get(f"{REPLAY}?do=replay")
    assert not ReplayRun.objects.exists()


def test_filter_that_a_replay_cannot_follow_is_refused_instead_of_widened(client, inbox):
    signed_in(client, "webhooks.replay_webhooks")
    answer = client.post(f"{REPLAY}?outcome=x", {"do": "replay"}, follow=True)
    assert "A replay cannot follow this filter: outcome" in text(answer)
    assert not ReplayRun.objects.exists()


def test_selected_webhooks_and_one_of_them_lead_to_the_same_page(client, inbox):
    signed_in(client, "webhooks.rehearse_webhook")
    ticked = [log.pk for log in inbox[:2]]
    answer = client.post(LIST, {"action": "replay_chosen", "_selected_action": ticked, "index": "0"}, follow=True)
    assert "2 webhooks" in text(answer)
    assert f"{REPLAY}?id__in={inbox[0].pk}" in client.get(page_of(inbox[0])).content.decode()


def test_run_is_stopped_while_it_moves_on(client, inbox):
    signed_in(client, "webhooks.replay_webhooks", "webhooks.stop_replays")
    begin(client, "replay")
    run = ReplayRun.objects.get()
    url = reverse("admin:webhooks_replayrun_decide", args=[run.pk, "stop"])
    looked_at = client.get(url).context["seen"]
    drain_replays()  # three are with their handlers by now
    client.post(url, {"seen": looked_at})
    run.refresh_from_db()
    assert [run.status, run.next_attempt_at] == ["stopped", None]


def test_replay_by_the_button_names_who_pressed_it_at_the_attempt(client, inbox):
    signed_in(client, "webhooks.replay_webhook")
    press(client, inbox[0], "replay")
    drain_webhooks()
    name = LogEntry.objects.get().user.get_username()
    page = text(client.get(page_of(inbox[0])))
    assert page.count(f"neither payment nor order is ours {name}") == 1

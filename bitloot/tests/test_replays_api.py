"""Replays of many webhooks over the staff API: the same filter, permissions and rows as in the admin."""

import uuid

import pytest
from django.contrib.admin.models import LogEntry

from bitloot.tests.test_staff_api import JSON, make_staff, token_of
from webhooks.models import ReplayRun, WebhookLog
from webhooks.tasks import drain_replays, drain_webhooks
from webhooks.tests.factories import ipn, make_log

pytestmark = [pytest.mark.django_db, pytest.mark.once]
RUNS = "/api/admin/replays"
VIEW = "webhooks.view_replayrun"


@pytest.fixture
def inbox():
    logs = [make_log(body=ipn(payment_id=7, n=n), external_id="7") for n in range(3)]
    drain_webhooks()
    return logs


def headers(*permissions):
    return {"Authorization": token_of(make_staff(VIEW, *permissions))}


def start(client, token, **body):
    return client.post(RUNS, {"filter": {"external_id": "7"}, **body}, content_type=JSON, headers=token)


def test_dry_run_is_what_one_gets_unless_one_asks_for_a_replay(client, inbox):
    token = headers("webhooks.rehearse_webhook")
    answer = start(client, token)
    assert (answer.status_code, answer.json()["dry_run"], answer.json()["total"]) == (202, True, 3)
    drain_replays()
    found = client.get(f"{RUNS}/{answer.json()['id']}", headers=token).json()
    assert (found["status"], found["verdicts"], len(found["webhooks"])) == ("finished", {"no_change": 3}, 3)
    assert found["webhooks"][0]["text"] == "Nothing would change. Its handler says: neither payment nor order is ours."
    assert client.get(RUNS, headers=token).json()["results"][0]["id"] == found["id"]


def test_replay_that_is_asked_for_twice_is_one_run_with_a_line_for_each_webhook(client, inbox):
    token, mine = headers("webhooks.replay_webhooks"), str(uuid.uuid4())
    assert [start(client, token, id=mine, dry_run=False).status_code for _ in range(2)] == [202, 200]
    drain_replays()
    drain_webhooks()
    assert set(WebhookLog.objects.values_list("replays", flat=True)) == {1}
    assert LogEntry.objects.filter(content_type__model="webhooklog").count() == 3


@pytest.mark.parametrize(
    ("permission", "is_dry"), [("webhooks.rehearse_webhook", False), ("webhooks.replay_webhooks", True)]
)
def test_each_wants_its_own_permission(client, inbox, permission, is_dry):
    assert start(client, headers(permission), dry_run=is_dry).status_code == 403
    assert not ReplayRun.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {"filter": {"outcome": "x"}},
        {"filter": {"status": "odd"}},
        {"filter": {"ids": [0]}},
        {"filter": 1},
        {"dry": True},
    ],
)
def test_filter_that_means_nothing_is_an_error(client, inbox, body):
    assert start(client, headers("webhooks.rehearse_webhook"), **body).status_code == 422


def test_nothing_to_replay_is_refused_with_a_sentence(client):
    answer = start(client, headers("webhooks.rehearse_webhook"))
    assert (answer.status_code, answer.json()["detail"]) == (409, "Nothing matches, so there is nothing to replay.")


def test_webhook_shows_each_attempt(client, inbox):
    token = headers("webhooks.view_webhooklog")
    (only,) = client.get(f"/api/admin/webhook-logs/{inbox[0].pk}", headers=token).json()["tries"]
    assert (only["verdict"], only["text"], only["replayed_by"]) == ("ignored", "neither payment nor order is ours", "")

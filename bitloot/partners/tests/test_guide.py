"""docs/api.md is true: its receivers open what is sent and nothing else, and it names every scope, event and pause."""

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from bitloot.core.clients import Scope
from bitloot.partners import delivery, services
from bitloot.partners.events import TEST, Event
from bitloot.partners.models import OutgoingWebhook
from bitloot.partners.tests.factories import make_endpoint
from tools.dev.devenv import ROOT

pytestmark = [pytest.mark.django_db, pytest.mark.once]
GUIDE = (ROOT / "docs" / "api.md").read_text("utf-8")
DRIVER = """
const chunks = []; for await (const chunk of process.stdin) chunks.push(chunk);
for (const [headers, body, secret] of JSON.parse(Buffer.concat(chunks))) {
  let event = null;
  try { event = opened(headers, Buffer.from(body), secret); } catch (error) { /* refused */ }
  console.log(JSON.stringify(event));
}
"""


def program(title):
    return re.search(rf'^```\w+ title="{title}"\n(.*?)^```', GUIDE, re.DOTALL | re.MULTILINE)[1]


def in_python(calls):
    space = {}
    exec(program("verify.py"), space)  # noqa: S102

    def opened(headers, body, secret):
        try:
            return space["opened"](headers, body.encode(), secret)
        except ValueError:
            return None

    return [opened(*call) for call in calls]


def in_javascript(calls):
    command = ["node", "--input-type=module", "-e", program("verify.mjs") + DRIVER]
    done = subprocess.run(command, input=json.dumps(calls), capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("run", [in_python, pytest.param(in_javascript, marks=pytest.mark.node)])
def test_a_receiver_opens_what_is_genuine_and_nothing_else(run):
    endpoint, stranger = make_endpoint(), make_endpoint()
    services.send_test(endpoint)
    row, secret = OutgoingWebhook.objects.get(), services.secret_of(endpoint)
    headers = delivery.signed(row, endpoint)
    old = delivery.signed(row, endpoint, at=datetime.now(UTC) - timedelta(minutes=6))
    services.renew_secret(endpoint)
    endpoint.refresh_from_db()
    calls = [
        (headers, row.body, secret),
        (delivery.signed(row, endpoint), row.body, secret),  # the earlier of two secrets
        (headers, row.body + " ", secret),
        ({**headers, "webhook-id": "msg_another"}, row.body, secret),
        ({**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}, row.body, secret),
        (old, row.body, secret),
        (headers, row.body, services.secret_of(stranger)),
    ]
    event = json.loads(row.body)
    assert run(calls) == [event, event, None, None, None, None, None]


def test_the_guide_names_every_scope_event_and_pause():
    assert {name for name in re.findall(r"`(\w+:\w+)`", GUIDE)} == set(Scope.values)
    assert {*re.findall(r"`((?:order|webhook)\.\w+)`", GUIDE)} == {*Event.values, TEST}
    assert "after 1, 5 and 30 minutes, 2, 5, 10, 14,\n  20 and 24 hours" in GUIDE
    assert [seconds / 60 for seconds in delivery.RETRIES] == [1, 5, 30, 120, 300, 600, 840, 1200, 1440]
    assert f"up to {['none', 'one', 'two', 'three', 'four', 'five'][services.MOST_ENDPOINTS]}" in GUIDE
    assert f"within {delivery.TIMEOUT[1]:g} seconds" in GUIDE

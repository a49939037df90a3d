"""Each row of the runbook: bring the store there, do what the row says, see the alert close and the order end."""

import re
from collections import Counter

import pytest
from django.contrib import admin

from bitloot.tests.runbook import SCENARIOS, Operator, open_alerts, open_differences, rows
from bitloot.tests.scenarios import differences, keys_and_machines, provider_differences, purchases  # noqa: F401
from bitloot.tests.scenarios.money import accept_what_is_in_review
from bitloot.tests.test_doctor import tls  # noqa: F401
from payments.choices import ReviewReason

pytestmark = [pytest.mark.django_db, pytest.mark.once]

# What stands in quotation marks and is no button.
NO_BUTTONS = {"finished", "mail server"}
# Rows whose remedy no test carries out.
UNREACHABLE = {
    "difference:two_for_one_purchase": "a constraint of the database forbids it",
}


# What a remedy leaves, because it is a decision of its own.
LEFT = {accept_what_is_in_review: {"alert:accepted_below_price", "difference:accepted_below_price"}}


def test_each_row_has_a_scenario():
    names = [name for name, _ in rows()]
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert set(names) ^ (set(SCENARIOS) | set(UNREACHABLE)) == set()
    assert not set(SCENARIOS) & set(UNREACHABLE)


def test_each_reason_of_a_review_stands_in_the_runbook():
    named = {name.removeprefix("review:") for name, _ in rows() if name.startswith("review:")}
    not_in_review = {"no_answer", "refused", "coin_refused", "accepted"}
    assert named == set(ReviewReason) - not_in_review


def test_each_button_that_the_runbook_names_exists():
    pages = [admin.site.get_model_admin(model) for model in admin.site._registry]
    labels = {one.label for page in pages for one in getattr(page, "decisions", ())}
    labels |= {label.partition(":")[0] for label in labels}  # “Replay: run the handler again”
    named = {name for _, to_do in rows() for name in re.findall("“([^”]+)”", to_do)}
    assert named - labels - NO_BUTTONS == set()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_remedy_closes_the_alert_and_ends_the_order(name, request):
    staff = Operator(request, row=name)
    ended = SCENARIOS[name](staff)
    assert name in staff.seen
    assert {*open_alerts(), *open_differences()} <= LEFT.get(SCENARIOS[name], set())
    if ended is not None:
        order, status = ended
        order.refresh_from_db()
        assert order.status == status

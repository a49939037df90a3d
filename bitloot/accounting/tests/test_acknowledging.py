"""Differences that stay although staff dealt with them: one reason, one row, and void as soon as a fact changes."""

import json
import threading
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.urls import reverse

from bitloot.accounting.acknowledging import acknowledge
from bitloot.accounting.checks import CHECKS, differences
from bitloot.accounting.ledger import Scope
from bitloot.accounting.models import Acknowledgement
from bitloot.accounting.tests import test_checks as breaks
from bitloot.accounting.tests.ledgers import add_keys, reservation_of
from bitloot.tests.staff import make_staff
from fulfillment.models import ReservationAttempt

pytestmark = pytest.mark.django_db


def found():
    return [(difference.kind, difference.external_id) for difference in differences(Scope())]


def run(*arguments):
    """Return the exit code and what was printed."""
    out = StringIO()
    try:
        call_command(*arguments, stdout=out)
    except CommandError as err:
        return err.returncode, f"{out.getvalue()}{err}"
    return 0, out.getvalue()


def another_attempt(outcome):
    def change(order):
        ReservationAttempt.objects.create(reservation=reservation_of(order), number=3, outcome=outcome)

    return change


def one_more_key(order):
    add_keys(order, 1)


def another_sum(order):
    order.refunds.update(amount=order.refunds.first().amount * 2)


CASES = [
    ("bought_twice", breaks.bought_twice, another_attempt("placed")),
    ("permit_open", breaks.permit_open, another_attempt("open")),
    ("refunded_too_much", breaks.refunded_too_much, another_sum),
    ("wrong_number_of_keys", breaks.key_too_many, one_more_key),
    ("delivered_without_purchase", breaks.delivered_without_purchase, one_more_key),
    ("fulfilled_undelivered", breaks.fulfilled_undelivered, one_more_key),
]


def test_every_kind_is_in_this_file():
    assert {kind for kind, *_ in CASES} == {check.kind for check in CHECKS if check.subject}


@pytest.mark.parametrize(("kind", "break_it", "change"), CASES, ids=[kind for kind, *_ in CASES])
def test_an_acknowledged_difference_is_skipped_until_its_facts_change(kind, break_it, change):
    order = break_it()
    ((_, subject),) = found()
    code, said = run("reconcile")
    command = f"acknowledge_difference {kind} {subject} --reason"
    assert code == 1
    assert command in said
    assert run(*command.split(), "Returned one at the supplier.") == (
        0,
        f"{kind} of {subject} is acknowledged; reconcile skips it until its facts change.\n",
    )
    code, said = run("reconcile")
    assert code == 0
    assert "1 differences were acknowledged; the admin lists them." in said
    change(order)
    assert kind in [name for name, _ in found()]


def test_acknowledging_twice_keeps_the_first_reason():
    breaks.bought_twice()
    ((kind, subject),) = found()
    (made,) = acknowledge(kind, subject, reason="Returned one.", actor="ada")
    assert acknowledge(kind, subject, reason="Another story.", actor="kim") == []
    row = Acknowledgement.objects.get()
    assert [row.reason, row.acknowledged_by, row.message] == ["Returned one.", "ada", made.message]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_at_once_leave_one_row():
    breaks.bought_twice()
    ((kind, subject),) = found()
    start, made = threading.Barrier(2), []

    def run_one(name):
        start.wait(timeout=20)
        made.extend(acknowledge(kind, subject, reason="Returned one.", actor=name))
        connections.close_all()

    threads = [threading.Thread(target=run_one, args=(name,)) for name in ("ada", "kim")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [len(made), Acknowledgement.objects.count()] == [1, 1]


def test_what_is_not_there_is_not_acknowledged():
    breaks.bought_twice()
    assert run("acknowledge_difference", "bought_twice", "nonsense", "--reason", "Dealt with.")[0] == 1
    assert run("acknowledge_difference", "order_stuck", "x", "--reason", "Dealt with.")[0] == 64
    ((kind, subject),) = found()
    assert run("acknowledge_difference", kind, subject, "--reason", "  ")[0] == 64
    assert not Acknowledgement.objects.exists()


def test_command_speaks_json():
    breaks.bought_twice()
    ((kind, subject),) = found()
    said = [run("acknowledge_difference", kind, subject, "--reason", "Returned.", "--json")[1] for _ in range(2)]
    assert [json.loads(each)["acknowledged"] for each in said] == [1, 0]


def test_admin_lists_what_was_acknowledged(client):
    breaks.bought_twice()
    ((kind, subject),) = found()
    acknowledge(kind, subject, reason="Returned one.", actor="ada")
    client.force_login(make_staff("accounting.view_acknowledgement"))
    page = client.get(reverse("admin:accounting_acknowledgement_changelist")).content.decode()
    assert subject in page
    assert "Returned one." in page

"""Failpoints: off they do nothing, on they do exactly one thing once, and every name stands in the code."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import OperationalError, connection, transaction

from bitloot.core import faults as module
from bitloot.core.faults import ACTIONS, NAMES, OF_COMMANDS, FailpointHit, arm, failpoint

ROOT = Path(__file__).resolve().parents[3]
APPS = ("bitloot", "fulfillment", "orders", "payments", "storage", "webhooks")


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    arm("")


def marked() -> list[str]:
    """Return the argument of every failpoint() in the product's code."""
    files = [path for app in APPS for path in (ROOT / app).rglob("*.py")]
    sources = [path for path in files if "tests" not in path.relative_to(ROOT).parts]
    calls = [node for path in sources for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "failpoint" and isinstance(call.args[0], ast.Constant)
    ]


def test_every_registered_name_stands_exactly_once_in_the_code():
    assert sorted(marked()) == sorted(NAMES + OF_COMMANDS)
    assert len(NAMES) == len(set(NAMES)) >= 30


def test_nothing_happens_once_it_is_off(tmp_path):
    log = tmp_path / "hits"
    arm("call.before:raise", log=str(log))
    arm("")
    for name in NAMES:
        failpoint(name)
    assert not log.exists()


def test_raise_happens_once_and_at_the_named_place_only():
    arm("search.before:raise")
    failpoint("search.answered")
    with pytest.raises(FailpointHit):
        failpoint("search.before")
    failpoint("search.before")


def test_nth_counts_the_passes(tmp_path):
    log = tmp_path / "hits"
    arm("call.before:raise:3", log=str(log))
    failpoint("call.before")
    failpoint("call.before")
    assert not log.exists()
    with pytest.raises(FailpointHit):
        failpoint("call.before")
    assert log.read_text() == "call.before:raise\n"


@pytest.mark.parametrize("plan", ["nowhere:kill9", "call.before:explode", "call.before:kill9:0", "call.before:kill9:x"])
def test_a_plan_that_fits_nothing_is_refused(plan):
    with pytest.raises(ValueError):
        arm(plan)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_drop_db_breaks_the_connection_and_the_next_one_works():
    connection.ensure_connection()
    arm("call.before:drop_db")
    failpoint("call.before")
    assert connection.is_usable() is False
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


@pytest.mark.django_db(transaction=True)
def test_lose_commit_commits_and_reports_a_failure():
    from orders.models import Alert

    arm("call.before:lose_commit")
    with pytest.raises(OperationalError, match="COMMIT"), transaction.atomic():  # noqa: PT012 - it comes with the end
        Alert.objects.create(kind="test", about_pk="one", message="kept")
        failpoint("call.before")
    assert Alert.objects.count() == 1


def test_sleep_outlives_the_lease(settings, monkeypatch):
    settings.CLOCK_SCALE = 1000
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    arm("call.before:sleep")
    failpoint("call.before")
    assert slept == [0.132]


@pytest.mark.parametrize(("action", "number"), [("kill9", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_environment_arms_a_process(tmp_path, action, number):
    log = tmp_path / "hits"
    code = "from bitloot.core.faults import failpoint; failpoint('mail.sent'); print('went on')"
    environment = {**os.environ, "FAILPOINT": f"mail.sent:{action}", "FAILPOINT_LOG": str(log)}
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    child.returncode = 0  # waited for above
    if action == "kill9":
        assert os.WTERMSIG(status) == number
    else:
        assert os.WSTOPSIG(status) == number
        os.kill(child.pid, signal.SIGCONT)
        os.waitpid(child.pid, 0)
        assert child.stdout.read() == b"went on\n"
    child.stdout.close()
    assert log.read_text() == f"mail.sent:{action}\n"


def test_production_does_not_start_with_a_failpoint(tmp_path):
    environment = {**os.environ, "DEBUG": "0", "FAILPOINT": "mail.sent:kill9"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "FAILPOINT kills this process on purpose" in done.stderr


def test_every_action_is_documented():
    assert set(ACTIONS) == {"kill9", "stop", "sleep", "raise", "drop_db", "lose_commit"}


def test_chaos_draws_the_same_blows_and_runs_from_the_same_seed():
    from tools.chaos import schedule
    from tools.chaos.cells import BEHAVIOURS, FURTHER, PLACES, matrix

    assert schedule.fingerprint(7) == schedule.fingerprint(7) != schedule.fingerprint(8)
    assert matrix(7, quick=False) == matrix(7, quick=False) != matrix(8, quick=False)
    for quick in (True, False):
        cells = matrix(7, quick=quick)
        assert {cell.failpoint for cell in cells} == set(PLACES)
        assert {cell.behaviour for cell in cells} == set(BEHAVIOURS | FURTHER)
    assert len(matrix(7, quick=False)) >= 900

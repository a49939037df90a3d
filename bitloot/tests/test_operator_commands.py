"""check_providers and safe_mode, as an operator uses them, against the sandbox."""

import json
import re
import subprocess
import sys
from decimal import Decimal
from io import StringIO

import pytest
import responses
from django.conf import settings as store_settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models.functions import Now

from fulfillment import gate, kinguin, pipeline
from fulfillment.choices import HoldReason, Notice
from fulfillment.models import Reservation, SupplierGate
from orders.choices import AlertKind
from orders.models import Alert, Product
from orders.tests.factories import make_order, make_product
from payments import coins
from payments.models import Coin
from tools.dev.devenv import ROOT, process_environment

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def operator(monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "kim")


@pytest.fixture
def host():
    return kinguin.client().host


@pytest.fixture
def well(sandbox):
    """Both providers in order, money on the account, coins on offer."""
    sandbox.control("balance", {"balance": 500})
    coins.refresh()
    return sandbox


def run(*arguments):
    """Return what the command printed and, if it failed, what it complained of."""
    out, complaint = StringIO(), ""
    try:
        call_command(*arguments, stdout=out)
    except CommandError as err:
        complaint = str(err)
    return out.getvalue(), complaint


def problems():
    return [line.removeprefix("WRONG: ") for line in run("check_providers")[0].splitlines() if "WRONG" in line]


# --- check_providers ---


def test_providers_that_are_well(well, host):
    out, complaint = run("check_providers")
    assert complaint == ""
    nowpayments, supplier = out.splitlines()
    there = Coin.objects.count()
    assert re.fullmatch(
        rf"nowpayments \({re.escape(store_settings.NOWPAYMENTS_BASE_URL)}\) answers in \d+ ms;"
        rf" {there} coins on offer, {there} there\.",
        nowpayments,
    )
    assert re.fullmatch(
        rf"kinguin \({re.escape(store_settings.KINGUIN_BASE_URL)}\) answers in \d+ ms; balance 500 EUR; gate open\.",
        supplier,
    )


def test_providers_for_machines(well):
    out, complaint = run("check_providers", "--json")
    document = json.loads(out)
    assert complaint == ""
    assert (document["ok"], document["problems"]) == (True, [])
    assert document["providers"]["kinguin"]["reachable"] is True
    assert Decimal(document["providers"]["kinguin"]["balance"]) == 500
    assert document["providers"]["nowpayments"]["coins_on_offer"] == Coin.objects.count()


def test_problems_for_machines(well, host):
    gate.stop(host, reason="tests")
    out, complaint = run("check_providers", "--json")
    document = json.loads(out)
    assert complaint == "1 problems."
    assert document["ok"] is False
    assert document["problems"] == ["Purchases are stopped (tests); `manage.py safe_mode off` lets them leave."]


def test_a_payment_provider_that_fails(well):
    well.fault("nowpayments.status", "5xx_before")
    out, complaint = run("check_providers")
    assert complaint == "1 problems."
    assert out.startswith(f"nowpayments ({store_settings.NOWPAYMENTS_BASE_URL}) cannot be used.\n")
    assert "WRONG: NOWPayments: " in out


def test_a_supplier_that_fails(well):
    well.fault("kinguin.balance", "5xx_before")
    out, complaint = run("check_providers")
    assert complaint == "1 problems."
    assert f"kinguin ({store_settings.KINGUIN_BASE_URL}) cannot be used.\n" in out
    assert "WRONG: Kinguin: " in out


def test_a_supplier_without_credentials(well, settings):
    settings.KINGUIN_API_KEY = ""
    assert problems() == ["Kinguin: Set KINGUIN_API_KEY; docs/kinguin.md tells where to find it."]


def test_a_provider_without_coins_in_our_account(well):
    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        wire.add_passthru(store_settings.KINGUIN_BASE_URL)
        wire.get(f"{store_settings.NOWPAYMENTS_BASE_URL}/status", json={"message": "OK"})
        wire.get(f"{store_settings.NOWPAYMENTS_BASE_URL}/merchant/coins", json={"selectedCurrencies": []})
        wire.get(f"{store_settings.NOWPAYMENTS_BASE_URL}/full-currencies", json={"currencies": []})
        assert problems() == ["NOWPayments has no coin switched on in your account; choose some in its dashboard."]


def test_coins_that_no_worker_has_fetched(well):
    Coin.objects.all().delete()
    assert problems() == ["No coin is on offer in the shop yet; the worker fetches them, so check that it runs."]


def test_a_paused_gate(well, host):
    SupplierGate.objects.create(host=host)
    SupplierGate.objects.pause(reason="credentials", probe_at=Now())
    assert problems() == ["Purchases are paused (credentials); they resume automatically once the supplier is well."]


def test_the_environment_s_safe_mode(well, settings):
    settings.SAFE_MODE = True
    assert problems() == ["SAFE_MODE is set in the environment: nothing is bought until it is taken out."]


def test_a_balance_too_small_for_a_product(well):
    make_product(max_cost=Decimal("600.00"))
    assert problems() == [
        "The balance of 500 EUR does not cover the most expensive product (600 EUR); top it up at Kinguin."
    ]


def test_a_balance_too_small_for_orders_that_wait(well):
    make_order(make_product(max_cost=Decimal("70.00"), price=Decimal("80.00")), quantity=8).mark_paid(message="Paid.")
    assert problems() == [
        "The balance of 500 EUR does not cover what waiting orders may cost (560 EUR); top it up at Kinguin."
    ]


# --- safe_mode ---


def test_safe_mode_says_how_it_stands(host):
    assert run("safe_mode") == (f"The gate to {host} is open.\n", "")
    assert not SupplierGate.objects.exists()


def test_safe_mode_on_stops_purchases_and_tells_staff(well, host):
    make_order(make_product()).mark_paid(message="Paid.")
    out, complaint = run("safe_mode", "on", "--reason", "restoring a backup")
    assert complaint == ""
    assert re.fullmatch(
        rf"The gate to {host} is stopped since [-0-9: ]+ UTC \(safe mode by kim: restoring a backup\)\.\n", out
    )
    alert = Alert.objects.get(kind="safe_mode", about_pk=host, status="open")
    assert alert.message == (
        f"All purchases are stopped (safe mode by kim: restoring a backup). Nothing is bought at {host}; paid orders"
        " wait. `manage.py safe_mode off`, or “Open” on the supplier's gate, resumes them."
    )
    reservation = Reservation.objects.get()
    pipeline.advance(reservation.pk)
    reservation.refresh_from_db()
    assert (reservation.status, reservation.permits.count()) == ("pending", 0)


def test_safe_mode_on_once_more_keeps_the_reason_unless_it_is_given_another(host):
    run("safe_mode", "on", "--reason", "restoring a backup")
    assert "restoring a backup" in run("safe_mode", "on")[0]
    assert "moving house" in run("safe_mode", "on", "--reason", "moving house")[0]
    assert Alert.objects.filter(kind="safe_mode", message__contains="moving house").count() == 1


def test_safe_mode_off_lets_purchases_leave_and_says_who(host):
    run("safe_mode", "on")
    assert run("safe_mode", "off") == (f"The gate to {host} is open.\n", "")
    alert = Alert.objects.get(kind="safe_mode")
    assert (alert.status, alert.closed_by) == ("closed", "kim")
    assert SupplierGate.objects.get(pk=host).status == "open"


def test_a_gate_that_staff_open_in_the_admin_ends_safe_mode_s_alert_too(host):
    run("safe_mode", "on")
    gate.open_by_hand(SupplierGate.objects.get(pk=host), actor="ada")
    alert = Alert.objects.get(kind="safe_mode")
    assert (alert.status, alert.closed_by) == ("closed", "ada")
    SupplierGate.objects.filter(pk=host).pause(reason="unreachable", probe_at=Now())
    gate.unreachable(host)
    gate.open_by_hand(SupplierGate.objects.get(pk=host), actor="ada")
    assert not Alert.objects.filter(status="open").exists()


def test_safe_mode_off_ends_the_alert_of_an_outage_that_it_opens_too(host):
    SupplierGate.objects.create(host=host)
    SupplierGate.objects.pause(reason="unreachable", probe_at=Now())
    gate.unreachable(host)
    run("safe_mode", "on")
    run("safe_mode", "off")
    assert not Alert.objects.filter(status="open").exists()


def test_safe_mode_twice_is_one_alert(host):
    run("safe_mode", "on")
    run("safe_mode", "on", "--reason", "still")
    alert = Alert.objects.get()
    assert (alert.times, alert.message.split(".")[0]) == (2, "All purchases are stopped (safe mode by kim: still)")


def test_safe_mode_of_the_environment_wins(host, settings):
    settings.SAFE_MODE = True
    run("safe_mode", "on")
    sentence = "SAFE_MODE is set in the environment and wins: nothing is bought."
    out, complaint = run("safe_mode", "off")
    assert out == f"The gate to {host} is open.\n"
    assert complaint.startswith(sentence)
    out, complaint = run("safe_mode")
    assert (out.splitlines()[1].startswith(sentence), complaint) == (True, "")
    assert gate.find_open(kinguin.client()) is None


def test_safe_mode_shows_a_pause_that_ends_automatically(host):
    SupplierGate.objects.create(host=host)
    SupplierGate.objects.pause(reason="unreachable", probe_at=Now())
    assert run("safe_mode")[0] == (
        f"The gate to {host} is paused (unreachable); it opens automatically once the supplier can be used again.\n"
    )


def test_sudo_does_not_hide_who_it_was(host, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "ada")
    run("safe_mode", "on")
    assert "(safe mode by ada: no reason given)" in Alert.objects.get().message


# --- wrong calls ---


@pytest.mark.parametrize(
    "arguments",
    [("safe_mode", "maybe"), ("reconcile", "--order", "x"), ("rewrap_keys", "--batch", "-1"), ("seed", "--stff", "x")],
)
def test_a_wrong_call_exits_64(arguments):
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    assert caught.value.returncode == 64


def test_a_wrong_call_at_the_command_line_exits_64(tmp_path):
    environment = process_environment(tmp_path, port=8000, sandbox_port=8001)
    command = [sys.executable, "manage.py", "reconcile", "--since", "-1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "--since" in done.stderr
    assert "Traceback" not in done.stderr


def test_seed_is_for_development(settings):
    settings.DEBUG = False
    with pytest.raises(CommandError, match="seed is for development"):
        call_command("seed", "--staff", "evil", "--password", "password")
    assert not Product.objects.exists()


# --- the runbook ---


def test_the_runbook_explains_every_kind_of_alert_and_every_difference():
    runbook = (store_settings.BASE_DIR / "docs" / "runbook.md").read_text()
    known = set(re.findall(r"`([a-z_]+)`", runbook))
    assert kinds_in_the_code() - known == set()


# They say how a purchase ended or what an order kept; nobody is told about them by this name.
NOT_ALERTED = {HoldReason.CANCELED, HoldReason.REFUNDED, HoldReason.RETURNED, HoldReason.PARTLY_DELIVERED}


def kinds_in_the_code():
    from bitloot.accounting.checks import CHECKS
    from bitloot.accounting.provider_checks import MESSAGES

    raised = {*AlertKind.values, *Notice.values, *(reason for reason in HoldReason if reason not in NOT_ALERTED)}
    return raised | set(MESSAGES) | {check.kind for check in CHECKS}

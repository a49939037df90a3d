"""Our balance at the supplier: looked at now and then, and before a purchase that it may not cover."""

from decimal import Decimal

import pytest

from fulfillment import balance, gate, kinguin
from fulfillment.models import Reservation, SupplierGate
from fulfillment.tasks import watch_funds
from fulfillment.tests.world import finish, paid, posts, run
from orders.models import Alert, Email

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]


def seen_balance(amount):
    gate.keep_balance(kinguin.client(), Decimal(amount))


def test_a_balance_too_low_for_what_is_sold_is_told_once_and_closed_by_a_top_up(product, sandbox, settings):
    settings.STAFF_EMAIL = ("staff@shop.example",)
    sandbox.control("balance", {"balance": 8})
    for _ in range(2):
        watch_funds()
    alert = Alert.objects.get(kind="low_balance")
    assert [alert.status, alert.times, Email.objects.filter(kind="alert").count()] == ["open", 2, 1]
    assert (
        alert.message
        == "The balance of 8 EUR does not cover the most expensive product (8.5 EUR); top it up at Kinguin."
    )
    sandbox.control("balance", {"balance": 9})
    watch_funds()
    alert.refresh_from_db()
    assert [alert.status, SupplierGate.objects.get().balance] == ["closed", Decimal("9.00")]


def test_a_balance_too_low_for_paid_orders_that_wait(product, sandbox):
    paid((product, 2))
    assert balance.shortage(Decimal(17)) == ""
    assert "does not cover what waiting orders may cost (17 EUR)" in balance.shortage(Decimal("16.99"))


def test_a_balance_that_no_column_holds_is_none(product, sandbox):
    sandbox.control("balance", {"balance": 10**12})
    seen_balance(5)
    watch_funds()
    assert SupplierGate.objects.get().balance == Decimal("5.00")


def test_a_supplier_that_does_not_answer_changes_nothing(product, sandbox):
    seen_balance(5)
    sandbox.fault("kinguin.balance", "5xx_before")
    watch_funds()
    assert [SupplierGate.objects.get().balance, Alert.objects.count()] == [Decimal("5.00"), 0]


def test_nothing_is_sent_that_the_balance_does_not_cover(reservation, product, sandbox):
    sandbox.control("balance", {"balance": "8.49"})
    seen_balance("8.49")
    run(reservation)
    assert [reservation.status, reservation.reason, posts(sandbox, reservation)] == ["held", "no_funds", []]
    assert reservation.permits.count() == 0
    assert "It has 8.49 EUR, 8.50 may be needed." in reservation.last_error
    assert Alert.objects.get(kind="reservation").times == 1
    assert SupplierGate.objects.get().status == "open"
    sandbox.control("balance", {"balance": "8.50"})
    finish(reservation)


def test_an_old_figure_does_not_stop_a_purchase_after_a_top_up(reservation, sandbox):
    seen_balance(1)
    finish(reservation)
    assert SupplierGate.objects.get().balance == Decimal("100000.00")


def test_a_balance_that_was_never_seen_is_not_asked_for(reservation, sandbox):
    before = len(sandbox.ledger())
    sandbox.fault("kinguin.balance", "5xx_before")
    finish(reservation)
    assert SupplierGate.objects.get().balance is None
    assert len(sandbox.ledger()) > before
    assert Reservation.objects.get().status == "delivered"


# --- purchases that are stopped ---


def open_alerts():
    return [(alert.kind, alert.message, alert.times) for alert in Alert.objects.filter(status="open")]


def test_staff_hear_of_purchases_that_are_stopped_in_the_admin(product):
    host = kinguin.client().host
    gate.stop_by_hand(SupplierGate.objects.create(host=host), actor="ada")
    watch_funds()
    ((kind, message, times),) = open_alerts()
    assert (kind, times) == ("safe_mode", 1)
    assert message.startswith(f"All purchases are stopped (stopped by ada). Nothing is bought at {host}; paid")
    gate.open_by_hand(SupplierGate.objects.get(), actor="ada")
    assert open_alerts() == []


def test_staff_hear_of_the_environment_s_safe_mode_until_it_is_taken_out(product, settings):
    settings.SAFE_MODE = True
    for _ in range(2):
        watch_funds()
    ((kind, message, times),) = open_alerts()
    assert (kind, times) == ("safe_mode", 1)
    assert message.startswith("SAFE_MODE is set in the environment. Nothing is bought")
    settings.SAFE_MODE = False
    watch_funds()
    assert open_alerts() == []
    assert Alert.objects.get().closed_by == "automatic: purchases leave again"


def test_an_alert_that_was_closed_while_purchases_are_stopped_opens_again(product):
    gate.stop(kinguin.client().host, reason="tests")
    Alert.objects.update(status="closed")
    watch_funds()
    assert [kind for kind, *_ in open_alerts()] == ["safe_mode"]


def test_the_alert_names_the_switch_once_the_environment_lets_purchases_leave(product, settings):
    gate.stop(kinguin.client().host, reason="a backup was restored")
    settings.SAFE_MODE = True
    watch_funds()
    settings.SAFE_MODE = False
    watch_funds()
    ((_, message, _),) = open_alerts()
    assert message.startswith("All purchases are stopped (a backup was restored).")

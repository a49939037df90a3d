"""The drill of docs/runbook.md: a backup of before the purchase comes back, and the key is not bought a second time."""

import json
import subprocess
import sys

import pytest

from bitloot.tests.services import EMBEDDED, Sandbox, Store, free_port, own_store
from bitloot.tests.shopper import Shopper
from tools.dev.devenv import ROOT

pytestmark = [pytest.mark.chaos]
STORE_PARTS = ("web", "worker", "beat")
OPTIONS = {
    "CLOCK_SCALE": "20",
    "THROTTLE_SCALE": "0",
    "BACKUP_SECRET": "Zq3vX8_bNw1mK7-tYr5cJ0hGdLs2PfUeA9iOxV4kQ6B",
}


@pytest.fixture
def store(tmp_path):
    with own_store(tmp_path / "store", **OPTIONS) as running:
        yield running


def command(store, *arguments):
    """Return the exit code and what was printed."""
    run = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(run, cwd=ROOT, env=store.env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def reconcile(store, *options):
    code, out = command(store, "reconcile", "--ask", "--json", *options)
    return code, json.loads(out)


@pytest.mark.timeout(600)
def test_a_restored_backup_buys_nothing_again(store):
    shopper, sandbox = Shopper(store.url), Sandbox(store.sandbox_url)
    early = buy(shopper, sandbox)
    shopper.wait_fulfilled(early)
    shopper.wait(lambda: reconcile(store)[0] == 0, "books that balance")
    assert json.loads(store.manage("check_providers", "--json"))["ok"] is True

    # Paid, but not bought yet: the moment of the backup.
    order = shopper.order()
    payment = shopper.payment(order)  # now: while purchases are stopped nobody is given an address
    store.manage("safe_mode", "on", "--reason", "the drill")
    sandbox.pay(payment["payment_id"])
    shopper.wait(lambda: shopper.read(order)["status"] == "paid", "the payment")
    shopper.wait(lambda: reconcile(store)[0] == 0, "books that balance")
    store.manage("backup")
    store.manage("safe_mode", "off")
    shopper.wait_fulfilled(order)
    purchases = sandbox.ledger("order_received")
    assert len(purchases) == 2

    # The database is lost and comes back as it was. The providers know more than it does.
    for part in STORE_PARTS:
        store.kill9(part)
    restored = Store(
        store.var, port=free_port(), sandbox_port=store.sandbox_port, SAFE_MODE="1", **OPTIONS, **EMBEDDED
    )  # fmt: skip
    code, out = command(restored, "restore", "latest", "--yes")
    assert code == 1
    assert "DIFFERENCE bought_unknown_to_us" in out
    restored.parts.pop("sandbox")
    try:
        restored.start()
        assert adopted(restored, Shopper(restored.url), order)
    finally:
        restored.stop()
    assert sandbox.ledger("order_received") == purchases


def buy(shopper, sandbox):
    order = shopper.order()
    sandbox.pay(shopper.payment(order)["payment_id"])
    return order


def adopted(store, shopper, order):
    """`restore` marked the purchase; the worker finds and adopts it, and the books balance."""
    shopper.wait_fulfilled(order)
    code, document = reconcile(store)
    assert (code, document["differences"], document["not_asked"]) == (0, [], [])
    return len(shopper.open_keys(order)) == 1

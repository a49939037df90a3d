"""The drill of docs/runbook.md: a backup of before the purchase comes back, and the key is not bought a second time."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from bitloot.tests.services import EMBEDDED, Sandbox, Store, free_port, own_store
from bitloot.tests.shopper import Shopper
from tools.dev.devenv import ROOT

pytestmark = [pytest.mark.chaos]
STORE_PARTS = ("web", "worker", "beat")


@pytest.fixture
def store(tmp_path):
    with own_store(tmp_path / "store", CLOCK_SCALE="20", THROTTLE_SCALE="0") as running:
        yield running


def reconcile(store, *options):
    """Return the exit code and the document."""
    command = [sys.executable, "manage.py", "reconcile", "--ask", "--json", *options]
    done = subprocess.run(command, cwd=ROOT, env=store.env, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def kinds(document):
    return [difference["kind"] for difference in document["differences"]]


@pytest.mark.timeout(600)
def test_a_restored_backup_buys_nothing_again(store):
    shopper, sandbox = Shopper(store.url), Sandbox(store.sandbox_url)
    early = buy(shopper, sandbox)
    shopper.wait_fulfilled(early)
    shopper.wait(lambda: reconcile(store)[0] == 0, "books that balance")
    assert json.loads(store.manage("check_providers", "--json"))["ok"] is True

    # Paid, but not bought yet: the moment of the backup.
    store.manage("safe_mode", "on", "--reason", "the drill")
    order = buy(shopper, sandbox)
    shopper.wait(lambda: shopper.read(order)["status"] == "paid", "the payment")
    shopper.wait(lambda: reconcile(store)[0] == 0, "books that balance")
    backup = store.var / "backup.sqlite3"
    back_up(store.var / "bitloot.sqlite3", backup)
    store.manage("safe_mode", "off")
    shopper.wait_fulfilled(order)
    purchases = sandbox.ledger("order_received")
    assert len(purchases) == 2

    # The database is lost and comes back as it was. The providers know more than it does.
    for part in STORE_PARTS:
        store.kill9(part)
    restored = Store(
        store.var,
        port=free_port(),
        sandbox_port=store.sandbox_port,
        SAFE_MODE="1",
        CLOCK_SCALE="20",
        THROTTLE_SCALE="0",
        **EMBEDDED,
    )
    for lost in store.var.glob("bitloot.sqlite3*"):
        lost.unlink()
    shutil.copyfile(backup, store.var / "bitloot.sqlite3")
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


def back_up(source, target):
    with closing(sqlite3.connect(source)) as readable, closing(sqlite3.connect(target)) as writable:
        readable.backup(writable)


def adopted(store, shopper, order):
    """Follow the runbook to its end."""
    code, document = reconcile(store)
    assert (code, kinds(document)) == (1, ["bought_unknown_to_us"])
    assert document["differences"][0]["order"] == order["id"]
    assert shopper.read(order)["status"] == "paid"
    code, document = reconcile(store, "--adopt")
    assert (code, kinds(document)) == (1, ["bought_unknown_to_us"])
    shopper.wait_fulfilled(order)
    code, document = reconcile(store)
    assert (code, document["differences"], document["not_asked"]) == (0, [], [])
    return len(shopper.open_keys(order)) == 1

"""`prune`, `backup` and `rotate_keys` killed at their worst moment, and simply run again: over a copy of the rows."""

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from bitloot.tests.services import EMBEDDED, free_port
from storage.tests.factories import make_key
from tools.dev.devenv import ROOT, process_environment
from webhooks.models import WebhookLog
from webhooks.tests.factories import ipn, make_log

pytestmark = [pytest.mark.chaos, pytest.mark.once, pytest.mark.django_db(transaction=True)]
NEW_SECRET = "Zq3vX8_bNw1mK7-tYr5cJ0hGdLs2PfUeA9iOxV4kQ6B"
KILLED = -9


class Shop:
    """The test's rows in a database of their own, and commands over it."""

    def __init__(self, var, **options):
        self.var = var
        secrets = {"KEY_ENCRYPTION_SECRET": settings.KEY_ENCRYPTION_SECRET, "BACKUP_SECRET": NEW_SECRET[::-1]}
        ports = {"port": free_port(), "sandbox_port": free_port()}
        self.env = process_environment(var, **ports, **{**EMBEDDED, **secrets, **options})
        with closing(self.database()) as copy:
            connection.ensure_connection()
            connection.connection.backup(copy)

    def database(self):
        return sqlite3.connect(self.var / "bitloot.sqlite3")

    def value(self, sql):
        with closing(self.database()) as copy:
            return copy.execute(sql).fetchone()[0]

    def run(self, *arguments, kill_at="", code=0):
        """Run a command, and return the document that it printed."""
        command = [sys.executable, "manage.py", *arguments, "--json"]
        env = self.env | {"FAILPOINT": kill_at}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout else None


def test_prune_goes_on_where_it_was_killed(tmp_path):
    for number in range(5):
        make_log(body=ipn(payment_id=number))
    WebhookLog.objects.update(status="processed", next_attempt_at=None, received_at=Now() - timedelta(days=91))
    shop, prune = Shop(tmp_path), ("prune", "--only", "webhook_bodies", "--batch", "2")
    shop.run(*prune, kill_at="prune.forgotten:kill9:2", code=KILLED)
    # The first batch is forgotten; the second, which was not committed, is whole.
    assert shop.value("SELECT count(*) FROM webhooks_webhooklog WHERE length(body) > 0") == 3
    assert [shop.run(*prune)["pruned"]["webhook_bodies"]["rows"] for _ in range(2)] == [3, 0]


def test_a_rotation_goes_on_where_it_was_killed_and_every_key_opens_meanwhile(tmp_path):
    for _ in range(5):
        make_key()
    secrets = {"KEY_ENCRYPTION_SECRET_FALLBACKS": settings.KEY_ENCRYPTION_SECRET, "KEY_ENCRYPTION_SECRET": NEW_SECRET}
    shop, rotate = Shop(tmp_path, **secrets), ("rotate_keys", "--batch", "2", "--verify")
    shop.run(*rotate, kill_at="keys.rewrapped:kill9:2", code=KILLED)
    seen = shop.run(*rotate, "--dry-run", code=1)  # 1: the earlier secret may not go yet
    assert (sum(seen["left"].values()), seen["closed"]) == (3, [])
    assert [shop.run(*rotate)["rotated"] for _ in range(2)] == [3, 0]


def test_a_backup_that_was_killed_costs_no_older_one(tmp_path):
    shop = Shop(tmp_path, BACKUP_KEEP="1")
    older = shop.run("backup")["name"]
    shop.run("backup", kill_at="backup.stored:kill9", code=KILLED)
    kept = sorted(path.name for path in (tmp_path / "backups").iterdir())
    assert (kept[0], len(kept)) == (older, 2)  # the new one was not read back yet
    time.sleep(1)  # a name is a second
    newest = shop.run("backup")
    assert sorted(newest["removed"]) == kept
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [newest["name"]]

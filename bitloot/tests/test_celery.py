"""The worker as Celery starts it: which pool it takes, and how the embedded store works without a broker."""

import gc
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from django.apps import apps
from django.conf import settings

from bitloot import celery
from bitloot.tests.services import wait_until
from tools.dev.devenv import ROOT


def run_celery(*options, log):
    command = [sys.executable, "-m", "celery", "-A", "bitloot", *options]
    environment = os.environ | {
        "BITLOOT_VAR": str(settings.VAR_DIR),
        "BITLOOT_ENV_FILE": str(settings.VAR_DIR / "dev.env"),
    }
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


def test_collector_that_was_off_for_the_start_is_on_once_the_apps_are_ready():
    gc.disable()
    try:
        apps.get_app_config("bitloot").ready()
        assert gc.isenabled()
    finally:
        gc.enable()


def test_another_pool_is_refused_with_a_sentence(tmp_path):
    with (tmp_path / "log").open("w") as log, run_celery("worker", "-P", "solo", log=log) as process:
        try:
            assert process.wait(timeout=60) == 1
        finally:
            process.kill()
    assert "pool “threads” only: start it without -P" in (tmp_path / "log").read_text()


def running():
    """Return the parent of each process that runs, by its id; not of those that ended and nobody has asked for."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(stat.parent.name)] = int(parent)
    return parents


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_worker_with_embedded_beat_starts_and_ends(tmp_path):
    schedule = tmp_path / "schedule"
    with (tmp_path / "log").open("w") as log, run_celery("worker", "-B", "--schedule", schedule, log=log) as process:
        try:
            wait_until(lambda: [*tmp_path.glob("schedule*")], seconds=60, what="beat's first look")
            beat = {pid for pid, parent in running().items() if parent == process.pid}
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            # There are no tables here, so it is stopped while it waits for them; beat must stop with it.
            assert beat
            wait_until(lambda: not beat & running().keys(), seconds=30, what="the end of beat")
        finally:
            process.kill()


def test_without_a_broker_beat_runs_its_tasks_itself():
    if settings.REDIS_URL:
        pytest.skip("this run has a broker")
    assert celery.app.conf.task_always_eager


@pytest.mark.redis
def test_broker_forgets_a_wakeup_once_it_was_taken(settings):
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    with celery.app.connection_for_write() as connection:
        celery.app.send_task("orders.drain", connection=connection)
        consumer, taken = celery.app.amqp.TaskConsumer(connection), []
        consumer.register_callback(lambda body, message: taken.append(message))
        consumer.consume()
        connection.drain_events(timeout=5)
        assert [len(taken), client.keys("unacked*")] == [1, []]

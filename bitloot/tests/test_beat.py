import json
import os
import subprocess
import sys

import pytest

from bitloot.celery import app
from tools.dev.devenv import ROOT


@pytest.mark.django_db  # from 6.1 on Django's checks ask the database what it can
def test_beat_knows_the_timetable_and_loads_none_of_our_apps():
    """Fails if bitloot/__init__.py imports the worker's app again: beat then takes twice its memory."""
    code = (
        "import json, sys\n"
        "from bitloot.beat import app\n"
        "app.loader.init_worker()\n"
        "from django.apps import apps\n"
        "heavy = [name for name in ('orders.models', 'rest_framework', 'boto3') if name in sys.modules]\n"
        "print(json.dumps([sorted(entry['task'] for entry in app.conf.beat_schedule.values()), apps.ready, heavy]))"
    )
    environment = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    tasks, ready, heavy = json.loads(done.stdout)
    assert [ready, heavy] == [False, []]
    app.loader.import_default_modules()
    assert tasks
    assert set(tasks) <= set(app.tasks)


def test_beat_without_a_broker_runs_the_tasks_and_so_knows_them():
    code = (
        "from bitloot.beat import app\n"
        "app.loader.init_worker()\n"
        "assert {entry['task'] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


def test_nothing_of_r2_is_loaded_by_a_store_without_a_bucket():
    code = "import django, sys; django.setup(); import bitloot.urls; print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

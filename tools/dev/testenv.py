"""The environment of a test run, made before Django's settings are read: a pytest plugin named in pytest.ini.

Each run, and each of its parallel processes, has a `var` folder, a database and a Redis database of its own.
"""

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

from tools.dev.devenv import ROOT, contract_variables, write_environment
from tools.dev.supervise import free_port

FOLDER = "BITLOOT_TEST_FOLDER"
# What a run is told from outside (tools/dev/test.py); everything else of the contract comes from var/…/dev.env.
DATABASE, REDIS = os.environ.get("TEST_DATABASE_URL", ""), os.environ.get("TEST_REDIS_URL", "")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")


def _prepare() -> None:
    for name in contract_variables():
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    if FOLDER not in os.environ:
        (ROOT / "var" / "test").mkdir(parents=True, exist_ok=True)
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="run-", dir=ROOT / "var" / "test")
        # With the process, not with pytest: a mutation tester calls pytest several times in one process.
        atexit.register(shutil.rmtree, os.environ[FOLDER], ignore_errors=True)
    var = Path(os.environ[FOLDER]) / (WORKER or "main")
    os.environ["BITLOOT_VAR"] = str(var)
    # Nobody listens on the store's port: a webhook that the sandbox sends late finds no test but the one it is for.
    port, sandbox_port = free_port(), free_port()
    os.environ["DJANGO_LIVE_TEST_SERVER_ADDRESS"] = "127.0.0.1:0"
    os.environ["BITLOOT_ENV_FILE"] = str(write_environment(var, port=port, sandbox_port=sandbox_port))
    os.environ["DJANGO_SETTINGS_MODULE"] = "bitloot.settings"
    os.environ["THROTTLE_SCALE"] = "0"
    if DATABASE:
        os.environ["DATABASE_URL"] = DATABASE
    if REDIS:
        os.environ["REDIS_URL"] = _own_redis_database(REDIS)


def _own_redis_database(url: str) -> str:
    base, _, number = url.rpartition("/")
    # Two for each process: broker and cache.
    return f"{base}/{int(number) + 2 * int(WORKER.removeprefix('gw') or 0)}"


gc.disable()  # until the apps are ready: see bitloot/apps.py
_prepare()
# Part of the name of the PostgreSQL database; pytest-django adds the parallel process.
RUN = Path(os.environ[FOLDER]).name.removeprefix("run-")

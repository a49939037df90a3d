"""Real processes for tests: the sandbox, whole stores, PostgreSQL, Redis and nginx, all on loopback."""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tools.dev import node
from tools.dev.devenv import process_environment
from tools.dev.services import Missing, Nginx, Postgres, PostgresReplica, Redis, RedisGroup, find_program
from tools.dev.supervise import Process, StartFailed, Store, answers, free_port, wait_until
from tools.dev.testenv import FOLDER

__all__ = [
    "Missing", "Nginx", "Postgres", "PostgresReplica", "Process", "Redis", "RedisGroup", "Sandbox", "StartFailed",
    "Store", "answers", "free_port", "missing_for", "running_sandbox", "wait_until",
]  # fmt: skip

EMBEDDED = {"DATABASE_URL": "", "REDIS_URL": ""}
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PROGRAMS = {
    "nginx": (("nginx", "nginx-light"),),
    "node": (("node", "nodejs"),),
    "browser": (("chromium", "chromium"), ("chromedriver", "chromium-driver")),
    "broker": (("redis-server", "redis-server"),),
    "replica": (("initdb", "postgresql"), ("pg_basebackup", "postgresql-client")),
    "production": (("initdb", "postgresql"), ("redis-server", "redis-server"), ("nginx", "nginx-light")),
}


class Sandbox:
    """A client of the sandbox's control interface."""

    def __init__(self, url: str) -> None:
        self.url = url

    def control(self, path: str, body: Any = None) -> Any:
        """GET /control/{path}, or POST it if there is a body; return the JSON of the answer."""
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/control/{path}", data=sent, headers=headers)
        with DIRECT.open(request, timeout=60) as answer:
            return json.load(answer)

    def pay(self, payment_id: str, mode: str = "exact", **options: Any) -> Any:
        return self.control(f"payments/{payment_id}/pay", {"mode": mode, **options})

    def sold(self) -> list[dict[str, Any]]:
        return self.control("sold")["sold"]

    def ledger(self, what: str = "") -> list[dict[str, Any]]:
        """Return every line of the ledger, or those of one kind, oldest first."""
        lines: list[dict[str, Any]] = []
        kind = f"&what={what}" if what else ""
        while page := self.control(f"ledger?after={lines[-1]['id'] if lines else 0}{kind}")["ledger"]:
            lines += page
        return lines

    def fault(self, op: str, fault: str, **options: Any) -> Any:
        return self.control("faults", {"op": op, "fault": fault, **options})

    def calm(self) -> None:
        """Take every fault rule back."""
        self.control("faults/clear", {})


@contextlib.contextmanager
def running_sandbox(var: Path, *, port: int, store_url: str, **options: Any) -> Iterator[Sandbox]:
    """Serve a sandbox with the secrets of the settings of this process until the block ends."""
    config = {
        "kinguin_api_key": settings.KINGUIN_API_KEY,
        "kinguin_client_id": settings.KINGUIN_CLIENT_ID,
        "kinguin_client_secret": settings.KINGUIN_CLIENT_SECRET,
        "kinguin_webhook_secret": settings.KINGUIN_WEBHOOK_SECRET[0],
        "nowpayments_api_key": settings.NOWPAYMENTS_API_KEY,
        "nowpayments_ipn_secret": settings.NOWPAYMENTS_IPN_SECRET[0],
        "port": port,
        "db": str(var / "sandbox.sqlite3"),
        "store_url": store_url,
        **options,
    }
    environment = process_environment(var, port=port, sandbox_port=port, BITLOOT_SANDBOX_CONFIG=json.dumps(config))
    process = Process("sandbox", [sys.executable, "-m", "sandbox"], env=environment, log=var / "sandbox.log")
    process.start()
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/control/state"), seconds=120, what="the sandbox's start")
        yield Sandbox(f"http://127.0.0.1:{port}")
    finally:
        process.stop()


def missing_for(marker: str) -> str:
    """Return what a test with this marker lacks here; nothing if it can run."""
    if marker == "postgres" and not settings.DATABASE_URL:
        return "no PostgreSQL in this run: use `make test`, or put `python -m tools.dev.services` before the command"
    if marker == "redis" and not settings.REDIS_URL:
        return "no Redis in this run: use `make test`, or put `python -m tools.dev.services` before the command"
    if marker == "npm":
        return node.missing()
    try:
        for name, package in PROGRAMS.get(marker, ()):
            find_program(name, package)
    except Missing as err:
        return str(err)
    return ""


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def require(marker: str) -> None:
    """Skip the running test, or fail it in CI, if what it needs is missing."""
    if why := missing_for(marker):
        # Node's packages come from a registry of their own, which CI may not reach.
        (pytest.fail if in_ci() and marker != "npm" else pytest.skip)(why)


def prepare(store: Store) -> None:
    store.manage("migrate", "--verbosity", "0")
    store.seed()


@functools.cache
def ready_database() -> Path:
    """Return the embedded database as prepare() leaves it, made once in a test run: that is half of a store's start."""
    folder = Path(os.environ[FOLDER]) / "ready"
    folder.mkdir(exist_ok=True)
    database = folder / "bitloot.sqlite3"
    # The parallel processes of the run share the folder; the first one makes the file.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            making = Store(folder / "making", port=free_port(), sandbox_port=free_port(), **EMBEDDED)
            prepare(making)
            (making.var / database.name).rename(database)
    return database


@contextlib.contextmanager
def own_store(folder: Path, **options: Any) -> Iterator[Store]:
    """Start a whole store with its sandbox over `folder`, migrated and seeded; end all of it with the block.

    It is the embedded one unless it is told otherwise, whatever the tests themselves run on.
    """
    store = Store(folder, port=free_port(), sandbox_port=free_port(), **{**EMBEDDED, **options})
    if options.get("DATABASE_URL"):
        prepare(store)
    else:
        shutil.copy2(ready_database(), store.var)
    try:
        store.start()
        yield store
    finally:
        store.stop()

"""The measured BitLoot: PostgreSQL, Redis, granian, one worker, beat and the sandbox, as processes with DEBUG off."""

import contextlib
import json
import os
import secrets
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tools.bench import mailsink
from tools.bench.cpu import Meter, memory
from tools.dev.services import Postgres, Redis
from tools.dev.supervise import Process, Store, free_port, wait_until, web_command

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# What production has; the rest of its environment is made up by tools/dev/devenv.py.
PRODUCTION = {
    "DEBUG": "0",
    "ALLOWED_HOSTS": "127.0.0.1",
    "TRUSTED_PROXIES": "1",
    "LOG_LEVEL": "WARNING",
    # On, because it costs something, and never the limit: that is what is measured.
    "NOWPAYMENTS_CALLS_PER_SECOND": "1000",
    "KINGUIN_CALLS_PER_SECOND": "1000",
}

_PASSWORD = secrets.token_urlsafe(16)
_ANYWHERE = "0.0.0.0"  # noqa: S104 - for the other host, while it is measured
_REACHED = ("--bind", _ANYWHERE, "--requirepass", _PASSWORD)


class Stack:
    """All of BitLoot on loopback: `web` and `sandbox` run all the time, worker and beat when they are wanted."""

    def __init__(
        self, folder: Path, services: ExitStack, *, web_workers: int, web_threads: int, tcp: bool, everywhere: bool
    ) -> None:
        reached = ("listen_addresses=*", f"hba_file={_anybody(folder)}") if everywhere else ()
        self.postgres = services.enter_context(
            Postgres(settings=("synchronous_commit=on", "max_connections=100", *reached))
        )
        # A Redis that other hosts reach has to have a password.
        self.redis = services.enter_context(Redis(options=_REACHED if everywhere else ()))
        port, sandbox_port = free_port(), free_port()
        database = self.postgres.url if tcp else self.postgres.socket_url
        redis = self.redis.url.replace("//", f"//:{_PASSWORD}@") if everywhere else self.redis.url
        overrides = {"DATABASE_URL": database, "REDIS_URL": redis, **PRODUCTION}
        address = _ANYWHERE if everywhere else "127.0.0.1"
        overrides["EMAIL_URL"] = f"smtp://127.0.0.1:{services.enter_context(mailsink.listening(address))}"
        self.store = Store(folder, port=port, sandbox_port=sandbox_port, **overrides)
        self.port, self.host = port, f"127.0.0.1:{port}"
        self.parts = self.store.parts
        self.parts["web"].command = web_command(port, workers=web_workers, threads=web_threads)
        self.settings = _read_env(folder / "dev.env") | self.store.env
        self.parts["sandbox"] = self._sandbox(folder, sandbox_port, address)
        services.callback(self.store.stop)

    def start(self) -> None:
        self.store.manage("migrate", "--verbosity", "0")
        self.store.manage("collectstatic", "--no-input", "--verbosity", "0")
        self.store.seed()
        for name in ("web", "sandbox"):
            self.store.start_part(name)
        self.store.wait_ready()

    def meter(self) -> Meter:
        """Measure web and PostgreSQL, and the worker if it runs; never the sandbox, Redis or the load generator."""
        counted = [self.postgres.process.pid, self.parts["web"].pid]
        if self.parts["worker"].alive:
            counted.append(self.parts["worker"].pid)
        return Meter(counted)

    def idle_memory(self) -> dict[str, float]:
        return {name: memory(self.parts[name].pid) for name in ("web", "worker", "beat")}

    def worker_meter(self) -> Meter:
        return Meter([self.parts["worker"].pid])

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """Run one worker process and beat for the block."""
        for name in ("worker", "beat"):
            self.store.start_part(name)
        _pin(self.parts["worker"].pid)
        try:
            wait_until(self._worker_answers, seconds=60, what="the worker's start")
            yield
        finally:
            for name in ("beat", "worker"):
                self.parts[name].stop()

    @contextlib.contextmanager
    def redis_stopped(self) -> Iterator[None]:
        self.redis.kill9()
        try:
            yield
        finally:
            self.redis.start()

    def sandbox(self, path: str, body: Any) -> Any:
        """POST to the sandbox's control interface."""
        headers = {"Content-Type": "application/json"}
        url, sent = f"{self.store.sandbox_url}/control/{path}", json.dumps(body).encode()
        with DIRECT.open(urllib.request.Request(url, sent, headers), timeout=30) as answer:
            return json.load(answer)

    def sells_for_coins(self) -> bool:
        with DIRECT.open(f"{self.store.url}/api/payments/currencies", timeout=10) as answer:
            return b'"code"' in answer.read()

    def _worker_answers(self) -> bool:
        return "ready." in self.parts["worker"].tail(200) or self.sells_for_coins()

    def _sandbox(self, folder: Path, port: int, address: str) -> Process:
        names = ("kinguin_api_key", "kinguin_client_id", "kinguin_client_secret", "kinguin_webhook_secret")
        names += ("nowpayments_api_key", "nowpayments_ipn_secret")
        config = {name: self.settings[name.upper()] for name in names}
        config |= {"host": address, "port": port, "db": str(folder / "sandbox.sqlite3"), "store_url": self.store.url}
        config |= {"deliver_after_ms": 0, "step_ms": 0}
        environment = self.store.env | {"BITLOOT_SANDBOX_CONFIG": json.dumps(config)}
        command = [sys.executable, "-m", "sandbox"]
        return Process("sandbox", command, env=environment, log=folder / "logs" / "sandbox.log")


def _anybody(folder: Path) -> Path:
    """Return a file that lets everybody into PostgreSQL: it is gone when the measurement ends."""
    rules = folder / "pg_hba.conf"
    rules.write_text("local all all trust\nhost all all 0.0.0.0/0 trust\n")
    folder.chmod(0o755)  # PostgreSQL runs as another user
    return rules


def _pin(pid: int) -> None:
    """Keep a process that has just begun on one CPU, as docs/performance.md advises for the worker."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})


@contextlib.contextmanager
def running_stack(
    *, web_workers: int, web_threads: int, tcp: bool = False, everywhere: bool = False
) -> Iterator[Stack]:
    """Start everything on free ports, in a folder of its own; nothing is left afterwards.

    `everywhere`: what a worker needs is reached from other hosts as well.
    """
    with ExitStack() as services:
        folder = Path(services.enter_context(tempfile.TemporaryDirectory(prefix="bitloot-bench-")))
        workers = {"web_workers": web_workers, "web_threads": web_threads}
        stack = Stack(folder, services, **workers, tcp=tcp, everywhere=everywhere)
        stack.start()
        yield stack


def address() -> str:
    """Return an address nobody has: each customer of the measurement comes from one of their own."""
    return f"10.{secrets.randbelow(256)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"


def _read_env(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def use_settings(stack: Stack) -> None:
    """Let this process read the measured database through BitLoot's own models."""
    os.environ.update(stack.store.env)
    import django

    django.setup()

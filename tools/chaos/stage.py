"""What a chaos run stands on: a PostgreSQL and a Redis of its own, never the host's, and sandboxes."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.chaos.control import Control
from tools.dev.devenv import ROOT, process_environment
from tools.dev.services import Postgres
from tools.dev.supervise import Process, StartFailed, answers, free_port, wait_until

# A killed process of ours loses nothing that PostgreSQL has; only a power cut would, and there is none here.
FAST = ("fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=64MB")
LANES = 2


@dataclass
class Lane:
    number: int
    folder: Path
    environment: dict[str, str]
    sandbox: Process
    control: Control


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="bitloot-chaos-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def lanes(root: Path, postgres: Postgres, *, seed: int) -> Iterator[list[Lane]]:
    """Start a sandbox per lane; each lane has a database and a var folder of its own."""
    made: list[Lane] = []
    try:
        for number in range(LANES):
            made.append(_lane(root / f"lane{number}", number, postgres, seed))
        yield made
    finally:
        for lane in made:
            lane.sandbox.stop()


def fresh_databases(made: list[Lane], postgres: Postgres) -> None:
    """Give every lane an empty, migrated and seeded database, copied from one that was made once."""
    template = postgres.url_of("template_chaos")
    if not _sql(postgres, "SELECT 1 FROM pg_database WHERE datname = 'template_chaos'"):
        _sql(postgres, "CREATE DATABASE template_chaos")
        for command in (["migrate", "--verbosity", "0"], ["seed"]):
            manage({**made[0].environment, "DATABASE_URL": template}, *command)
    for lane in made:
        name = f"lane{lane.number}"
        _sql(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        _sql(postgres, f"CREATE DATABASE {name} TEMPLATE template_chaos")


def manage(environment: dict[str, str], *arguments: str) -> str:
    """Run a management command; raises StartFailed with its output if it fails."""
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartFailed(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _lane(var: Path, number: int, postgres: Postgres, seed: int) -> Lane:
    port, sandbox_port = free_port(), free_port()
    environment = process_environment(
        var,
        port=port,
        sandbox_port=sandbox_port,
        DATABASE_URL=postgres.url_of(f"lane{number}"),
        LOG_LEVEL="CRITICAL",
        THROTTLE_SCALE="0",
    )
    environment.pop("REDIS_URL", None)
    sandbox = _sandbox(var, environment, port, sandbox_port, seed)
    return Lane(number, var, environment, sandbox, Control(f"http://127.0.0.1:{sandbox_port}"))


def _sandbox(var: Path, environment: dict[str, str], port: int, sandbox_port: int, seed: int) -> Process:
    command = [sys.executable, "-m", "sandbox", "--port", str(sandbox_port), "--seed", str(seed)]
    command += ["--store-url", f"http://127.0.0.1:{port}", "--db", str(var / "sandbox.sqlite3")]
    process = Process("sandbox", command, env=environment, log=var / "sandbox.log")
    process.start()
    url = f"http://127.0.0.1:{sandbox_port}/control/state?limit=1"
    wait_until(lambda: answers(url) or not process.alive, seconds=60, what="the sandbox's start")
    if not process.alive:
        raise StartFailed(f"the sandbox ended:\n{process.tail()}")
    return process


def _sql(postgres: Postgres, statement: str) -> list[tuple[object, ...]]:
    import psycopg

    with psycopg.connect(postgres.url, autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

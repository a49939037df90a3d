"""What each database itself offers to dump it whole, as of one moment, and to take such a dump back at once."""

import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from django.conf import settings
from django.db import connection, connections

POSTGRESQL = "postgresql"
PATIENCE_SECONDS = 5
_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)


class DatabaseRefused(Exception):
    """The dump or its return failed; the message says what to do. The database is as it was."""


def dump(target: BinaryIO) -> None:
    """Write the whole database as of one moment, while everything continues. Raises DatabaseRefused."""
    if connection.vendor == POSTGRESQL:
        # Without owners and rights: they are the server's. `restore` grants them where the dump comes back.
        _run(["pg_dump", "--format=custom", "--no-owner", "--no-privileges"], stdout=target)
        return
    with NamedTemporaryFile() as copy:
        with closing(_open(_path())) as source, closing(_open(copy.name)) as into:
            source.backup(into)
        with Path(copy.name).open("rb") as file:
            shutil.copyfileobj(file, target)


def load(source: BinaryIO) -> None:
    """Replace the whole database, all or nothing. Raises DatabaseRefused, also while others have it open."""
    connections.close_all()
    if connection.vendor == POSTGRESQL:
        _demand_alone()
        options = ["--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
        _run(["pg_restore", *options, f"--dbname={_environment()['PGDATABASE']}"], stdin=source)
        return
    with NamedTemporaryFile() as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        _load_sqlite(copy.name)


def _load_sqlite(copy: str) -> None:
    with closing(_open(copy)) as dumped, closing(_open(_path())) as ours:
        if (said := dumped.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            raise DatabaseRefused(f"The backup's database is damaged: {said}")
        try:
            # Fails while any other process has the file open: a worker could buy by what is restored before
            # purchases are stopped.
            ours.execute("PRAGMA locking_mode = EXCLUSIVE")
            ours.execute("BEGIN EXCLUSIVE")
            ours.execute("COMMIT")
            dumped.backup(ours)
        except sqlite3.OperationalError as err:
            raise DatabaseRefused(f"Stop web, worker and beat first: {err}.") from err


def _demand_alone() -> None:
    # Asked by psql, which has one connection; the pool of this process may have several.
    connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL's
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (others := _run(["psql", "--no-psqlrc", "-At", "-c", _OTHERS]).decode().strip()) != "0":
        if time.monotonic() > deadline:
            raise DatabaseRefused(f"Stop web, worker and beat first: {others} connections to the database are open.")
        time.sleep(0.2)  # one that ended just now is still counted for a moment


def _path() -> str:
    return str(settings.DATABASES["default"]["NAME"])


def _open(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=5, isolation_level=None)


def _run(command: list[str], *, stdin: BinaryIO | None = None, stdout: BinaryIO | int = subprocess.PIPE) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603  # its arguments are ours
            command, env={**os.environ, **_environment()}, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip
    except FileNotFoundError:
        package = "postgresql-client"
        raise DatabaseRefused(f"{command[0]} is not installed (Debian: apt-get install {package}).") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise DatabaseRefused(f"{command[0]} failed: {' '.join(last)}")
    return done.stdout or b""


def _environment() -> dict[str, str]:
    """The connection as PostgreSQL's programs read it: a password among their arguments would be seen by everybody."""
    config = settings.DATABASES["default"]
    names = {"PGDATABASE": "NAME", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGHOST": "HOST", "PGPORT": "PORT"}
    found = {variable: str(config[name]) for variable, name in names.items() if config.get(name)}
    options = config.get("OPTIONS", {})
    more = {"PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert", "PGHOST": "host"}
    return found | {variable: str(options[name]) for variable, name in more.items() if options.get(name)}

"""Throw-away PostgreSQL, Redis and nginx on loopback, for tests and measurements. PostgreSQL never runs as root.

python -m tools.dev.services COMMAND ...    run a command with a PostgreSQL and a Redis of its own
"""

import abc
import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis

from tools.dev.supervise import Process, free_port

START_SECONDS = 120  # a busy machine takes its time; a program that cannot start is noticed as soon as it ends
# For data that nobody misses after a crash: nothing waits for the disk.
THROW_AWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0")


class Missing(Exception):
    """The program is not installed; the message says which package brings it."""


def find_program(name: str, package: str) -> str:
    """Return the path of a program, also where Debian hides it. Raises Missing."""
    hidden = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    found = shutil.which(name, path=places) or next(iter(hidden), None)
    if found is None:
        raise Missing(f"{name} is not installed (Debian: apt-get install {package})")
    return found


class Service(abc.ABC):
    """One process over one folder of its own; `kill9` and `start` again find the same data."""

    def __init__(self, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"bitloot-{type(self).__name__.lower()}-"))
        self.process = Process(type(self).__name__, [], env=os.environ, log=self.folder / "log")

    def start(self) -> None:
        self.process.command = self.command()
        self.process.start()
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if not self.process.alive or time.monotonic() > deadline:
                raise RuntimeError(f"{self.process.name} did not start on port {self.port}:\n{self.process.tail()}")
            time.sleep(0.05)

    def ready(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @abc.abstractmethod
    def command(self) -> list[str]:
        """Return the command line that serves `port` out of `folder`, in the foreground."""

    def kill9(self) -> None:
        self.process.kill9()

    def stop(self) -> None:
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class Redis(Service):
    def __init__(self, *, port: int | None = None, options: tuple[str, ...] = ()) -> None:
        super().__init__(port=port)
        self._options = options

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        program = find_program("redis-server", "redis-server")
        listens = ["--port", str(self.port), "--bind", "127.0.0.1"]
        return [program, *listens, "--save", "", "--dir", str(self.folder), *self._options]


class RedisSentinel(Service):
    """One of those that watch a master and, once most of them miss it, make its replica the master."""

    def __init__(self, *, master_port: int, quorum: int, server_password: str, password: str) -> None:
        super().__init__()
        lines = (
            f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", f"requirepass {password}",
            f"sentinel sentinel-pass {password}",
            f"sentinel monitor shop 127.0.0.1 {master_port} {quorum}", f"sentinel auth-pass shop {server_password}",
            "sentinel down-after-milliseconds shop 1000", "sentinel failover-timeout shop 5000",
        )  # fmt: skip
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")  # it keeps there what it learns

    def command(self) -> list[str]:
        return [find_program("redis-server", "redis-server"), str(self.folder / "sentinel.conf"), "--sentinel"]


class RedisGroup:
    """A master, its replica and three sentinels, all of which ask for a password."""

    PASSWORD, SENTINEL_PASSWORD = "servers;@word", "sentinels-word"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            words = ("--requirepass", self.PASSWORD, "--masterauth", self.PASSWORD)
            self.master = stack.enter_context(Redis(options=words))
            follow = ("--replicaof", "127.0.0.1", str(self.master.port), "--repl-diskless-sync-delay", "0")
            self.replica = stack.enter_context(Redis(options=(*words, *follow)))
            told = {"server_password": self.PASSWORD, "password": self.SENTINEL_PASSWORD}
            self.sentinels = [
                stack.enter_context(RedisSentinel(master_port=self.master.port, quorum=2, **told)) for _ in range(3)
            ]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        options = f"master=shop&sentinel_password={self.SENTINEL_PASSWORD}"
        return f"sentinel://:{quote(self.PASSWORD, safe='')}@{hosts}/0?{options}"

    def client(self, server: Redis) -> "redis.Redis":
        return redis.Redis(port=server.port, password=self.PASSWORD, socket_timeout=5)


class Nginx(Service):
    """nginx over a configuration that the caller has put at `configuration`."""

    @property
    def configuration(self) -> Path:
        return self.folder / "nginx.conf"

    def command(self) -> list[str]:
        program = find_program("nginx", "nginx-light")
        return [program, "-e", "stderr", "-p", str(self.folder), "-c", str(self.configuration)]


class Postgres(Service):
    """A cluster of its own, owned by the user postgres or nobody if we are root: PostgreSQL refuses to run as root."""

    def __init__(self, *, port: int | None = None, settings: tuple[str, ...] = ()) -> None:
        super().__init__(port=port)
        self._settings = settings
        self._owner = _other_user() if os.geteuid() == 0 else None
        if self._owner:
            os.chown(self.folder, self._owner.pw_uid, self._owner.pw_gid)

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def socket_url(self) -> str:
        """Return the address that spares a store on the same machine the way through TCP."""
        return f"postgres://postgres@/postgres?host={self.folder}&port={self.port}"

    @property
    def cluster(self) -> Path:
        return self.folder / "cluster"

    def start(self) -> None:
        if not self.cluster.exists():
            command = [find_program("initdb", "postgresql"), "-D", str(self.cluster), "-U", "postgres"]
            command += ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._as_owner())
        self.process.as_user = self._as_owner()
        super().start()

    def command(self) -> list[str]:
        settings = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}"]
        options = [option for setting in (*settings, *self._settings) for option in ("-c", setting)]
        return [find_program("postgres", "postgresql"), "-D", str(self.cluster), *options]

    def ready(self) -> bool:
        asked = [find_program("pg_isready", "postgresql-client"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def stop(self) -> None:
        if self.process.alive:
            self.process.signal(signal.SIGINT)  # SIGTERM would wait for every client to leave
        super().stop()

    def _as_owner(self) -> dict[str, Any]:
        owner = self._owner
        return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}


class PostgresReplica(Postgres):
    """A streaming replica, copied from a running primary when it starts for the first time."""

    def __init__(self, *, of: Postgres, settings: tuple[str, ...] = ()) -> None:
        super().__init__(settings=settings)
        self._primary = of

    def start(self) -> None:
        if not self.cluster.exists():
            command = [
                find_program("pg_basebackup", "postgresql-client"),
                "-D",
                str(self.cluster),
                "-R",
                "-X",
                "stream",
            ]
            command += ["-c", "fast", "--no-sync", "-d", self._primary.url]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._as_owner())
        super().start()


@contextlib.contextmanager
def throw_away_services() -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield what pytest has to be told to use a PostgreSQL and a Redis started here, and why one of them is missing."""
    told: dict[str, str] = {}
    missing: list[str] = []
    with contextlib.ExitStack() as stack:
        try:
            postgres = stack.enter_context(Postgres(settings=(*THROW_AWAY, "max_connections=200")))
            told["TEST_DATABASE_URL"] = postgres.socket_url
        except Missing as err:
            missing.append(f"no PostgreSQL: {err}")
        try:
            told["TEST_REDIS_URL"] = stack.enter_context(Redis()).url
        except Missing as err:
            missing.append(f"no Redis: {err}")
        yield told, missing


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Missing("PostgreSQL does not run as root, and there is neither a user postgres nor nobody to run it as")


if __name__ == "__main__":
    with throw_away_services() as (told, missing):
        print(*missing, sep="\n", end="\n" if missing else "", file=sys.stderr)
        sys.exit(subprocess.run(sys.argv[1:], env=os.environ | told, check=False).returncode)

"""Start a store's processes, each in a group of its own with a log file, and stop every one of them again."""

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tools.dev.devenv import ROOT, process_environment

START_SECONDS = 120  # of a busy machine; a process that ends is noticed at once
STOP_SECONDS = 25
PORTS = range(20_000, 32_000)
_ports_given: set[int] = set()
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartFailed(Exception):
    """A process that should be running is not; the message says which one and what it wrote last."""


class Process:
    def __init__(self, name: str, command: list[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name, self.command, self.env, self.log = name, command, env, log
        self.as_user: dict[str, Any] = {}
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one prctl call, which takes no lock
                **self.as_user,
            )

    @property
    def pid(self) -> int:
        if self._running is None:
            raise StartFailed(f"{self.name} was never started")
        return self._running.pid

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process and to all it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill9(self) -> None:
        self.signal(signal.SIGKILL)
        self._wait(STOP_SECONDS)

    def stop(self) -> None:
        """Ask it to end, and after a while make it; nothing of its group is left afterwards."""
        if self._running is None:
            return
        self.signal(signal.SIGTERM)
        self._wait(STOP_SECONDS)
        self.kill9()

    def tail(self, lines: int = 25) -> str:
        written = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(written[-lines:])

    def _wait(self, seconds: float) -> None:
        if self._running is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running.wait(seconds)


class Store:
    """A whole store as real processes over one `var` folder: sandbox, web, worker and beat."""

    def __init__(
        self, var: Path, *, port: int, sandbox_port: int, sandbox_options: tuple[str, ...] = (), **overrides: str
    ) -> None:
        self.var, self.port, self.sandbox_port = var, port, sandbox_port
        self.url, self.sandbox_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}"
        self.env = process_environment(var, port=port, sandbox_port=sandbox_port, **overrides)
        self._sandbox_options = sandbox_options
        self._console: subprocess.Popen[str] | None = None
        self.parts = {name: self._part(name, command) for name, command in self._commands().items()}

    def manage(self, *arguments: str, **overrides: str) -> str:
        """Run a management command; raises StartFailed with its output if it fails."""
        command, environment = [sys.executable, "manage.py", *arguments], {**self.env, **overrides}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StartFailed(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def shell(self, code: str) -> str:
        """Run code as `manage.py shell -c` would and return what it printed; raises StartFailed with its traceback.

        One process runs all of it (tools/dev/console.py), until the store is stopped.
        """
        if self._console is None:
            self._console = subprocess.Popen(
                [sys.executable, "-m", "tools.dev.console"],
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one prctl call, which takes no lock
            )
        assert self._console.stdin is not None
        assert self._console.stdout is not None
        self._console.stdin.write(json.dumps(code) + "\n")
        self._console.stdin.flush()
        answer = self._console.stdout.readline()
        printed, trouble = (
            json.loads(answer) if answer else ("", "tools.dev.console ended; what it wrote to stderr says why")
        )
        if trouble:
            raise StartFailed(f"{code}\n{printed}{trouble}")
        return str(printed)

    def seed(self, *arguments: str) -> str:
        """Put the products of the sandbox on sale: `seed` wants DEBUG, the store may run without."""
        return self.manage("seed", *arguments, DEBUG="1")

    def start(self) -> None:
        for name in self.parts:
            self.start_part(name)
        self.wait_ready()

    def start_part(self, name: str) -> None:
        self.parts[name].start()

    def wait_ready(self) -> None:
        """Return once the store and the sandbox answer. Raises StartFailed if one of them does not."""
        self._wait_for("web", f"{self.url}/livez")
        if "sandbox" in self.parts:
            self._wait_for("sandbox", f"{self.sandbox_url}/control/state")

    def kill9(self, name: str) -> None:
        self.parts[name].kill9()

    def stop(self) -> None:
        """End every part and all that it started."""
        if self._console is not None:
            self._console.communicate()  # it ends with its input
            self._console = None
        for process in self.parts.values():
            if process.alive:
                process.signal(signal.SIGTERM)
        for process in self.parts.values():
            process.stop()

    def ended(self) -> list[Process]:
        return [process for process in self.parts.values() if not process.alive]

    def _commands(self) -> dict[str, list[str]]:
        python = sys.executable
        sandbox = ["--port", str(self.sandbox_port), "--store-url", self.url, "--db", str(self.var / "sandbox.sqlite3")]
        return {
            "sandbox": [python, "-m", "sandbox", *sandbox, *self._sandbox_options],
            "web": web_command(self.port),
            "worker": [python, "-m", "celery", "-A", "bitloot", "worker"],
            "beat": [python, "-m", "celery", "-A", "bitloot.beat", "beat", "--pidfile="],
        }

    def _part(self, name: str, command: list[str]) -> Process:
        return Process(name, command, env=self.env, log=self.var / "logs" / f"{name}.log")

    def _wait_for(self, name: str, url: str) -> None:
        process = self.parts[name]
        deadline = time.monotonic() + START_SECONDS
        while not answers(url):
            if not process.alive or time.monotonic() > deadline:
                why = "ended" if not process.alive else f"does not answer at {url}"
                raise StartFailed(f"{name} {why}. The end of {process.log}:\n{process.tail()}")
            time.sleep(0.1)


def web_command(port: int, *, workers: int = 1, threads: int = 8) -> list[str]:
    return [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", str(workers), "--blocking-threads", str(threads), "--no-ws", "--no-access-log"),
        "bitloot.wsgi:application",
    ]


def answers(url: str) -> bool:
    """Return whether something answers 200 there."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def free_port(*, row: int = 1) -> int:
    """Return a port nobody has, the first of `row` such ports; from below those of outgoing connections.

    One of those may be taken while its server restarts, even by a client that keeps calling the dead server.
    """
    while True:
        first = PORTS[secrets.randbelow(len(PORTS) - row + 1)]
        if all(_reserve(port) and port_is_free(port) for port in range(first, first + row)):
            return first


def _reserve(port: int) -> bool:
    """Return whether no other run of this user was given the port; it stays ours until this process ends.

    Looking alone is a race: two runs can both find a port free before the first of them listens on it, and a server
    that is killed and started again leaves its port free in between. The kernel drops the lock of a dead process.
    """
    if port in _ports_given:
        return False
    try:
        # One byte of one file for each port: a lock of a process, not of the file it opened, so it is opened only once.
        fcntl.lockf(_ports_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _ports_given.add(port)
    return True


@functools.cache
def _ports_file() -> int:
    path = Path(tempfile.gettempdir()) / f"bitloot-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    """Return once `condition()` is true. Raises TimeoutError naming what was waited for."""
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        if waited > seconds:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        # What takes long is asked less often: a page, asked ten times a second for half a minute, keeps a CPU busy.
        time.sleep(min(max(waited / 10, 0.05), 1))


def _end_with_parent() -> None:
    """On Linux, have the kernel end this process when its starter dies, however it dies."""
    if _libc is not None:
        _libc.prctl(1, signal.SIGTERM)

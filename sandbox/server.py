"""Serve the sandbox until it is told to stop."""

import os
import socket
import threading
import time
from functools import partial
from pathlib import Path

from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from sandbox.app import Sandbox, create_app
from sandbox.config import Config
from sandbox.store import lock

# Enough for a hundred slow or silent answers at once, with room for the rest.
THREADS = 128
STOP_SECONDS = 1
PORT_SECONDS = 3
PARENT_CHECK_SECONDS = 0.02


def run(config: Config) -> None:
    """Serve; return after SIGTERM or SIGINT (a held call is cut off). Raise RuntimeError when port or file is taken."""
    for port in filter(None, (config.port, config.mail_port)):
        _await_port(config.host, port)
    lock(Path(config.db)).close()
    server = Granian(
        "sandbox",
        address=config.host,
        port=config.port,
        interface=Interfaces.WSGI,
        blocking_threads=THREADS,
        backlog=1024,
        log_level=LogLevels.error,
        workers_kill_timeout=STOP_SECONDS,
    )
    server.serve(target_loader=partial(_load, config, os.getpid()), wrap_loader=False)


def _await_port(host: str, port: int) -> None:
    # Granian shares its port with a server that already listens there, and calls would go to either.
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return
            except OSError as err:
                if time.monotonic() > deadline:
                    problem = f"{host}:{port} cannot be used ({err.strerror}): choose another --port or --mail-port."
                    raise RuntimeError(problem) from err
        time.sleep(0.1)


def _load(config: Config, parent: int) -> Sandbox:
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    return create_app(config)


def _leave_with(parent: int) -> None:
    # A kill -9 on the parent would leave this worker serving, with the port and the file.
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)

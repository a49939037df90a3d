"""The demo as a stranger runs it: a process of its own, with an exit code and addresses on its output."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bitloot.tests.services import EMBEDDED, answers, free_port, wait_until
from tools.dev.devenv import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def demo(var: Path, *options: str, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tools.dev.demo", "--var", str(var), "--port", str(port), *options]
    sandbox = ["--sandbox-port", str(free_port())]
    return subprocess.Popen(
        [*command, *sandbox],
        cwd=ROOT,
        env=os.environ | EMBEDDED,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_of(var: Path) -> list[psutil.Process]:
    """Return every process whose environment names this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("BITLOOT_VAR") == str(var.resolve()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_demo_ends_with_0_because_the_opened_key_is_the_one_that_was_sold(tmp_path):
    var = tmp_path / "demo"
    with demo(var, "--exit", port=free_port()) as running:
        output = running.communicate(timeout=240)[0]
    assert running.returncode == 0, output
    assert re.search(r"Opened: \S+, which is what the sandbox sold\.", output)
    assert processes_of(var) == []


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_store_ends_with_whoever_started_it(kept, number):
    """The second time it is started over what the first left, as `make run` is."""
    var, port = kept / "store", free_port()
    with demo(var, "--keep", port=port) as running:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/"), seconds=120, what="the shop window")
        wait_until(lambda: len(processes_of(var)) >= 4, seconds=60, what="all four processes")
        running.send_signal(number)
        running.communicate(timeout=120)
    assert running.returncode == (0 if number != signal.SIGKILL else -9)
    wait_until(lambda: processes_of(var) == [], seconds=120, what="the end of every process")


def test_busy_port_is_named_with_a_way_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with demo(tmp_path / "demo", port=port) as running:
            output = running.communicate(timeout=120)[0]
    assert running.returncode == 1
    assert output.startswith(f"Port {port} is taken by another program.")
    assert f"make demo PORT={port + 100}" in output

"""A broker that is read-only, full, or sends what is not a task: the same worker survives it and takes tasks after."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from bitloot.tests.services import Redis, wait_until
from tools.dev.devenv import ROOT, process_environment

pytestmark = [pytest.mark.chaos, pytest.mark.broker, pytest.mark.timeout(300)]
V2 = b'{"properties":{"delivery_tag":"x","delivery_info":{}},"headers":%s,"content-type":"%s","body":"%s"}'
GARBAGE = [
    b"\xff\xfe", b"{", b"[]", b"5", b"null", b"{}", b"[" * 5000, b'{"properties":{}}',
    b'{"properties":{"delivery_tag":"x"},"headers":{}}',
    V2 % (b"null", b"application/json", b"%%%"),
    V2 % (b'{"task":"no.such"}', b"application/json", b"e30="),
    V2 % (b'{"task":"orders.drain","id":"1"}', b"application/x-pickle", b"e30="),
    V2 % (b'{"task":"orders.drain","id":5}', b"application/json", b"[1,2]"),
]  # fmt: skip


@pytest.fixture
def server() -> Iterator[Redis]:
    with Redis() as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path, server: Redis) -> dict[str, str]:
    outside = process_environment(tmp_path / "var", port=8000, sandbox_port=8001)
    return outside | {"REDIS_URL": server.url, "PATH": os.environ["PATH"]}


@pytest.fixture
def worker(tmp_path: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "celery", "-A", "bitloot", "worker", "-l", "INFO"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def migrate(environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True)


def takes(client: "redis.Redis") -> None:
    """Wait until the worker takes a message."""
    client.lpush("celery", b"{}")
    wait_until(lambda: not client.llen("celery"), seconds=60, what="the worker to take a message")


def test_the_worker_waits_for_its_tables_then_survives_its_broker(worker, environment, server, tmp_path):
    def said(words: str) -> bool:
        return words in (tmp_path / "log").read_text()

    wait_until(lambda: said("waits for"), seconds=60, what="the sentence about the migrations")
    migrate(environment)
    wait_until(lambda: said("the worker starts its work"), seconds=60, what="the worker to start")

    client = redis.Redis.from_url(server.url)
    for message in GARBAGE:
        client.lpush("celery", message)
    takes(client)
    assert said("not a task")

    client.set("celery-text", "")
    client.rename("celery-text", "celery")  # no longer a list
    time.sleep(3)
    client.delete("celery")
    takes(client)

    client.config_set("maxmemory", 1)
    time.sleep(3)
    client.config_set("maxmemory", 0)
    takes(client)

    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    wait_until(lambda: said("refuses what a worker needs"), seconds=60, what="the sentence about Redis")
    client.execute_command("REPLICAOF", "NO", "ONE")
    takes(client)
    assert worker.poll() is None


def test_a_worker_that_waits_for_its_tables_can_be_stopped(worker, tmp_path):
    wait_until(lambda: "waits for" in (tmp_path / "log").read_text(), seconds=60, what="the sentence about the tables")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0

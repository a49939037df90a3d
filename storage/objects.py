"""Where sealed keys are kept: Cloudflare R2, or files under var/ when no bucket is set. Each object is written once."""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, storages
from storages.backends.s3 import S3Storage

from bitloot.core.database import leave_connection

MAX_OBJECT_BYTES = 4 * 1024 * 1024
READ_SECONDS = 30
CONTENT_TYPE = "application/octet-stream"
_CHUNK = 64 * 1024


class ObjectMissing(Exception):
    """There is no such object."""


class ObjectConflict(Exception):
    """Another object has this name already; nothing was written."""


class ObjectUnavailable(Exception):
    """The store gave no usable answer; the effect of a write is unknown, and repeating it is harmless."""


class R2Storage(S3Storage):
    """One bucket of R2 (or of any S3 server with conditional writes)."""

    signs_urls = True

    def __init__(self, **options: Any) -> None:
        # R2 refuses the checksums that boto3 adds by default, and knows no other region than auto.
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=3,
            read_timeout=15,
            retries={"total_max_attempts": 2, "mode": "standard"},
            max_pool_connections=32,
            proxies={},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        defaults = {"region_name": "auto", "client_config": config, "security_token": None, "default_acl": None}
        super().__init__(**(defaults | options))
        self._client: Any = None
        self._making_client = threading.Lock()

    @property
    def client(self) -> Any:
        """Return the client that all threads share; the parent would make one (and its pool) for each of them."""
        with self._making_client:
            if self._client is None:
                session = boto3.Session(aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key)
                self._client = session.client(
                    "s3", region_name=self.region_name, endpoint_url=self.endpoint_url, config=self.client_config
                )
        return self._client

    def put(self, name: str, content: bytes) -> None:
        """Write an object unless the name is taken. Raises ObjectConflict if other bytes are there."""
        self._save(name, ContentFile(content))

    def get(self, name: str) -> bytes:
        leave_connection()
        with _answer_of("get"):
            answer = self.client.get_object(Bucket=self.bucket_name, Key=name)
            with closing(answer["Body"]) as body:
                return _read(body)

    def delete(self, name: str) -> None:
        leave_connection()
        with _answer_of("delete"):
            self.client.delete_object(Bucket=self.bucket_name, Key=name)

    def signed_url(self, name: str, seconds: int) -> str | None:
        """Return a link to the object that R2 itself honours for that long."""
        place = {"Bucket": self.bucket_name, "Key": name}
        url: str = self.client.generate_presigned_url("get_object", Params=place, ExpiresIn=seconds)
        return url

    def _save(self, name: str, content: File) -> str:
        body = content.read()
        leave_connection()
        try:
            with _answer_of("put"):
                self._put_once(name, body)
        except ObjectConflict:
            # Most often our own earlier write, whose answer was lost on the way.
            if self.get(name) != body:
                raise
        return name

    def _put_once(self, name: str, body: bytes) -> None:
        self.client.put_object(
            Bucket=self.bucket_name,
            Key=name,
            Body=body,
            IfNoneMatch="*",
            ContentType=CONTENT_TYPE,
            ContentDisposition="attachment",
            CacheControl="no-store",
        )


class EmbeddedStorage(FileSystemStorage):
    """Files of one machine, for a store without a bucket. They are written too quickly to give a connection back."""

    signs_urls = False

    def put(self, name: str, content: bytes) -> None:
        """Write a file unless the name is taken. Raises ObjectConflict if other bytes are there."""
        self._save(name, ContentFile(content))

    def get(self, name: str) -> bytes:
        with _answer_of("get"), open(self.path(name), "rb") as file:
            return _read(file)

    def delete(self, name: str) -> None:
        path = Path(self.path(name))
        with _answer_of("delete"), suppress(FileNotFoundError):
            path.unlink()
            _flush_directory(path.parent)

    def signed_url(self, name: str, seconds: int) -> str | None:
        return None

    def _save(self, name: str, content: File) -> str:
        body = content.read()
        try:
            with _answer_of("put"):
                _write_once(Path(self.path(name)), body)
        except ObjectConflict:
            if self.get(name) != body:
                raise
        return name


KeyStore = R2Storage | EmbeddedStorage


def key_store() -> KeyStore:
    store = storages["keys"]
    assert isinstance(store, KeyStore)
    return store


def new_object_name() -> str:
    """Return a name that says nothing about the order."""
    return secrets.token_hex(20)


@contextmanager
def _answer_of(call: str) -> Iterator[None]:
    """Translate what the store answers. Messages carry codes only: never a link, a name or a credential."""
    try:
        yield
    except ClientError as err:
        code = err.response.get("Error", {}).get("Code", "")
        status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 412:
            raise ObjectConflict("another object has this name") from err
        if code == "NoSuchKey":
            raise ObjectMissing("the object is not in the store") from err
        raise ObjectUnavailable(f"{call}: the object store answered {status} {code}") from err
    except FileExistsError as err:
        raise ObjectConflict("another object has this name") from err
    except FileNotFoundError as err:
        raise ObjectMissing("the object is not in the store") from err
    except (BotoCoreError, OSError) as err:
        raise ObjectUnavailable(f"{call}: {type(err).__name__}") from err


def _read(source: IO[bytes]) -> bytes:
    chunks: list[bytes] = []
    size, deadline = 0, time.monotonic() + READ_SECONDS
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        chunks.append(chunk)
        if size > MAX_OBJECT_BYTES or time.monotonic() > deadline:
            raise ObjectUnavailable("get: the object is too large or too slow")
    return b"".join(chunks)


def _write_once(path: Path, body: bytes) -> None:
    """Make the whole file appear under its name at once, or raise FileExistsError; it survives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        # Not rename, which would silently replace a file that is there.
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _flush_directory(path.parent)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

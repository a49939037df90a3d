"""Sealed keys in Cloudflare R2. Loaded by its name in STORAGES only: boto3 takes 20 MiB of each process."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import cache
from typing import Any, ClassVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import ContentFile, File
from storages.backends.s3 import S3Storage

from bitloot.core.database import leave_connection
from storage.objects import (
    CONTENT_TYPE,
    PROBES,
    AsFiles,
    KeyStore,
    ObjectConflict,
    ObjectMissing,
    ObjectUnavailable,
    read_body,
)

_making_client = threading.Lock()  # a session must not be used by two threads at once


class R2Storage(KeyStore, S3Storage):
    """One bucket of R2 (or of any S3 server with conditional writes)."""

    signs_urls = True
    # A second write of a name never replaces the first.
    only_if: ClassVar[dict[str, str]] = {"IfNoneMatch": "*"}

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

    @property
    def client(self) -> Any:
        """Return the client that all threads share; the parent would make one (and its pool) for each of them."""
        with _making_client:
            if self._client is None:
                self._client = _session().client(
                    "s3",
                    region_name=self.region_name,
                    endpoint_url=self.endpoint_url,
                    config=self.client_config,
                    aws_access_key_id=self.access_key,
                    aws_secret_access_key=self.secret_key,
                )
        return self._client

    def put(self, name: str, content: bytes) -> None:
        """Write an object unless the name is taken. Raises ObjectConflict if other bytes are there."""
        self._save(name, ContentFile(content))

    def get(self, name: str) -> bytes:
        # Here and below: a slow object store must not hold one of four database connections.
        leave_connection()
        with _answer_of("get"):
            answer = self.client.get_object(Bucket=self.bucket_name, Key=name)
            with closing(answer["Body"]) as body:
                return read_body(body)

    def delete(self, name: str) -> None:
        leave_connection()
        with _answer_of("delete"):
            self.client.delete_object(Bucket=self.bucket_name, Key=name)

    def names(self) -> Iterator[str]:
        leave_connection()
        with _answer_of("list"):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket_name):
                found = (entry["Key"] for entry in page.get("Contents", []))
                yield from (name for name in found if not name.startswith(PROBES))

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
            ContentType=CONTENT_TYPE,
            ContentDisposition="attachment",
            CacheControl="no-store",
            **self.only_if,
        )


class R2Files(AsFiles, R2Storage):
    """What is shown to everybody, in the same bucket; browsers get it from the shop, which may cache it."""

    # Unconditional: the name stands for the content, and writing it again renews its time.
    only_if: ClassVar[dict[str, str]] = {}

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        """Return the names under a folder, which has no folders in it."""
        prefix = f"{path}/"
        leave_connection()
        with _os_errors("list"):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket_name, Prefix=prefix)
            found = [entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", [])]
        return [], found

    def get_modified_time(self, name: str) -> datetime:
        leave_connection()
        with _os_errors("head"):
            answer = self.client.head_object(Bucket=self.bucket_name, Key=name)
        moment: datetime = answer["LastModified"]
        return moment


@contextmanager
def _os_errors(call: str) -> Iterator[None]:
    try:
        with _answer_of(call):
            yield
    except ObjectMissing as err:
        raise FileNotFoundError(str(err)) from err
    except ObjectUnavailable as err:
        raise OSError(str(err)) from err


@contextmanager
def _answer_of(call: str) -> Iterator[None]:
    """Translate what R2 answers. Messages carry codes only: never a link, a name or a credential."""
    try:
        yield
    except ClientError as err:
        code = err.response.get("Error", {}).get("Code", "")
        status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        # Precondition failed: IfNoneMatch found an object.
        if status == 412:
            raise ObjectConflict("another object has this name") from err
        if code in ("NoSuchKey", "404"):  # the answer to HEAD has no body, and so no name
            raise ObjectMissing("the object is not in the store") from err
        raise ObjectUnavailable(f"{call}: the object store answered {status} {code}") from err
    except (BotoCoreError, OSError) as err:
        raise ObjectUnavailable(f"{call}: {type(err).__name__}") from err


@cache
def _session() -> boto3.Session:
    """Return the session of this process: each one reads a megabyte of JSON about AWS before its first client."""
    return boto3.Session()

"""Where backups lie: a folder, or a bucket beside the one of the keys. A name is there only once its file is whole."""

import fcntl
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings

_NAME = re.compile(r"bitloot-(\d{8}T\d{6}Z)\.backup")


class Place(ABC):
    @abstractmethod
    def put(self, name: str, content: BinaryIO) -> None:
        """Store it whole or not at all."""

    @abstractmethod
    def fetch(self, name: str, target: BinaryIO) -> None:
        """Raises FileNotFoundError."""

    @abstractmethod
    def delete(self, name: str) -> None: ...

    @abstractmethod
    def _files(self) -> list[str]: ...

    def room(self) -> str | None:
        """Return a folder that is large enough for what is only there meanwhile; None for the system's own."""
        return None

    def names(self) -> list[str]:
        """Return the names of the backups, the newest first."""
        return sorted((name for name in self._files() if _NAME.fullmatch(name)), reverse=True)


class Folder(Place):
    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def room(self) -> str | None:
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return str(self._path)

    def put(self, name: str, content: BinaryIO) -> None:
        with self._alone():
            for left in self._path.glob("*.part"):  # of a backup that was killed
                left.unlink(missing_ok=True)
            if (self._path / name).exists():
                raise FileExistsError(f"Another backup, {name}, was started in the same second.")
            part = self._path / f"{name}.part"
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                shutil.copyfileobj(content, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path / name)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let another process that stores one finish first: its unfinished file looks like that of a killed one."""
        self.room()
        folder = os.open(self._path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def fetch(self, name: str, target: BinaryIO) -> None:
        with (self._path / name).open("rb") as file:
            shutil.copyfileobj(file, target)

    def delete(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def _files(self) -> list[str]:
        return [path.name for path in self._path.iterdir()] if self._path.is_dir() else []


class Bucket(Place):
    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    @property
    def _client(self) -> Any:
        import boto3  # only where it is used: it brings much along
        from botocore.config import Config

        # R2 refuses the checksums that boto3 adds by default, and knows no other region than auto.
        plain = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
        return boto3.client(
            "s3",
            endpoint_url=settings.R2_ENDPOINT,
            aws_access_key_id=settings.R2_ACCESS_KEY_ID,
            aws_secret_access_key=settings.R2_SECRET_ACCESS_KEY,
            region_name="auto",
            config=plain,
        )

    def put(self, name: str, content: BinaryIO) -> None:
        with _as_os_errors():
            self._client.upload_fileobj(content, self._bucket, self._prefix + name)

    def fetch(self, name: str, target: BinaryIO) -> None:
        with _as_os_errors():
            self._client.download_fileobj(self._bucket, self._prefix + name, target)

    def delete(self, name: str) -> None:
        with _as_os_errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def _files(self) -> list[str]:
        with _as_os_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            return [entry["Key"].removeprefix(self._prefix) for page in pages for entry in page.get("Contents", [])]


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """A bucket fails as a folder does."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as err:
        code = err.response["Error"]["Code"]
        kind = FileNotFoundError if code in ("404", "NoSuchKey") else OSError
        raise kind(f"The bucket answers {code}.") from err
    except (Boto3Error, BotoCoreError) as err:
        raise OSError(f"The bucket cannot be used: {type(err).__name__}.") from err


def place() -> Place:
    target: str = settings.BACKUP_TARGET
    if target.startswith("s3://"):
        bucket, _, prefix = target.removeprefix("s3://").partition("/")
        return Bucket(bucket, prefix.strip("/"))
    return Folder(Path(target))


def new_name() -> str:
    return f"bitloot-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.backup"


def made_at(name: str) -> datetime:
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(name)
    return datetime.strptime(found[1], "%Y%m%dT%H%M%S%z")

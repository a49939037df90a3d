"""Where sealed keys are kept: Cloudflare R2, or files under var/ when no bucket is set. Each object is written once."""

import abc
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, storages

MAX_OBJECT_BYTES = 4 * 1024 * 1024
READ_SECONDS = 30
# Names of objects that are not keys begin with this, which no key's random name does.
PROBES = "probe-"
CONTENT_TYPE = "application/octet-stream"
_CHUNK = 64 * 1024


class ObjectMissing(Exception):
    """There is no such object."""


class ObjectConflict(Exception):
    """Another object has this name already; nothing was written."""


class ObjectUnavailable(Exception):
    """The store gave no usable answer; the effect of a write is unknown, and repeating it is harmless."""


class KeyStore(abc.ABC):
    """What both stores do."""

    signs_urls: bool

    @abc.abstractmethod
    def put(self, name: str, content: bytes) -> None:
        """Write an object unless the name is taken. Raises ObjectConflict if other bytes are there."""

    @abc.abstractmethod
    def get(self, name: str) -> bytes: ...

    @abc.abstractmethod
    def delete(self, name: str) -> None: ...

    @abc.abstractmethod
    def names(self) -> Iterator[str]:
        """Yield the names of all objects that are no probes."""

    @abc.abstractmethod
    def signed_url(self, name: str, seconds: int) -> str | None:
        """Return a link to the object that the store itself honours for that long, or None if it signs no links."""


class EmbeddedStorage(KeyStore, FileSystemStorage):
    """Files on one host, for a shop without a bucket."""

    signs_urls = False

    def put(self, name: str, content: bytes) -> None:
        """Write a file unless the name is taken. Raises ObjectConflict if other bytes are there."""
        self._save(name, ContentFile(content))

    def get(self, name: str) -> bytes:
        with _answer_of("get"), open(self.path(name), "rb") as file:
            return read_body(file)

    def delete(self, name: str) -> None:
        path = Path(self.path(name))
        with _answer_of("delete"), suppress(FileNotFoundError):
            # Flushed as well, or a power cut could bring the file back.
            path.unlink()
            _flush_directory(path.parent)

    def names(self) -> Iterator[str]:
        with _answer_of("list"):
            found = os.listdir(self.location) if os.path.isdir(self.location) else []
        yield from (name for name in found if not name.startswith((".", PROBES)))

    def signed_url(self, name: str, seconds: int) -> str | None:
        return None

    def _save(self, name: str, content: File) -> str:
        body = content.read()
        try:
            with _answer_of("put"):
                self._write(Path(self.path(name)), body)
        except ObjectConflict:
            # Most often our own earlier write, after a crash.
            if self.get(name) != body:
                raise
        return name

    def _write(self, path: Path, body: bytes) -> None:
        # Not rename, which would silently replace a file that is there.
        _write_whole(path, body, appear=os.link)


class AsFiles:
    """Django's own storage API before one of the stores above, for names that stand for their content.

    Writing such a name again changes nothing but its time, and errors are OSErrors.
    """

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name  # it stands for its content; Django would write the same once more under another

    def _open(self, name: str, mode: str = "rb") -> File:
        store: Any = self
        try:
            return ContentFile(store.get(name), name)
        except ObjectMissing as err:
            raise FileNotFoundError(name) from err
        except ObjectUnavailable as err:
            raise OSError(str(err)) from err

    def _save(self, name: str, content: File) -> str:
        above: Any = super()
        try:
            return str(above._save(name, content))
        except (ObjectConflict, ObjectUnavailable) as err:
            raise OSError(str(err)) from err

    def delete(self, name: str) -> None:
        above: Any = super()
        try:
            above.delete(name)
        except ObjectUnavailable as err:
            raise OSError(str(err)) from err


class EmbeddedFiles(AsFiles, EmbeddedStorage):
    """Files that are shown to everybody, beside the sealed keys."""

    def _write(self, path: Path, body: bytes) -> None:
        # Replacing is harmless here, because the name stands for the content; it renews the file's time.
        _write_whole(path, body, appear=os.replace)


def key_store() -> KeyStore:
    store = storages["keys"]
    assert isinstance(store, KeyStore)
    return store


def new_object_name() -> str:
    """Return a name that says nothing about the order."""
    return secrets.token_hex(20)


@contextmanager
def _answer_of(call: str) -> Iterator[None]:
    """Translate what the disk says. Messages carry codes only: never a link, a name or a credential."""
    try:
        yield
    except FileExistsError as err:
        raise ObjectConflict("another object has this name") from err
    except FileNotFoundError as err:
        raise ObjectMissing("the object is not in the store") from err
    except OSError as err:
        raise ObjectUnavailable(f"{call}: {type(err).__name__}") from err


def read_body(source: IO[bytes]) -> bytes:
    chunks: list[bytes] = []
    size, deadline = 0, time.monotonic() + READ_SECONDS
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        chunks.append(chunk)
        # Checked between chunks: with a read timeout alone, a trickle could go on for hours.
        if size > MAX_OBJECT_BYTES or time.monotonic() > deadline:
            raise ObjectUnavailable("get: the object is too large or too slow")
    return b"".join(chunks)


def _write_whole(path: Path, body: bytes, *, appear: Callable[[Path, Path], None]) -> None:
    """Make the whole file appear under its name at once; it survives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        # On the disk before it has its name, and the name on the disk before we return: no crash leaves half a file.
        with open(draft, "xb", opener=_private) as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        appear(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _flush_directory(path.parent)


def _private(path: str, flags: int) -> int:
    # Private from the first byte: a chmod would come a moment later.
    return os.open(path, flags, 0o600)


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Backups: made whole and checked before an older one goes; taken back only once they were read to their end."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from django.conf import settings
from django.db import connection

from bitloot.core.faults import failpoint
from bitloot.ops.backup import databases
from bitloot.ops.backup.places import Place, new_name, place
from bitloot.ops.backup.sealed import CHUNK, NotOurBackup, seal, unseal

_ENGINE_BYTES = 16


class BackupFailed(Exception):
    """Nothing was changed; the message says what to do."""


@dataclass(frozen=True)
class Made:
    name: str
    where: str
    bytes: int
    removed: list[str]


def make_backup() -> Made:
    """Dump, encrypt, store and read back; then remove all but the newest BACKUP_KEEP. Raises BackupFailed."""
    secret, where, name = demand_secret(), place(), new_name()
    with _scratch(where) as plain, _scratch(where) as sealed:
        plain.write(connection.vendor.encode().ljust(_ENGINE_BYTES))
        try:
            databases.dump(plain)
        except databases.DatabaseRefused as err:
            raise BackupFailed(str(err)) from err
        plain.seek(0)
        seal(plain, sealed, secret=secret)
        size = sealed.tell()
        sealed.seek(0)
        where.put(name, sealed)
        failpoint("backup.stored")
        _verify(where, name, plain)
    return Made(name, str(where), size, remove_old(where))


def remove_old(where: Place) -> list[str]:
    old = where.names()[settings.BACKUP_KEEP :]
    for name in old:
        where.delete(name)
    return old


def demand_secret() -> str:
    """Return the secret that seals and opens backups. Raises BackupFailed if it is not set."""
    if not settings.BACKUP_SECRET:
        raise BackupFailed("Set BACKUP_SECRET (`manage.py generate_encryption_key`), and keep a copy elsewhere.")
    return str(settings.BACKUP_SECRET)


def demand_readable(name: str) -> None:
    """Read a backup to its end and change nothing. Raises BackupFailed if it could not be restored."""
    with _opened(name):
        pass


def restore(name: str) -> None:
    """Replace the database by this backup, all or nothing. Raises BackupFailed."""
    with _opened(name) as plain:
        try:
            databases.load(plain)
        except databases.DatabaseRefused as err:
            raise BackupFailed(str(err)) from err


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """Yield the database's dump in a backup, which was read to its end and is of this database's kind."""
    where, secret = place(), demand_secret()
    with _scratch(where) as plain:
        try:
            _read(where, name, plain, secret)
        except NotOurBackup as err:
            raise BackupFailed(f"{name} cannot be read: {err}") from err
        plain.seek(0)
        engine = plain.read(_ENGINE_BYTES).decode().strip()
        if engine != connection.vendor:
            raise BackupFailed(f"It is a backup of {engine}, and DATABASE_URL names {connection.vendor}.")
        yield plain


def _verify(where: Place, name: str, plain: BinaryIO) -> None:
    with _scratch(where) as read_back:
        try:
            _read(where, name, read_back, demand_secret())
            is_whole = _digest(read_back) == _digest(plain)
        except NotOurBackup:
            is_whole = False
    if not is_whole:
        # It would be the newest: `restore latest` would take it, and the next backup would count it among those kept.
        where.delete(name)
        raise BackupFailed(f"{where} gave back other bytes than were written; nothing older was removed.")


def _read(where: Place, name: str, target: BinaryIO, secret: str) -> None:
    with _scratch(where) as sealed:
        try:
            where.fetch(name, sealed)
        except FileNotFoundError:
            raise BackupFailed(f"There is no {name} in {where}.") from None
        sealed.seek(0)
        for chunk in unseal(sealed, secret=secret):
            target.write(chunk)


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _scratch(where: Place) -> BinaryIO:
    # It has no name, so nothing is left of it even after kill -9.
    # Unbuffered: pg_dump and pg_restore continue where the file stands.
    return cast(BinaryIO, tempfile.TemporaryFile(buffering=0, dir=where.room()))

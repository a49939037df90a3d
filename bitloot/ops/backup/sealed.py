"""An encrypted stream, as docs/backup.md describes it byte by byte: cut, changed or reordered, it does not open."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"BITLOOTB\x01"
SALT_BYTES, TAG_BYTES = 32, 16
CHUNK = 1024 * 1024
_INFO = b"bitloot/backup/v1"


class NotOurBackup(Exception):
    """The file is no backup, was cut or changed, or was made under another BACKUP_SECRET."""


def seal(source: BinaryIO, target: BinaryIO, *, secret: str) -> None:
    header = MAGIC + os.urandom(SALT_BYTES)
    cipher, number, chunk = _cipher(header, secret), 0, source.read(CHUNK)
    target.write(header)
    while True:
        following = source.read(CHUNK)
        target.write(cipher.encrypt(_nonce(number, last=not following), chunk, header))
        if not following:
            return
        number, chunk = number + 1, following


def unseal(source: BinaryIO, *, secret: str) -> Iterator[bytes]:
    """Yield the plain chunks. Raises NotOurBackup, maybe after some: use nothing before the end was reached."""
    header = source.read(len(MAGIC) + SALT_BYTES)
    if len(header) != len(MAGIC) + SALT_BYTES or not header.startswith(MAGIC):
        raise NotOurBackup("This is not a backup of BitLoot.")
    cipher, number, chunk = _cipher(header, secret), 0, source.read(CHUNK + TAG_BYTES)
    while True:
        following = source.read(CHUNK + TAG_BYTES)
        try:
            # Only the last chunk opens as the last: a file that was cut between two chunks is noticed.
            yield cipher.decrypt(_nonce(number, last=not following), chunk, header)
        except InvalidTag as err:
            raise NotOurBackup("It was cut or changed, or BACKUP_SECRET is another one.") from err
        if not following:
            return
        number, chunk = number + 1, following


def _cipher(header: bytes, secret: str) -> AESGCM:
    salt = header[len(MAGIC) :]
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=_INFO).derive(secret.encode()))


def _nonce(number: int, *, last: bool) -> bytes:
    # Each file has a key of its own, so a counter never repeats under one.
    return number.to_bytes(11, "big") + bytes([last])

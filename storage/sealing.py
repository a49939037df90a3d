"""Sealing: one random data key per licence key, wrapped under a master key that lives in the environment only.

docs/key-format.md describes the bytes, with test vectors.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Self

import rfc8785
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from django.conf import settings

FORMAT_VERSION = 1
ALGORITHM = "A256GCM"
DATA_KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
# Written before each wrapped data key. Format 1 had no such byte and was wrapped under the master key directly.
WRAPPING_FORMAT = b"\x02"
WRAPPED_BYTES = DATA_KEY_BYTES + 8  # as RFC 3394 makes it
_MASTER_KEY_INFO = b"bitloot/master/v1"
_WRAPPING_KEY_INFO = b"bitloot/wrapping/v2"
_MASTER_KEY_ID_INFO = b"bitloot/master-id/v1"
_FINGERPRINT_INFO = b"bitloot/fingerprint/v1"


class SealBroken(Exception):
    """What should open does not: it was changed, cut, moved to another place or sealed under another key."""


class MasterKeyMissing(Exception):
    """The master key that a data key is wrapped under is in none of our secrets."""


@dataclass(frozen=True)
class Binding:
    """The only place at which a ciphertext opens."""

    environment: str
    order: str
    item: str
    key: str
    content_type: str
    version: int = FORMAT_VERSION

    @cached_property
    def aad(self) -> bytes:
        return rfc8785.dumps(
            {
                "env": self.environment,
                "order": self.order,
                "item": self.item,
                "key": self.key,
                "content_type": self.content_type,
                "version": self.version,
            }
        )


@dataclass(frozen=True)
class WrappedKey:
    wrapped: bytes
    master_key_id: str

    @property
    def is_bound(self) -> bool:
        """Whether it unwraps at its own place only."""
        return len(self.wrapped) == 1 + WRAPPED_BYTES and self.wrapped.startswith(WRAPPING_FORMAT)


@dataclass(frozen=True)
class Sealed:
    ciphertext: bytes  # ends with the 16 bytes of the tag, as WebCrypto wants it
    nonce: bytes
    data_key: WrappedKey


@dataclass(frozen=True)
class MasterKey:
    id: str
    secret: bytes = field(repr=False)
    wrapping_secret: bytes = field(repr=False)
    fingerprint_secret: bytes = field(repr=False)

    def wrapping_key(self, binding: Binding) -> bytes:
        """Return the key that wraps at this place and at no other: a row that was moved does not even unwrap."""
        return HKDFExpand(algorithm=SHA256(), length=DATA_KEY_BYTES, info=binding.aad).derive(self.wrapping_secret)


@dataclass(frozen=True)
class MasterKeys:
    """The primary, which wraps, and the older ones, which only unwrap until every key is re-wrapped."""

    primary: MasterKey
    fallbacks: tuple[MasterKey, ...] = ()

    @classmethod
    def from_secrets(cls, primary: str, fallbacks: Sequence[str] = ()) -> Self:
        if not primary:
            raise MasterKeyMissing("KEY_ENCRYPTION_SECRET is empty")
        return cls(_derive(primary), tuple(_derive(secret) for secret in fallbacks if secret))

    @classmethod
    def from_settings(cls) -> Self:
        return cls.from_secrets(settings.KEY_ENCRYPTION_SECRET, settings.KEY_ENCRYPTION_SECRET_FALLBACKS)

    @property
    def ids(self) -> list[str]:
        return [self.primary.id, *(key.id for key in self.fallbacks)]

    def wrap(self, data_key: bytes, binding: Binding) -> WrappedKey:
        # No nonce: RFC 3394 needs none, since what it wraps is random.
        wrapped = aes_key_wrap(self.primary.wrapping_key(binding), data_key)
        return WrappedKey(WRAPPING_FORMAT + wrapped, self.primary.id)

    def unwrap(self, data_key: WrappedKey, binding: Binding) -> bytes:
        """Return the data key. Raises MasterKeyMissing or SealBroken."""
        master = next((key for key in (self.primary, *self.fallbacks) if key.id == data_key.master_key_id), None)
        if master is None:
            raise MasterKeyMissing(f"master key {data_key.master_key_id} is in none of our secrets")
        try:
            if data_key.is_bound:
                return aes_key_unwrap(master.wrapping_key(binding), data_key.wrapped[1:])
            # Format 1, until `rewrap_keys` has come to this row.
            return aes_key_unwrap(master.secret, data_key.wrapped)
        except (InvalidUnwrap, ValueError) as err:
            raise SealBroken("the wrapped data key was changed, or does not belong here") from err

    def fingerprints(self, plaintext: bytes) -> list[str]:
        """Return what tells that two licence keys are the same: under the primary, then under each older secret.

        Without the secret nobody can find out, by trying, which key a fingerprint in a copy of the database is of.
        """
        # The same code with and without a line's end is one code.
        code = plaintext.strip()
        return [hmac.digest(key.fingerprint_secret, code, "sha256").hex() for key in (self.primary, *self.fallbacks)]


def seal(plaintext: bytes, binding: Binding, *, keys: MasterKeys) -> Sealed:
    # A fresh data key for each seal, so that a nonce can never meet the same key twice.
    data_key, nonce = os.urandom(DATA_KEY_BYTES), os.urandom(NONCE_BYTES)
    ciphertext = AESGCM(data_key).encrypt(nonce, plaintext, binding.aad)
    return Sealed(ciphertext, nonce, keys.wrap(data_key, binding))


def open_sealed(sealed: Sealed, binding: Binding, *, keys: MasterKeys) -> bytes:
    """Return the plaintext. Raises SealBroken, or MasterKeyMissing; nothing is returned in part."""
    data_key = keys.unwrap(sealed.data_key, binding)
    if len(sealed.nonce) != NONCE_BYTES or len(sealed.ciphertext) < TAG_BYTES:
        raise SealBroken("the nonce or the ciphertext was cut")
    try:
        return AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, binding.aad)
    except InvalidTag as err:
        raise SealBroken("the ciphertext does not belong here") from err


def master_key_ready() -> bool:
    """Return whether this process can seal and open a key now."""
    place = Binding("self-test", "order", "item", "key", "text/plain")
    try:
        keys = MasterKeys.from_settings()
        return open_sealed(seal(b"ready", place, keys=keys), place, keys=keys) == b"ready"
    except (SealBroken, MasterKeyMissing):
        return False


@lru_cache(maxsize=8)
def _derive(secret: str) -> MasterKey:
    # The id names the key in every row, so that opening never tries one key after another. It is derived apart from
    # the key itself: publishing it says nothing about the key.
    name = hashlib.sha256(_expand(secret, _MASTER_KEY_ID_INFO)).hexdigest()[:8]
    infos = (_MASTER_KEY_INFO, _WRAPPING_KEY_INFO, _FINGERPRINT_INFO)
    return MasterKey(name, *(_expand(secret, info) for info in infos))


def _expand(secret: str, info: bytes) -> bytes:
    # No salt: the secret is already random, and a constant one would add nothing (RFC 5869, 3.1).
    return HKDF(algorithm=SHA256(), length=DATA_KEY_BYTES, salt=None, info=info).derive(secret.encode())

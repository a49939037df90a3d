"""Signatures of order tokens and links of ours, under a secret of their own: SECRET_KEY rotates without ending one."""

import base64
import hmac
from functools import lru_cache
from hashlib import sha256

from django.conf import settings

KEY_ID_LENGTH = 8


def sign(salt: str, value: str) -> str:
    """Return "key id.signature"; the id tells which secret it was made with."""
    return _sign(settings.ORDER_TOKEN_SECRET, salt, value)


def is_signed(salt: str, value: str, signature: str) -> bool:
    """Return whether the signature was made over this, under the secret of today or one of its fallbacks."""
    key_id = signature[:KEY_ID_LENGTH]
    for secret in (settings.ORDER_TOKEN_SECRET, *settings.ORDER_TOKEN_SECRET_FALLBACKS):
        if key_id == _key_id(secret):
            return signature.isascii() and hmac.compare_digest(signature, _sign(secret, salt, value))
    return False


def keyed_digest(salt: str, value: str) -> str:
    """Return what may rest in the database in place of the value: without the secret, guessing it shows nothing."""
    return _mac(settings.ORDER_TOKEN_SECRET, salt, value).hex()


def _sign(secret: str, salt: str, value: str) -> str:
    mac = base64.urlsafe_b64encode(_mac(secret, salt, value)).rstrip(b"=").decode()
    return f"{_key_id(secret)}.{mac}"


def _mac(secret: str, salt: str, value: str) -> bytes:
    # A key of its own for each purpose: what is signed for one never counts for another.
    return hmac.digest(sha256(f"{salt}{secret}".encode()).digest(), value.encode(), "sha256")


@lru_cache(maxsize=8)
def _key_id(secret: str) -> str:
    return sha256(b"bitloot.core.signing.id" + secret.encode()).hexdigest()[:KEY_ID_LENGTH]

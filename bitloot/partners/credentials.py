"""API keys as text, `blk_<prefix>_<secret>`, and the secrets that webhooks are signed with."""

import base64
import hmac
import re
import secrets
from hashlib import sha256
from typing import NamedTuple

from django.conf import settings

_KEY = re.compile(r"blk_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_SALT = b"bitloot.partners.webhooks"


class KeyText(NamedTuple):
    prefix: str
    secret: str

    def __str__(self) -> str:
        return f"blk_{self.prefix}_{self.secret}"


def new_key(prefix: str = "") -> KeyText:
    """Draw a key of 256 random bits, with a new prefix or a given one."""
    return KeyText(prefix or secrets.token_hex(4), secrets.token_urlsafe(32))


def read_key(text: str) -> KeyText | None:
    """Return the parts of what may be a key; nothing is looked up."""
    found = _KEY.fullmatch(text)
    return KeyText(*found.groups()) if found else None


def digest_of(key: KeyText) -> str:
    return sha256(key.secret.encode()).hexdigest()


def webhook_secrets(endpoint_id: object, generations: list[int]) -> list[str]:
    """Return the secrets to sign with, as `whsec_…`, today's first.

    Derived from ORDER_TOKEN_SECRET and the endpoint: no row holds one. While the former secret is a fallback, its
    signatures go out as well, so that receivers have the time to change theirs.
    """
    masters = (settings.ORDER_TOKEN_SECRET, *settings.ORDER_TOKEN_SECRET_FALLBACKS)
    return [_derived(master, f"{endpoint_id}:{number}") for number in generations for master in masters]


def _derived(master: str, name: str) -> str:
    # First under a salt: receivers hold these secrets, which must say nothing of the order tokens that it signs.
    secret = hmac.digest(hmac.digest(master.encode(), _SALT, "sha256"), name.encode(), "sha256")
    return f"whsec_{base64.b64encode(secret).decode()}"

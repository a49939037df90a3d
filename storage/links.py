"""Links to sealed keys that our own server honours, for as long as R2 does not hold them."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.conf import settings
from django.urls import reverse

from bitloot.core.signing import is_signed, sign
from storage.objects import KeyStore

_SALT = "storage.links"


@dataclass(frozen=True)
class SignedUrl:
    url: str = field(repr=False)
    expires_at: datetime


def sign_r2_url(store: KeyStore, name: str) -> SignedUrl | None:
    """Return R2's own link, or None if the store is not R2."""
    ttl = settings.SIGNED_URL_TTL_SECONDS
    # Taken before R2 signs: what the page is told must not outlast the link.
    expires = int(time.time()) + ttl
    url = store.signed_url(name, ttl)
    return None if url is None else SignedUrl(url, _at(expires))


def sign_own_url(name: str) -> SignedUrl:
    expires = int(time.time()) + settings.SIGNED_URL_TTL_SECONDS
    signature = sign(_SALT, f"{name}\n{expires}")
    path = reverse("object", args=[name])
    return SignedUrl(f"{settings.SITE_URL}{path}?expires={expires}&signature={signature}", _at(expires))


def is_valid(name: str, expires: str, signature: str) -> bool:
    # The signature is checked first, over the text as it came: anyone who makes up a link learns nothing else.
    return is_signed(_SALT, f"{name}\n{expires}", signature) and int(expires) > time.time()


def _at(timestamp: int) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)

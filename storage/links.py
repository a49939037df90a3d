"""Links to sealed keys that our own server honours, for as long as R2 does not hold them."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.conf import settings
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac

from storage.objects import KeyStore


@dataclass(frozen=True)
class SignedUrl:
    url: str = field(repr=False)
    expires_at: datetime


def sign_r2_url(store: KeyStore, name: str) -> SignedUrl | None:
    """Return R2's own link, or None if the store is not R2."""
    ttl = settings.SIGNED_URL_TTL_SECONDS
    expires = int(time.time()) + ttl
    url = store.signed_url(name, ttl)
    return None if url is None else SignedUrl(url, _at(expires))


def sign_own_url(name: str) -> SignedUrl:
    expires = int(time.time()) + settings.SIGNED_URL_TTL_SECONDS
    path = reverse("object", args=[name])
    return SignedUrl(
        f"{settings.SITE_URL}{path}?expires={expires}&signature={_signature(name, str(expires))}", _at(expires)
    )


def is_valid(name: str, expires: str, signature: str) -> bool:
    # The signature is checked first and over the text as it came: whoever made up a link learns nothing else.
    return constant_time_compare(signature, _signature(name, expires)) and int(expires) > time.time()


def _signature(name: str, expires: str) -> str:
    return salted_hmac("storage.links", f"{name}\n{expires}", algorithm="sha256").hexdigest()


def _at(timestamp: int) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)

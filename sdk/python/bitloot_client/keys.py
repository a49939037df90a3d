"""Opens keys as docs/key-format.md seals them: AES-256-GCM, with the place of the key as associated data."""

import base64
from dataclasses import dataclass

import httpx
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bitloot_client.rest.models import OpenableKey

ALGORITHM = "A256GCM"
LARGEST = 4 * 1024 * 1024


class KeyDamaged(Exception):
    """These bytes are not the key that was sealed, or it is sealed in a way that this client does not know."""


class KeyUnreachable(Exception):
    """The sealed key could be fetched from neither of its addresses. Call `reveal_keys` again for fresh ones."""


@dataclass(frozen=True)
class OpenedKey:
    product: str
    content_type: str  # text/plain, or the type of a picture
    content: bytes

    def __repr__(self) -> str:
        return f"OpenedKey(product={self.product!r}, content_type={self.content_type!r})"  # a key is in no log

    @property
    def text(self) -> str:
        return self.content.decode()


def fetch_and_open(key: OpenableKey, *, http: httpx.Client | None = None) -> OpenedKey:
    """Fetch the sealed key and open it. `http` must not carry the order's token: the object store is a third party."""
    with http or httpx.Client(timeout=30, follow_redirects=False) as client:
        return open_key(key, _fetch(client, key))


def open_key(key: OpenableKey, sealed: bytes) -> OpenedKey:
    """Open what `download_url` leads to. Raises KeyDamaged."""
    if key.algorithm != ALGORITHM:
        raise KeyDamaged(f"{key.algorithm} is unknown here; a newer client may know it")
    try:
        content = AESGCM(_decode(key.key)).decrypt(_decode(key.nonce), sealed, _decode(key.aad))
    except (InvalidTag, ValueError) as err:
        raise KeyDamaged("this is not the key that was sealed") from err
    return OpenedKey(key.product, key.content_type, content)


def _fetch(client: httpx.Client, key: OpenableKey) -> bytes:
    for address in (key.download_url, key.fallback_url):
        try:
            with client.stream("GET", address) as answer:
                if answer.status_code == httpx.codes.OK:
                    return _limited(answer)
        except httpx.HTTPError:
            continue
    raise KeyUnreachable(str(key.id))


def _limited(answer: httpx.Response) -> bytes:
    body = bytearray()
    for part in answer.iter_bytes():
        body += part
        if len(body) > LARGEST:
            raise KeyDamaged("far larger than any key")
    return bytes(body)


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

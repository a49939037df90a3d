import base64
import itertools
from datetime import timedelta
from decimal import Decimal
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.utils import timezone

from orders.models import Order, OrderEvent, OrderItem, Product
from storage.models import Key, KeyDeliveryLog
from storage.sealing import MasterKeys
from storage.services import KeyMaterial, Opener, store_key

_numbers = itertools.count(1)
OPENER = Opener(token="api", generation=1, network="127.0.0.0/24")
SERIAL = b"CANARY-AAAA-BBBB-CCCC"


def make_item(email: str = "ada@example.org", order: Order | None = None) -> OrderItem:
    number = next(_numbers)
    product = Product.objects.create(
        slug=f"game-{number}",
        title=f"Game {number}",
        price=Decimal("10.00"),
        supplier_product_id=f"p{number}",
        max_cost=Decimal("9.00"),
    )
    order = order or Order.objects.create(email=email, total=Decimal("10.00"), currency="EUR")
    return OrderItem.objects.create(
        order=order, product=product, title=product.title, quantity=1, unit_price=Decimal("10.00")
    )


def make_key(item: OrderItem | None = None, plaintext: bytes | None = None, content_type: str = "text/plain") -> Key:
    """Store a key: SERIAL if it is the first one, and another code each time after that."""
    number = next(_numbers)
    another = SERIAL + b"-%d" % number if Key.objects.exists() else SERIAL
    return store_key(
        item=item or make_item(),
        supplier_key_id=f"kinguin-{number}",
        plaintext=another if plaintext is None else plaintext,
        content_type=content_type,
    )


def claim(key: Key) -> Key:
    """Claim a key as the queue would, whatever its due time."""
    Key.objects.filter(pk=key.pk).update(next_attempt_at="2020-01-01T00:00:00Z", claim_token=None)
    (claimed,) = Key.objects.claim(only=key.pk)
    return claimed


def opened(material: KeyMaterial, ciphertext: bytes) -> bytes:
    """Open a key as the browser does: with what reveal hands out and the bytes behind the link."""
    raw = {name: base64.urlsafe_b64decode(getattr(material, name) + "==") for name in ("data_key", "nonce", "aad")}
    return AESGCM(raw["data_key"]).decrypt(raw["nonce"], ciphertext, raw["aad"])


def rotate(settings: Any) -> tuple[str, str]:
    """Change the master key; return the ids of the new and the old one."""
    settings.KEY_ENCRYPTION_SECRET, old = "n" * 43, settings.KEY_ENCRYPTION_SECRET
    settings.KEY_ENCRYPTION_SECRET_FALLBACKS = [old]
    return MasterKeys.from_secrets("n" * 43).primary.id, MasterKeys.from_secrets(old).primary.id


def end_retention(key: Key) -> None:
    KeyDeliveryLog.objects.filter(key=key).update(expires_at=timezone.now() - timedelta(seconds=1))


def timeline() -> list[tuple[str, str]]:
    return [(event.from_status, event.to_status) for event in OrderEvent.objects.filter(kind="key").order_by("id")]

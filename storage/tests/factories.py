import itertools
from decimal import Decimal

from orders.models import Order, OrderItem, Product
from storage.models import Key
from storage.services import Opener, store_key

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

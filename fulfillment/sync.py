"""What we sell, as the supplier has it now: cost, stock and texts, looked at when due, never more often than allowed.

`SupplierStock.due_at` is all there is of a schedule: a run that is cut off has lost nothing, and the next continues.
`product.update` only brings a look forward, so that thousands of them cost no more than one.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.core import limits
from bitloot.core.clock import delay
from bitloot.core.providers import Cause, ProviderError
from fulfillment import availability, kinguin, pricing
from fulfillment.kinguin import SOLD_OUT, KinguinClient, NotSupported, OutOfStock, SupplierProduct
from fulfillment.models import SupplierStock
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Product

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 600
LOOK_FOR_MISSING_SECONDS = 1800  # each of these costs a call of its own
SOON_SECONDS = 30  # in which all updates of a product are one look
PER_CALL = 20
DAY = 86_400
# Nothing that is asked next would be answered either.
_AWAY = (Cause.UNREACHABLE, Cause.CREDENTIALS, Cause.BUDGET)


class NoCallsLeft(Exception):
    """This minute's looks are used up."""


def on_sale() -> QuerySet[Product]:
    return Product.objects.filter(is_active=True)


def due() -> QuerySet[Product]:
    """Return the products on sale that are to be looked at, those that wait longest first."""
    is_due = Q(supplier_stock=None) | Q(supplier_stock__due_at__lte=Now())
    longest = F("supplier_stock__due_at").asc(nulls_first=True)
    return on_sale().filter(is_due).select_related("supplier_stock").order_by(longest, "pk")


def look_at_due(*, is_patient: bool = False) -> Iterator[int]:
    """Look at all that is due, as far as this minute's calls go; yield 1 for each product that was answered about.

    `is_patient` waits for the next minute's. Raises ProviderError if the supplier is away: what is left stays due.
    """
    # It ends because each look, even one that failed, moves `due_at`.
    while products := list(due()[:PER_CALL]):
        try:
            yield from _look_at(products)
        except NoCallsLeft:
            if not is_patient:
                return
            time.sleep(1)


def sweep() -> int:
    """Look at what is due; return how many products answered. A supplier that is away empties nothing."""
    answered = 0
    try:
        for number in look_at_due():
            answered += number
    except NotSupported:
        return 0
    except ProviderError as err:
        logger.warning("looking at products ends for now: %s", err)
    return answered


def look_again_at_all() -> None:
    """Make everything on sale due now."""
    SupplierStock.objects.filter(product__is_active=True).update(due_at=Now())


def expect_change(supplier_product_id: str) -> bool:
    """Look at a product of ours soon, because the supplier says that it changed; return whether it is one of ours."""
    # The supplier announces its whole catalogue. What we do not sell costs one look into a set, and no row.
    if supplier_product_id not in on_sale_in(int(time.time() // 60)):
        return False
    soon = Now() + delay(SOON_SECONDS)
    ours = Product.objects.filter(supplier_product_id=supplier_product_id, is_active=True)
    # Only brought forward: a stream of updates must not push the look away.
    SupplierStock.objects.filter(product__in=ours, due_at__gt=soon).update(due_at=soon)
    return True


@lru_cache(maxsize=1)
def on_sale_in(minute: int) -> frozenset[str]:
    """Return the supplier's ids of what we sell, read once in each minute by each process."""
    return frozenset(on_sale().values_list("supplier_product_id", flat=True))


def back_on_sale(product: Product) -> None:
    """Begin anew with a product that staff put on sale: its absence is over."""
    SupplierStock.objects.filter(product=product).update(gone_since=None, due_at=Now())
    close_alert(AlertKind.PRODUCT_GONE, product, by="automatic: it is on sale again")


def _look_at(products: Sequence[Product]) -> Iterator[int]:
    client = kinguin.client()
    found = _ask_for_all(client, products)
    for product in products:
        if product.supplier_product_id in found:
            _keep(product, found[product.supplier_product_id])
            yield 1
    # Last: each costs a call of its own, and there may be none left.
    for product in products:
        if product.supplier_product_id not in found and _look_alone(client, product):
            yield 1


def _ask_for_all(client: KinguinClient, products: Sequence[Product]) -> dict[str, SupplierProduct]:
    _take_a_call()
    try:
        return client.products([product.supplier_product_id for product in products])
    except ProviderError as err:
        if isinstance(err, NotSupported) or err.cause in _AWAY:
            raise
        logger.warning("the supplier's answer about many products is of no use, they are asked for singly: %s", err)
        return {}


def _look_alone(client: KinguinClient, product: Product) -> bool:
    """Ask about one that was missing among many; return whether the answer was of any use."""
    _take_a_call()
    try:
        _keep(product, client.product(product.supplier_product_id))
    except OutOfStock:
        _is_missing(client, product)
    except ProviderError as err:
        if err.cause in _AWAY:
            raise
        # Its turn comes again like everybody's, or a few that cannot be read would keep all others waiting.
        logger.warning("the supplier does not say whether it has %s: %s", product.slug, err)
        later = {"asked_at": Now(), "due_at": Now() + delay(LOOK_EVERY_SECONDS)}
        SupplierStock.objects.update_or_create(product=product, defaults=later)
        return False
    return True


def _keep(product: Product, described: SupplierProduct) -> None:
    availability.keep(product, described.quote, due_in=LOOK_EVERY_SECONDS, gone_since=None)
    # Read only now: while the supplier was asked, staff may have changed the rule, or set a price of their own instead.
    rule = pricing.rule_of(product, pricing.rules())
    if rule is not None and rule.is_automatic:
        pricing.apply([pricing.propose(rule, product)], rule, actor=pricing.AUTOMATIC)


def _is_missing(client: KinguinClient, product: Product) -> None:
    """Keep that the supplier does not know it, which it also says of what is sold out for a while."""
    stock = getattr(product, "supplier_stock", None)
    since = (stock.gone_since if stock is not None else None) or timezone.now()
    availability.keep(product, SOLD_OUT, due_in=LOOK_FOR_MISSING_SECONDS, gone_since=since)
    if timezone.now() - since >= delay(settings.PRODUCT_GONE_DAYS * DAY) and _has_a_catalogue(client):
        _take_off_sale(product)


def _has_a_catalogue(client: KinguinClient) -> bool:
    """Return whether the supplier shows anything at all: while it does not, that nothing is there means nothing."""
    _take_a_call()
    return bool(client.search().products)


def _take_off_sale(product: Product) -> None:
    sentence = (
        f"Kinguin has not known “{product.title}” for {settings.PRODUCT_GONE_DAYS} days, so it was taken off sale."
        " Enter another productId, or put it on sale again once Kinguin has it."
    )
    with transaction.atomic():
        # Of two looks at once, one takes it off sale and tells staff.
        if Product.objects.filter(pk=product.pk, is_active=True).update(is_active=False):
            raise_alert(AlertKind.PRODUCT_GONE, product, sentence)


def _take_a_call() -> None:
    window = max(1, round(60 / settings.CLOCK_SCALE))
    if limits.count("looks:kinguin", seconds=window) > settings.KINGUIN_LOOKS_PER_MINUTE:
        raise NoCallsLeft

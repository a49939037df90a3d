"""Could it be bought right now? Asked before a customer pays: stock, price against the cap, our balance and the gate.

The supplier is asked at most once a minute for a product, and nobody waits longer than two seconds for it. While it is
silent, what it said within the hour counts. The purchase asks again; this only keeps people from paying for nothing.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from decimal import Decimal
from functools import partial
from threading import BoundedSemaphore, Lock
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import BooleanField, Case, F, Q, When
from django.db.models.functions import Now, Round
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from bitloot.core import queries
from bitloot.core.clock import delay
from bitloot.core.database import leave_connection
from bitloot.core.providers import ProviderError
from fulfillment import kinguin
from fulfillment.exceptions import SoldOut
from fulfillment.kinguin import OutOfStock, Quote
from fulfillment.models import SupplierGate, SupplierStock
from fulfillment.steps.quoting import objection_to_quote
from orders.models import Order, Product

logger = logging.getLogger(__name__)

FRESH_SECONDS = 60
KNOWN_SECONDS = 3600
CUSTOMER_WAITS = 2.0
# The fields of a stock that are judged here.
_JUDGED = ("product", "price", "quantity", "text_quantity", "seen_at")

NOT_NOW = gettext_lazy(
    "We cannot buy keys at the moment, so we take no money for them. Nothing was charged. Please try again later."
)
EXPIRES = gettext_lazy("An order that nobody pays simply expires.")

_callers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="stock")
_asked: "dict[str, Future[Quote | None]]" = {}
_lock = Lock()
# Requests that may wait for the supplier at a time. The others go by what is known already, so that web has threads
# left for webhooks while the supplier is slow.
_seats = BoundedSemaphore(2)


def demand(order: Order) -> None:
    """Raise SoldOut if the keys of this order could not be bought now. Waits two seconds for the supplier at most."""
    items = list(order.items.select_related("product__supplier_stock"))
    _refresh([item.product for item in items if not is_younger(item.product, FRESH_SECONDS)])
    for item in items:
        if sentence := _objection(item.product, quantity=item.quantity, unit_price=item.unit_price):
            raise SoldOut(f"{sentence} {EXPIRES}")
    _demand_purchases([(item.product, item.quantity) for item in items], _gate())


def refuse_sold_out(lines: Sequence[tuple[Product, int]]) -> None:
    """Raise SoldOut for what `demand` would refuse by what the supplier said within the hour. Asks nobody."""
    known, gate = _look_up(lines)
    for product, quantity in known:
        if is_sold_out(product):
            raise SoldOut(_objection(product, quantity=1, unit_price=product.price))
        if is_sold_out(product, quantity):
            sentence = _(
                "We cannot get %(number)s keys of “%(title)s” at the moment. Nothing was charged. Choose fewer, or try"
                " again later."
            )
            raise SoldOut(sentence % {"number": quantity, "title": product.title})
    _demand_purchases(known, gate)


def _look_up(lines: Sequence[tuple[Product, int]]) -> tuple[list[tuple[Product, int]], SupplierGate | None]:
    """Give the products their stock; return those lines of whose product there is any, and the supplier's gate."""
    host = {"host": kinguin.client().host}
    known: list[tuple[Product, int]] = []
    gate = None
    for product, quantity in lines:
        # The gate in the same statement: one of its own was 3 % of the CPU that placing an order takes.
        found = queries.select_with(SupplierStock, {"product": product.pk}, SupplierGate, host, only=_JUDGED)
        if found:
            product.supplier_stock, gate = found[0]
            known.append((product, quantity))
    return known, gate if known else _gate()


def _gate() -> SupplierGate | None:
    return next(iter(queries.select(SupplierGate, {"host": kinguin.client().host})), None)


def is_sold_out(product: Product, quantity: int = 1) -> bool:
    """Whether the supplier said so within the hour; the product was read with its `supplier_stock`."""
    if not is_younger(product, KNOWN_SECONDS):
        return False
    return bool(_objection(product, quantity=quantity, unit_price=product.price))


def sold_out() -> Case:
    """Return `is_sold_out` as an expression over products, for the database to judge by."""
    is_text = Q(key_type=Product.KeyType.TEXT)
    too_few = Q(is_text, supplier_stock__text_quantity=0) | Q(~is_text, supplier_stock__quantity=0)
    # SQLite subtracts in binary: 9.99 - 8.05 is a little less than 1.94.
    most = Round(F("price") - F("min_margin"), precision=2)
    too_dear = Q(supplier_stock__price__gt=F("max_cost")) | Q(supplier_stock__price__gt=most)
    is_known = Q(supplier_stock__seen_at__gt=timezone.now() - delay(KNOWN_SECONDS))
    return Case(When(is_known & (too_few | too_dear), then=True), default=False, output_field=BooleanField())


def is_younger(product: Product, seconds: float) -> bool:
    """Whether the supplier gave a usable answer about the product within that time."""
    stock = _stock(product)
    return stock is not None and stock.seen_at is not None and timezone.now() - stock.seen_at < delay(seconds)


def keep(product: Product, quote: Quote | None, *, due_in: float | None = None, **known: Any) -> None:
    """Keep what the supplier said; `due_in` seconds it is looked at again. `known` are other columns of the row."""
    if quote is None:  # no catalogue in this dialect
        return
    now = timezone.now()
    said = {
        "price": quote.price if quote.qty else None,
        "quantity": quote.qty,
        "text_quantity": quote.text_qty,
        "asked_at": now,
        "seen_at": now,
        **({"gone_since": None} if quote.qty else {}),
        # By the database's clock, which says what is due.
        **({} if due_in is None else {"due_at": Now() + delay(due_in)}),
        **known,
    }
    product.supplier_stock, _ = SupplierStock.objects.update_or_create(product=product, defaults=said)


def _quote(supplier_product_id: str) -> Quote | None:
    try:
        return kinguin.client().quote(supplier_product_id)
    except OutOfStock:
        return kinguin.SOLD_OUT


def _refresh(products: list[Product]) -> None:
    if not products:
        return
    # Up to two seconds pass here, and web has four connections for all its threads.
    leave_connection()
    calls = {product: _ask(product.supplier_product_id) for product in products}
    has_seat = _seats.acquire(blocking=False)
    try:
        done, _late = wait(calls.values(), timeout=CUSTOMER_WAITS if has_seat else 0)
    finally:
        if has_seat:
            _seats.release()
    for product, call in calls.items():
        if call in done:
            _record(product, call)
        else:
            # The next customer has it, also if nobody waits for this answer any more.
            call.add_done_callback(partial(_record_later, product))


def _ask(supplier_product_id: str) -> "Future[Quote | None]":
    """Ask the supplier, or join who is asking for this product already."""
    with _lock:
        running = _asked.get(supplier_product_id)
        if running is not None and not running.done():
            return running
        call = _asked[supplier_product_id] = _callers.submit(_quote, supplier_product_id)
    # It may drop the newer call of another thread. Nobody joins that one then: one call more, and no harm.
    call.add_done_callback(lambda _: _asked.pop(supplier_product_id, None))
    return call


def _record(product: Product, call: "Future[Quote | None]") -> None:
    try:
        keep(product, call.result())
    except ProviderError as err:
        logger.warning("the supplier does not say whether it has %s: %s", product.slug, err)


def _record_later(product: Product, call: "Future[Quote | None]") -> None:
    try:
        _record(product, call)
    except Exception:
        logger.exception("what the supplier said of %s could not be kept", product.slug)
    finally:
        connection.close()  # this thread serves no request, so Django does not close it for us


def _stock(product: Product) -> SupplierStock | None:
    return getattr(product, "supplier_stock", None)


def _objection(product: Product, *, quantity: int, unit_price: Decimal) -> str | None:
    """Return a customer's sentence about what the supplier last said; None also where it never said anything."""
    stock = _stock(product)
    if stock is None or stock.seen_at is None:
        return None  # new: the product's form asked the supplier when it was saved
    if not is_younger(product, KNOWN_SECONDS):
        sentence = _(
            "Our supplier does not answer, so we cannot promise you “%(title)s”. Nothing was charged. Try again later,"
            " or choose another game."
        )
        return sentence % {"title": product.title}
    quote = Quote(price=stock.price or Decimal(0), qty=stock.quantity, text_qty=stock.text_quantity)
    if objection_to_quote(product, quote, quantity=quantity, unit_price=unit_price) is None:
        return None
    sentence = _("“%(title)s” is sold out at the moment. Nothing was charged. Try again later, or choose another game.")
    return sentence % {"title": product.title}


def _demand_purchases(lines: Sequence[tuple[Product, int]], gate: SupplierGate | None) -> None:
    """Raise SoldOut while we could not buy this, whatever the supplier has."""
    # A paused gate is a silent supplier, and that was judged by what it said within the hour.
    if settings.SAFE_MODE or (gate is not None and gate.status == SupplierGate.Status.STOPPED):
        raise SoldOut(str(NOT_NOW))
    if gate is not None and gate.balance is not None and gate.balance < _price_of(lines):
        raise SoldOut(str(NOT_NOW))


def _price_of(lines: Sequence[tuple[Product, int]]) -> Decimal:
    """Return what the supplier asks for these, as far as it said so within the hour."""
    prices = [
        (stock.price, quantity)
        for product, quantity in lines
        if (stock := _stock(product)) is not None and is_younger(product, KNOWN_SECONDS)
    ]
    return sum((price * quantity for price, quantity in prices if price is not None), Decimal(0))

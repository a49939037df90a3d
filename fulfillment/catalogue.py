"""The supplier's catalogue: searching it, and making one of its products a product of ours."""

import html
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from django.core.cache import cache
from django.db import connection, transaction
from django.utils.text import slugify

from bitloot.core import limits, queries
from bitloot.core.money import CENT
from bitloot.core.providers import ProviderError
from fulfillment import availability, kinguin, pricing
from fulfillment.kinguin import Found, Lookups, OutOfStock, SupplierProduct
from fulfillment.models import PriceRule
from fulfillment.pictures import NotFetched, fetch
from fulfillment.services import KINGUIN_PRODUCT
from fulfillment.sync import LOOK_EVERY_SECONDS
from orders import covers
from orders.models import Product

logger = logging.getLogger(__name__)

MAX_TEXT = 10_000
ONE_AT_A_TIME_SECONDS = 30  # a button that is pressed twice imports once
LOOKUPS_KEPT_SECONDS = 86_400
# Each of these begins a new line; all else in angle brackets goes, scripts with what is in them.
_LINES = {"p", "br", "div", "li", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "table", "blockquote"}
# Held until the transaction ends. The seed sets it apart from the other locks.
_LOCK_IMPORTS = "SELECT pg_advisory_xact_lock(hashtextextended('fulfillment.import', 21))"
_TAG = re.compile(r"<(/?)(\w+)>")


class NotImported(Exception):
    """The product was not imported; the message says why, and what to do."""


@dataclass(frozen=True)
class Imported:
    """The outcome of an import. `notes` are sentences for staff."""

    product: Product
    is_new: bool
    notes: tuple[str, ...] = ()


def search(*, name: str = "", platform: str = "", region: int | None = None, page: int = 1) -> Found:
    """Search the supplier's catalogue. Raises ProviderError; NotSupported says that the dialect has none."""
    return kinguin.client().search(name=name, platform=platform, region=region, page=page)


def lookups() -> Lookups:
    """Return what a search may be narrowed by, asked once a day; nothing while the supplier does not say."""
    if kept := cache.get("kinguin-lookups"):
        platforms, regions = kept  # as lists, where Redis keeps them
        return Lookups(tuple(platforms), tuple((number, name) for number, name in regions))
    try:
        found = kinguin.client().lookups()
    except ProviderError as err:
        logger.warning("the supplier names no platforms and regions: %s", err)
        return Lookups()
    cache.set("kinguin-lookups", [found.platforms, found.regions], LOOKUPS_KEPT_SECONDS)
    return found


def ours(found: Sequence[SupplierProduct]) -> dict[str, Product]:
    """Return those of the found products that are ours already, by the supplier's id."""
    ids = [product.product_id for product in found]
    return {product.supplier_product_id: product for product in Product.objects.filter(supplier_product_id__in=ids)}


def describe(product_id: str) -> SupplierProduct:
    """Return what may be imported. Raises NotImported, or ProviderError."""
    _demand_form(product_id)
    try:
        described = kinguin.client().product(product_id)
    except OutOfStock as err:
        raise NotImported("Kinguin has no such product, or nobody sells it there now. Try again later.") from err
    if described.is_preorder:
        raise NotImported("It is a pre-order, whose key comes some day after the release. BitLoot does not sell those.")
    return described


def import_product(product_id: str, *, actor: str, refresh: bool = False) -> Imported:
    """Make a product of the supplier's ours, off sale until staff put it on sale.

    One that is ours already stays as it is; with `refresh` its texts, facts and cover are taken anew, and never its
    title, price or place in the shop. Raises NotImported, or ProviderError.
    """
    _demand_form(product_id)
    existing = Product.objects.filter(supplier_product_id=product_id).first()
    if existing is not None and not refresh:
        return Imported(existing, is_new=False, notes=("It is ours already; nothing was changed.",))
    if existing is None and limits.count(f"import:{product_id}", seconds=ONE_AT_A_TIME_SECONDS) > 1:
        raise NotImported("It is being imported just now. Look at the list of products in half a minute.")
    described = describe(product_id)
    picture, notes = _picture(described)
    facts = _facts(described) | ({"picture": picture} if picture else {})
    if existing is not None:
        # These columns only: meanwhile staff may have changed the price.
        Product.objects.filter(pk=existing.pk).update(**facts)
        existing.refresh_from_db()
        return Imported(existing, is_new=False, notes=(*notes, "Its texts and facts are those of Kinguin now."))
    product, priced = _create(described, facts, actor=actor)
    return Imported(product, is_new=True, notes=(priced, *notes))


def plain_text(markup: str) -> str:
    """Return what a text of theirs says, without markup: pages show it as text, in paragraphs."""
    import nh3  # only where it is used: it takes 1.5 MiB of a process

    safe = nh3.clean(markup, tags=_LINES, attributes={}, link_rel=None)
    if _TAG.search(safe):
        safe = " ".join(safe.split())  # where tags make the lines, those of the source make none
    # Unescaped last: a “&lt;b&gt;” of theirs is text, and must not be taken for a tag.
    text = html.unescape(_TAG.sub(_as_line, safe))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    said = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    # Without controls and bidi marks, which would reorder what stands beside them on our pages.
    return "".join(letter for letter in said if letter == "\n" or letter.isprintable())[:MAX_TEXT]


def _as_line(tag: re.Match[str]) -> str:
    if tag[2] == "li":
        return "" if tag[1] else "\n- "
    return "\n" if tag[2] in ("br", "div", "tr") else "\n\n"


def _demand_form(product_id: str) -> None:
    if not KINGUIN_PRODUCT.fullmatch(product_id):
        raise NotImported("Kinguin's productId has 24 digits from 0-9 and a-f; the short kinguinId is another one.")


def _facts(described: SupplierProduct) -> dict[str, object]:
    return {
        "description": plain_text(described.description),
        "activation": plain_text(described.activation),
        "platform": _one_line(described.platform, 40),
        "region": _region(described.region),
        "genres": [_one_line(genre, 40) for genre in described.genres],
        "age_rating": _one_line(described.age_rating, 20),
        "release_date": described.release_date,
    }


def _region(name: str) -> str:
    """Write “REGION FREE” as the shop does; short names like “UK” stay as they are."""
    said = _one_line(name, 40)
    return said.capitalize() if said.isupper() and len(said) > 3 else said


def _create(described: SupplierProduct, facts: dict[str, object], *, actor: str) -> tuple[Product, str]:
    """Create it with a rule's price, or else at cost, which nobody can put on sale unseen."""
    # Of a name that is nothing but markup or invisible signs, nothing is left.
    title = _one_line(described.name, 120) or f"Kinguin {described.product_id}"
    cost = max(described.price.quantize(CENT, ROUND_UP), CENT)
    product = Product(
        title=title,
        price=cost,
        max_cost=cost,
        key_type=Product.KeyType.IMAGE if described.qty and not described.text_qty else Product.KeyType.TEXT,
        supplier_product_id=described.product_id,
        is_active=False,
        **facts,
    )
    rule = _price(product, cost) if described.price else None
    with transaction.atomic():
        if connection.vendor == "postgresql":
            # One by one: of two at once both would find the same address free, or both make the same product ours.
            queries.execute(_LOCK_IMPORTS, [])
        if Product.objects.filter(supplier_product_id=described.product_id).exists():
            raise NotImported("It was imported just now by somebody else. Look at the list of products.")
        product.slug = _free_slug(title, described)
        product.save(force_insert=True)
        availability.keep(product, described.quote, due_in=LOOK_EVERY_SECONDS)
        pricing.record_first(product, actor=actor, rule=rule.name if rule else "", cost=described.price or None)
    if rule is None:
        why = (
            "No rule prices it: it stands at its cost"
            if described.price
            else "Kinguin names no price now: it stands at the least"
        )
        return product, f"{why}, {cost} EUR. Set a price before you put it on sale."
    follows = f"Its price of {product.price} EUR follows the rule “{rule.name}”. Look it over, then put it on sale."
    return product, follows


def _price(product: Product, cost: Decimal) -> PriceRule | None:
    """Price it by the rule of its platform, and return that; None if there is none, or it makes no price."""
    rule = pricing.rule_of(product, pricing.rules())
    price = pricing.price_for(rule, cost, min_margin=product.min_margin) if rule is not None else None
    if rule is None or price is None:
        return None
    product.price, product.max_cost = price, max(price - rule.least_margin, CENT)
    return rule


def _picture(described: SupplierProduct) -> tuple[str, tuple[str, ...]]:
    """Fetch and keep the cover; a product without one is imported all the same."""
    if not described.cover_url:
        return "", ("Kinguin has no cover of it; upload one.",)
    try:
        return covers.keep(fetch(described.cover_url)), ()
    except (NotFetched, covers.BadPicture, OSError) as err:
        logger.warning("no cover of %s: %s", described.product_id, err)
        return "", (f"Its cover could not be fetched ({err}); upload one.",)


def _free_slug(title: str, described: SupplierProduct) -> str:
    wanted = slugify(title)[:80].strip("-") or f"game-{described.number}"
    # The short number first; where they name none, several products of one title would share it.
    numbered = (f"{wanted[:54].rstrip('-')}-{number}" for number in (described.number, described.product_id))
    taken = set(Product.objects.filter(slug__startswith=wanted[:54]).values_list("slug", flat=True))
    return next(slug for slug in (wanted, *numbered) if slug not in taken)


def _one_line(text: str, most: int) -> str:
    said = " ".join(plain_text(text).split())
    return said if len(said) <= most else f"{said[: most - 1].rstrip()}…"

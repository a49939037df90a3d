"""Prices that follow from the supplier's: what a rule makes of a cost, what it would change, and the record of it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from hashlib import sha256
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused
from bitloot.core.money import CENT
from fulfillment.availability import KNOWN_SECONDS, is_younger
from fulfillment.models import PriceChange, PriceRule
from orders.models import Product

AUTOMATIC = "automatic"
NINETY_NINE = Decimal("0.99")
NOTHING_CHANGES = "No price would change."
CHANGED_MEANWHILE = "What this form showed has changed meanwhile. Look again, then decide."
AT_ONCE = 500  # prices that one statement changes
# What a proposal is made of; the rest is the supplier's word.
_MADE_OF = ("platform", "price", "max_cost", "min_margin")
_NEEDED = (
    *("title", *_MADE_OF),
    *("supplier_stock__price", "supplier_stock__seen_at"),
)


@dataclass(frozen=True)
class Proposal:
    """What a rule makes of one product. Without a price it stays as it is, and the note says why."""

    product: Product
    cost: Decimal | None
    price: Decimal | None
    note: str = ""

    @property
    def changes(self) -> bool:
        return self.price is not None and self.price != self.product.price


def price_for(rule: PriceRule, cost: Decimal, *, min_margin: Decimal = Decimal(0)) -> Decimal | None:
    """Return the rule's price for what costs this much, or None if its cap leaves too little."""
    lowest = max(cost + max(rule.least_margin, min_margin), rule.floor or CENT, CENT)
    wanted = max(cost * (100 + rule.margin) / 100, lowest).quantize(CENT, ROUND_UP)
    is_whole = rule.ending == PriceRule.Ending.EXACT
    tried = [wanted] if is_whole else [int(wanted) + NINETY_NINE]
    if rule.cap is not None:
        # The next ending below the cap, or the cap itself where none fits.
        tried += ([] if is_whole else [int(rule.cap + CENT) - CENT]) + [rule.cap]
    return next((price for price in tried if lowest <= price <= (rule.cap or price)), None)


def rules() -> dict[str, PriceRule]:
    """Return the rules by platform; the one for "" is for all that have none of their own."""
    return {rule.platform: rule for rule in PriceRule.objects.all()}


def rule_of(product: Product, known: dict[str, PriceRule]) -> PriceRule | None:
    return known.get(product.platform) or known.get("")


def propose(rule: PriceRule, product: Product) -> Proposal:
    """Return what the rule makes of a product that was read with its `supplier_stock`."""
    stock = getattr(product, "supplier_stock", None)
    if stock is None or stock.price is None:
        return Proposal(product, None, None, "The supplier has none, or was not asked yet.")
    if not is_younger(product, KNOWN_SECONDS):
        return Proposal(product, stock.price, None, "What the supplier said is more than an hour old.")
    price = price_for(rule, stock.price, min_margin=product.min_margin)
    if price is None:
        return Proposal(product, stock.price, None, "The rule's cap leaves less than the least margin.")
    above = "It costs more than its own cap allows, and stays sold out." if stock.price > product.max_cost else ""
    return Proposal(product, stock.price, price, above)


def preview(rule: PriceRule, products: QuerySet[Product] | None = None) -> Iterator[Proposal]:
    """Yield what the rule would make of these products, or of every product that it is for."""
    rows = _products_of(rule) if products is None else products
    needed = rows.select_related("supplier_stock").only(*_NEEDED).order_by("pk")
    return (propose(rule, product) for product in needed.iterator(chunk_size=1000))


def digest_of(proposals: Iterable[Proposal]) -> str:
    """Stand for every price that would change, also for those that a page does not show."""
    changes = "".join(f"{one.product.pk}{one.product.price}{one.price}" for one in proposals if one.changes)
    return sha256(changes.encode()).hexdigest()


def apply_rule(rule: PriceRule, *, actor: str) -> int:
    """Change the prices as the preview said. Raises DecisionRefused if nothing would change, or something has moved."""
    return _apply_all([proposal for proposal in preview(rule) if proposal.changes], rule, actor=actor)


def reprice(rule: PriceRule, products: QuerySet[Product], *, actor: str, seen: str) -> list[Product]:
    """Change the prices of these products as a preview with the digest `seen` said; return those that are other ones.

    Raises DecisionRefused if there is nothing to change, or if something has moved since the preview.
    """
    with transaction.atomic():
        # Two members of staff sent the same form: the second waits here, then finds the first one's prices.
        locked = PriceRule.objects.select_for_update().get(pk=rule.pk)
        changing = [proposal for proposal in preview(locked, products) if proposal.changes]
        if digest_of(changing) != seen:
            raise DecisionRefused(CHANGED_MEANWHILE)
        _apply_all(changing, locked, actor=actor)
    return [proposal.product for proposal in changing]


@transaction.atomic
def _apply_all(changing: Sequence[Proposal], rule: PriceRule, *, actor: str) -> int:
    """Set every one of these prices, or none. Raises DecisionRefused."""
    if not changing:
        raise DecisionRefused(NOTHING_CHANGES)
    parts = (changing[start : start + AT_ONCE] for start in range(0, len(changing), AT_ONCE))
    changed = sum(apply(part, rule, actor=actor) for part in parts)
    if changed < len(changing):
        raise DecisionRefused(CHANGED_MEANWHILE)
    return changed


def apply(proposals: Sequence[Proposal], rule: PriceRule, *, actor: str) -> int:
    """Set the proposed prices, with the products locked; return how many are other ones. Placed orders keep theirs.

    A product that staff have changed since its proposal was made stays as they want it.
    """
    prices = {proposal.product.pk: proposal for proposal in proposals if proposal.changes}
    if not prices:
        return 0
    changes: list[PriceChange] = []
    groups: dict[tuple[Decimal, Decimal], list[UUID]] = defaultdict(list)
    with transaction.atomic():
        # By pk: two rules at once would otherwise wait for each other's rows. No key: orders that are being placed
        # refer to these rows in a sequence of their own.
        for product in Product.objects.select_for_update(no_key=True).filter(pk__in=prices).order_by("pk"):
            proposal = prices[product.pk]
            if not _is_as_read(product, proposal):
                continue
            price = proposal.price or product.price
            changes += _change(product, price, actor=actor, rule=rule.name, cost=proposal.cost)
            # Our own cap follows downwards only: to pay more for a key than before is for staff to decide.
            most = price - max(rule.least_margin, product.min_margin)
            groups[price, max(min(product.max_cost, most), CENT)].append(product.pk)
        # Many end with the same price. bulk_update would build an expression for each row, in three times the time.
        for (price, max_cost), pks in groups.items():
            Product.objects.filter(pk__in=pks).update(price=price, max_cost=max_cost)
        PriceChange.objects.bulk_create(changes)
    return len(changes)


def _is_as_read(locked: Product, proposal: Proposal) -> bool:
    return all(getattr(locked, name) == getattr(proposal.product, name) for name in _MADE_OF)


def record(product: Product, price: Decimal, *, actor: str, cost: Decimal | None) -> None:
    """Write down that staff give the product, as it was before, this price."""
    PriceChange.objects.bulk_create(_change(product, price, actor=actor, rule="", cost=cost))


def record_first(product: Product, *, actor: str, rule: str = "", cost: Decimal | None = None) -> None:
    """Write down the price that a new product begins with."""
    PriceChange.objects.create(product=product, actor=actor, rule=rule, new_price=product.price, cost=cost)


def _change(product: Product, price: Decimal, *, actor: str, rule: str, cost: Decimal | None) -> list[PriceChange]:
    if product.price == price:
        return []
    return [PriceChange(product=product, actor=actor, rule=rule, old_price=product.price, new_price=price, cost=cost)]


def _products_of(rule: PriceRule) -> QuerySet[Product]:
    if rule.platform:
        return Product.objects.filter(platform=rule.platform)
    return Product.objects.exclude(platform__in=PriceRule.objects.exclude(platform="").values("platform"))


def _objection(rule: PriceRule) -> str | None:
    return None if any(proposal.changes for proposal in preview(rule)) else NOTHING_CHANGES


APPLY = Decision(
    name="apply",
    label="Change these prices",
    permission="fulfillment.apply_pricerule",
    objection=_objection,
    carry_out=apply_rule,
    done="the prices are changed; orders that were placed keep theirs",
    consequence="Every price in the table changes at once. Orders that were placed keep theirs.",
    form=ConfirmForm,
)

"""Prices that follow from the supplier's: what a rule makes of a cost, what it would change, and the record of it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from uuid import UUID

from django.db import transaction

from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused
from bitloot.core.money import CENT
from fulfillment.availability import KNOWN_SECONDS, is_younger
from fulfillment.models import PriceChange, PriceRule
from orders.models import Product

AUTOMATIC = "automatic"
NINETY_NINE = Decimal("0.99")
AT_ONCE = 500  # prices that one statement changes
_NEEDED = (
    *("title", "platform", "price", "max_cost", "min_margin"),
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


def preview(rule: PriceRule) -> Iterator[Proposal]:
    """Yield what the rule would make of every product that it is for."""
    return (propose(rule, product) for product in _products_of(rule))


def apply_rule(rule: PriceRule, *, actor: str) -> int:
    """Change the prices as the preview said. Raises DecisionRefused if there is nothing to change."""
    changing = [proposal for proposal in preview(rule) if proposal.changes]
    parts = (changing[start : start + AT_ONCE] for start in range(0, len(changing), AT_ONCE))
    changed = sum(apply(part, rule, actor=actor) for part in parts)
    if not changed:
        raise DecisionRefused("No price would change.")
    return changed


def apply(proposals: Sequence[Proposal], rule: PriceRule, *, actor: str) -> int:
    """Set the proposed prices; return how many are other ones. Orders that were placed keep theirs."""
    prices = {proposal.product.pk: proposal for proposal in proposals if proposal.changes}
    if not prices:
        return 0
    changes: list[PriceChange] = []
    groups: dict[tuple[Decimal, Decimal], list[UUID]] = defaultdict(list)
    with transaction.atomic():
        for product in Product.objects.select_for_update().filter(pk__in=prices).order_by("pk"):
            proposal = prices[product.pk]
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


def _products_of(rule: PriceRule) -> Iterator[Product]:
    others = PriceRule.objects.exclude(platform="").values("platform")
    products = Product.objects.select_related("supplier_stock").only(*_NEEDED).order_by("pk")
    its = products.filter(platform=rule.platform) if rule.platform else products.exclude(platform__in=others)
    return its.iterator(chunk_size=1000)


def _objection(rule: PriceRule) -> str | None:
    return None if any(proposal.changes for proposal in preview(rule)) else "No price would change."


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

"""Prices that follow from the supplier's: what a rule makes of a cost, what it would change, and the record of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from django.db import transaction

from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused
from bitloot.core.money import CENT
from fulfillment.availability import KNOWN_SECONDS, is_younger
from fulfillment.models import PriceChange, PriceRule
from orders.models import Product

AUTOMATIC = "automatic"
NINETY_NINE = Decimal("0.99")


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
    wanted = max(cost * (1 + rule.margin / 100), lowest).quantize(CENT, ROUND_UP)
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


def preview(rule: PriceRule) -> list[Proposal]:
    """Return what the rule would make of every product that it is for."""
    return [propose(rule, product) for product in _products_of(rule)]


def apply_rule(rule: PriceRule, *, actor: str) -> int:
    """Change the prices as the preview said. Raises DecisionRefused if there is nothing to change."""
    changed = sum(apply(proposal, rule, actor=actor) for proposal in preview(rule))
    if not changed:
        raise DecisionRefused("No price would change.")
    return changed


def apply(proposal: Proposal, rule: PriceRule, *, actor: str) -> bool:
    """Set the proposed price; return whether it is another one. Orders that were placed keep theirs."""
    if proposal.price is None or not proposal.changes:
        return False
    with transaction.atomic():
        product = Product.objects.select_for_update().get(pk=proposal.product.pk)
        # Our own cap follows downwards only: to pay more for a key than before is for staff to decide.
        most = proposal.price - max(rule.least_margin, product.min_margin)
        max_cost = max(min(product.max_cost, most), CENT)
        Product.objects.filter(pk=product.pk).update(price=proposal.price, max_cost=max_cost)
        return record(product, proposal.price, actor=actor, rule=rule.name, cost=proposal.cost)


def record(
    product: Product, price: Decimal, *, actor: str, rule: str = "", cost: Decimal | None = None, is_new: bool = False
) -> bool:
    """Write down that the product, as it was before, gets this price; return whether that is a change."""
    if product.price == price and not is_new:
        return False
    before = None if is_new else product.price
    PriceChange.objects.create(product=product, actor=actor, rule=rule, old_price=before, new_price=price, cost=cost)
    return True


def _products_of(rule: PriceRule) -> Iterator[Product]:
    others = PriceRule.objects.exclude(platform="").values("platform")
    products = Product.objects.select_related("supplier_stock").order_by("pk")
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

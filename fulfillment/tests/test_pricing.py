"""What a rule makes of a cost, and that nobody's price falls below what the key costs."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from bitloot.core.decisions import DecisionRefused
from fulfillment import pricing
from fulfillment.models import PriceChange, PriceRule
from fulfillment.pricing import price_for
from fulfillment.tests.world import paid, stock_up
from orders.models import Product
from orders.tests.database import between
from orders.tests.factories import make_order

pytestmark = [pytest.mark.django_db, pytest.mark.once]
D = Decimal


def rule(margin="20", **fields):
    return PriceRule(name="Steam", margin=D(margin), **fields)


TABLE = [  # cost, the rule, the product's minimum margin, the price
    ("10.00", rule(), "0", "12.99"),
    ("10.00", rule(ending="exact"), "0", "12.00"),
    ("9.99", rule("10"), "0", "10.99"),
    ("9.08", rule("10"), "0", "9.99"),  # 9.988 is rounded up, never down
    ("9.09", rule("10", ending="exact"), "0", "10.00"),
    ("0.00", rule(), "0", "0.99"),
    ("0.01", rule("0", ending="exact"), "0", "0.01"),
    ("10.00", rule("5", least_margin=D(2)), "0", "12.99"),
    ("10.00", rule("5", least_margin=D(2), ending="exact"), "0", "12.00"),
    ("10.00", rule("5", ending="exact"), "3.50", "13.50"),  # the product's own minimum counts, too
    ("1.00", rule(floor=D("4.50")), "0", "4.99"),
    ("1.00", rule(floor=D("4.50"), ending="exact"), "0", "4.50"),
    ("10.00", rule("50", cap=D("12.50")), "0", "11.99"),
    ("10.00", rule("50", cap=D("11.99")), "0", "11.99"),
    ("10.00", rule("50", cap=D("12.50"), ending="exact"), "0", "12.50"),
    ("10.00", rule("50", cap=D("10.50")), "0", "10.50"),  # no .99 fits between the cost and the cap
    ("10.00", rule("50", cap=D("10.50")), "0.51", None),
    ("10.00", rule("50", cap=D("9.00")), "0", None),
    ("10.00", rule("0", cap=D("10.00")), "0", "10.00"),
]


@pytest.mark.parametrize(("cost", "by", "least", "price"), TABLE)
def test_a_rule_makes_a_price(cost, by, least, price):
    assert price_for(by, D(cost), min_margin=D(least)) == (None if price is None else D(price))


amounts = st.decimals(min_value=0, max_value=5000, places=2)


@given(
    cost=amounts, margin=st.decimals(0, 1000, places=2), least=amounts, own=amounts, floor=st.none() | amounts,
    room=st.none() | amounts, ending=st.sampled_from(PriceRule.Ending.values),
)  # fmt: skip
def test_no_rule_sells_at_a_loss(cost, margin, least, own, floor, room, ending):
    floor = floor or None
    cap = None if room is None else (floor or 0) + room or None
    by = PriceRule(margin=margin, least_margin=least, floor=floor, cap=cap, ending=ending)
    price = price_for(by, cost, min_margin=own)
    lowest = max(cost + max(least, own), floor or 0)
    if price is None:
        assert cap is not None
        assert cap < max(lowest, D("0.01"))
        return
    assert max(lowest, D("0.01")) <= price <= (cap or price)
    assert price == price.quantize(D("0.01"))
    if cap is None:
        assert price >= cost * (1 + margin / 100)


# --- applied


def make_rule(**fields):
    return PriceRule.objects.create(**{"name": "All", "margin": D(50), **fields})


def stocked(product, cost, **fields):
    Product.objects.filter(pk=product.pk).update(**fields)
    stock = stock_up(product).supplier_stock
    stock.price = cost
    stock.save()
    return product


def test_the_rule_of_the_platform_comes_before_that_of_all_others(product, picture):
    stocked(product, D("5"), platform="PC Steam")
    stocked(picture, D("5"), platform="Switch")
    everything, steam = make_rule(), make_rule(name="Steam", platform="PC Steam", margin=D(10))
    assert [one.product for one in pricing.preview(steam)] == [product]
    assert [one.product for one in pricing.preview(everything)] == [picture]
    known = pricing.rules()
    product.refresh_from_db()
    picture.refresh_from_db()
    assert (pricing.rule_of(product, known), pricing.rule_of(picture, known)) == (steam, everything)


def test_applying_changes_what_the_preview_said_and_writes_it_down(product):
    stocked(product, D("5.00"))
    by = make_rule(least_margin=D(1))
    (shown,) = pricing.preview(by)
    assert (shown.cost, shown.price, shown.changes, shown.note) == (D("5.00"), D("7.99"), True, "")
    assert pricing.apply_rule(by, actor="kim") == 1
    product.refresh_from_db()
    assert (product.price, product.max_cost) == (D("7.99"), D("6.99"))  # what we would pay follows downwards
    product.clean()
    change = PriceChange.objects.get()
    assert (change.actor, change.rule, change.old_price, change.new_price, change.cost) == (
        "kim", "All", D("9.99"), D("7.99"), D("5.00")
    )  # fmt: skip
    with pytest.raises(DecisionRefused):
        pricing.apply_rule(by, actor="kim")
    assert PriceChange.objects.count() == 1


def test_a_least_margin_that_staff_raise_after_the_preview_was_read_stays_kept(product):
    stocked(product, D("5.00"))
    by = make_rule()
    with (
        between("orders_product", lambda: Product.objects.update(min_margin=D(4))),
        pytest.raises(DecisionRefused, match="has changed meanwhile"),
    ):
        pricing.apply_rule(by, actor="kim")
    product.refresh_from_db()
    assert product.price == D("9.99")
    assert not PriceChange.objects.exists()


def test_our_own_cap_is_never_raised(product):
    stocked(product, D("9.00"))
    by = make_rule()
    (shown,) = pricing.preview(by)
    assert shown.note == "It costs more than its own cap allows, and stays sold out."
    pricing.apply_rule(by, actor="kim")
    product.refresh_from_db()
    assert (product.price, product.max_cost) == (D("13.99"), D("8.50"))


def test_what_nobody_knows_the_cost_of_stays_as_it_is(product, picture):
    make_rule()
    stocked(picture, D("5")).supplier_stock.__class__.objects.update(seen_at=timezone.now() - timedelta(hours=2))
    notes = {one.product: one.note for one in pricing.preview(PriceRule.objects.get())}
    assert notes[product] == "The supplier has none, or was not asked yet."
    assert notes[picture] == "What the supplier said is more than an hour old."
    assert not any(one.changes for one in pricing.preview(PriceRule.objects.get()))


def test_orders_that_were_placed_keep_their_prices(product):
    stocked(product, D("2.00"))
    order = paid((product, 1))
    pricing.apply_rule(make_rule(), actor="kim")
    product.refresh_from_db()
    assert (order.items.get().unit_price, product.price) == (D("9.99"), D("3.99"))


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_orders_that_are_being_placed_and_new_prices_do_not_wait_for_each_other(product, picture):
    """An order holds its products in its own order: if each waited for the other, PostgreSQL would end one of them."""
    stocked(product, D("2.00"))
    stocked(picture, D("2.00"))
    by, (first, second) = make_rule(), sorted([product, picture], key=lambda one: one.pk)

    def apply_with_no_patience():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '5s'")
            return pricing.apply_rule(by, actor="kim")
        finally:
            connection.close()

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what otherwise happens when the order commits
        make_order(second)
        assert pool.submit(apply_with_no_patience).result() == 2
        make_order(first)


def test_there_is_one_rule_for_a_platform_and_no_floor_above_its_cap():
    make_rule()
    with pytest.raises(IntegrityError), transaction.atomic():
        make_rule(name="Another")
    odd = rule(floor=D(5), cap=D(4))
    with pytest.raises(ValidationError):
        odd.clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        odd.save()

"""Products that are imported at the same moment."""

from dataclasses import replace

import pytest

from bitloot.tests.parallel import at_once
from fulfillment import catalogue
from fulfillment.catalogue import NotImported
from fulfillment.tests.test_catalogue import HARBOUR
from orders.models import Product

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def test_of_two_products_of_one_name_at_once_each_gets_an_address_and_of_one_product_one_is_made(sandbox):
    described = catalogue.describe(HARBOUR)

    def made(product_id):
        try:
            return catalogue._create(replace(described, product_id=product_id), {}, actor="kim")[0].slug
        except NotImported:
            return "is there"

    first, second = at_once(lambda: made(HARBOUR), lambda: made(f"{HARBOUR[:-1]}9"))
    assert sorted([first, second]) == ["harbour-of-glass", "harbour-of-glass-910002"]
    Product.objects.all().delete()
    # As if the count of imports had gone with Redis.
    assert sorted(at_once(*[lambda: made(HARBOUR)] * 3)) == ["harbour-of-glass", "is there", "is there"]

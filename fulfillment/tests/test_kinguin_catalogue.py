"""The catalogue: one odd product costs itself alone, and a dialect without a catalogue says so."""

from datetime import date
from decimal import Decimal

import pytest
from responses.matchers import query_param_matcher

from bitloot.core.providers import ProviderUnavailable, Transport, UnreadableAnswer
from fulfillment import kinguin
from fulfillment.kinguin import EcommerceClient, NotSupported, OrdersClient, OutOfStock, ReservationsClient
from fulfillment.kinguin.ecommerce import NO_NAME_SEARCH
from fulfillment.tests.kinguin_wire import BASE, GARBAGE, PRODUCT_ID, UNUSABLE, changed, recorded

PRODUCTS, PRODUCT = f"{BASE}/v1/products", f"{BASE}/v2/products/{PRODUCT_ID}"
OTHER_ID = "6a1f0c2b9d3e4f5061728395"


@pytest.fixture
def client():
    return EcommerceClient(Transport(provider="kinguin", base_url=BASE, headers={}))


def page_of(*rows, **members):
    return {"results": list(rows), "item_count": len(rows), **members}


def described(client, wire, **members):
    wire.get(PRODUCT, json=changed("product_v2", **members))
    return client.product(PRODUCT_ID)


def test_a_search_finds_products_with_all_that_the_shop_shows(client, wire):
    asked = {"name": "quest", "platform": "PC Steam", "regionId": "3", "page": "2", "limit": "20"}
    wire.get(PRODUCTS, json=recorded("products_search"), match=[query_param_matcher(asked)])
    found = client.search(name="quest", platform="PC Steam", region=3, page=2)
    first = found.products[0]
    assert (found.total, found.odd, len(found.products)) == (2, 0, 2)
    assert (first.product_id, first.number, first.platform) == (PRODUCT_ID, 424242, "PC Steam")
    assert (first.name, first.region) == ("Example Quest Deluxe Edition PC Steam CD Key", "REGION FREE")
    assert (first.price, first.qty, first.text_qty) == (Decimal("5.49"), 149, 147)
    assert (first.genres, first.age_rating, first.release_date) == (("Action",), "PEGI 12", date(2021, 11, 12))
    assert first.cover_url == "https://cdn.example.test/c.jpg"


def test_a_product_with_few_members_is_read(client, wire):
    wire.get(PRODUCT, json=changed("product_sparse_optional_fields_missing", productId=PRODUCT_ID))
    product = client.product(PRODUCT_ID)
    assert (product.text_qty, product.age_rating, product.genres) == (149, "", ("Action",))
    assert product.cover_url == "https://cdn.example.test/ct2.jpg"  # the thumbnail, where there is no picture


@pytest.mark.parametrize("odd", [None, 7, [], {}, {"name": "x"}, "x", {"productId": "../x", "name": "x", "qty": 0}])
def test_one_odd_product_hides_no_other(client, wire, odd, caplog):
    wire.get(PRODUCTS, json=page_of(odd, recorded("product_v2"), recorded("product_v2")))
    found = client.search(name="quest")
    assert ([product.product_id for product in found.products], found.odd) == ([PRODUCT_ID], 1)


@pytest.mark.parametrize("member", [{"price": "x"}, {"price": None}, {"price": 0}, {"qty": "9"}, {"name": ""}])
def test_what_decides_has_to_be_readable(client, wire, member):
    with pytest.raises(UnreadableAnswer):
        described(client, wire, **member)


@pytest.mark.parametrize("value", [None, 7, ["x"], {"a": 1}, "x" * 200_000, "a\u0000b"])
@pytest.mark.parametrize("name", ["description", "platform", "regionalLimitations", "ageRating", "genres",
                                  "releaseDate", "activationDetails", "images", "textQty", "kinguinId"])  # fmt: skip
def test_what_only_describes_it_may_be_anything(client, wire, name, value):
    assert described(client, wire, **{name: value}).price == Decimal("5.49")


@pytest.mark.parametrize("members", [{"qty": 0}, {"isPreorder": True}])
def test_what_cannot_be_bought_now_has_no_stock(client, wire, members):
    product = described(client, wire, **members)
    assert (product.quote.qty, product.quote.text_qty) == (0, 0)


def test_many_are_read_by_one_call_and_nothing_beyond_what_was_asked(client, wire):
    rows = (recorded("product_v2"), changed("product_v2", productId="6a1f0c2b9d3e4f50617283ff"))
    asked = {"productId": f"{PRODUCT_ID},{OTHER_ID}", "limit": "2"}
    wire.get(PRODUCTS, json=page_of(*rows), match=[query_param_matcher(asked)])
    assert list(client.products([PRODUCT_ID, OTHER_ID])) == [PRODUCT_ID]


def test_a_product_that_is_not_there_is_sold_out(client, wire):
    wire.get(PRODUCT, json=recorded("error_product_not_found_404"), status=404)
    with pytest.raises(OutOfStock):
        client.product(PRODUCT_ID)


@pytest.mark.parametrize("body", [body for body in GARBAGE if body != b"[1]"])
def test_an_unreadable_catalogue_is_an_error_and_not_empty(client, wire, body):
    wire.get(PRODUCTS, body=body)
    with pytest.raises(UnreadableAnswer):
        client.search(name="quest")


@pytest.mark.parametrize(("status", "body"), UNUSABLE)
def test_no_answer_is_an_error(client, wire, status, body):
    wire.get(PRODUCTS, body=body, status=status)
    with pytest.raises(ProviderUnavailable):
        client.products([PRODUCT_ID])


def test_their_sandbox_is_not_searched_by_name(wire):
    base = f"https://{NO_NAME_SEARCH}/esa/api"
    client = EcommerceClient(Transport(provider="kinguin", base_url=base, headers={}))
    rows = (recorded("product_v2"), changed("product_v2", productId=OTHER_ID, name="Other"))
    asked = query_param_matcher({"page": "1", "limit": "20"})
    wire.get(f"{base}/v1/products", json=page_of(*rows), match=[asked])
    assert [product.product_id for product in client.search(name="QUEST").products] == [PRODUCT_ID]


def test_lookups_name_platforms_and_regions(client, wire):
    wire.get(f"{BASE}/v1/platforms", json=[*recorded("platforms"), 7, "", "\ud800"])
    wire.get(f"{BASE}/v1/regions", json=[*recorded("regions"), {"id": "x"}, None])
    found = client.lookups()
    assert found.platforms == ("PC Steam", "PC GOG", "EA App")
    assert found.regions == ((2, "United States"), (3, "REGION FREE"), (10, "Rest of the world (RoW) - custom"))


def test_the_sandbox_answers_like_kinguin(sandbox):
    client = kinguin.client()
    assert [one.name for one in client.search(name="harbour", platform="PC Steam", region=1).products] == [
        "Harbour of Glass"
    ]
    assert client.search(platform="PC GOG", region=2).products == []
    assert client.product("64b000000000000000000002").age_rating == "PEGI 12"


@pytest.mark.parametrize("ask", [lambda c: c.search(name="quest"), lambda c: c.product("x"),
                                 lambda c: c.products(["x"]), lambda c: c.lookups()])  # fmt: skip
def test_a_dialect_without_a_catalogue_says_so(ask):
    transport = Transport(provider="kinguin", base_url=BASE, headers={})
    for client in (ReservationsClient(transport, client_id="a", client_secret="b"), OrdersClient(transport)):
        with pytest.raises(NotSupported, match="has no catalogue.*KINGUIN_API=ecommerce"):
            ask(client)

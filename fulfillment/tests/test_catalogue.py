"""A product of the supplier's becomes one of ours: its words without markup, its picture by us, its price by a rule."""

from datetime import date
from decimal import Decimal
from io import BytesIO

import pytest
import responses
from PIL import Image

from fulfillment import catalogue, kinguin
from fulfillment.catalogue import NotImported, plain_text
from fulfillment.models import PriceChange, PriceRule, SupplierStock
from fulfillment.tests.kinguin_wire import PRODUCT_ID, changed
from orders.models import Product

pytestmark = [pytest.mark.django_db, pytest.mark.once]
HARBOUR = "64b000000000000000000002"
D = Decimal


# --- words

MARKUP = [
    ("<p>A <b>bold</b> game.</p><p>Two.</p>", "A bold game.\n\nTwo."),
    ("<ul>\r\n<li>one</li>\r\n<li>two</li>\r\n</ul>", "- one\n- two"),
    ("It isn&#39;t &quot;real&quot; &amp; costs &lt;5", 'It isn\'t "real" & costs <5'),
    ("line one<br />\r\nline two", "line one\nline two"),
    ("plain\r\ntext", "plain\ntext"),
    ("<script>alert(1)</script>x<style>p{}</style>", "x"),
    ("<img src=x onerror=alert(1)>x<svg onload=alert(1)>", "x"),
    ('<a href="javascript:alert(1)">here</a>', "here"),
    ("<p>open <b>never closed", "open never closed"),
    ("<<script>script>alert(1)<</script>/script>", "</script>"),
    ("&lt;script&gt;alert(1)&lt;/script&gt;", "<script>alert(1)</script>"),  # text, and shown as text
    ("a\u202eb\u0000c\u200bd\x07", "abcd"),
    ("x" * 20_000, "x" * 10_000),
    ("", ""),
]


@pytest.mark.parametrize(("markup", "text"), MARKUP)
def test_markup_becomes_lines_of_text(markup, text):
    assert plain_text(markup) == text


def test_what_looks_like_a_script_stays_text_on_the_page(client):
    product = Product.objects.create(
        slug="x", title="X", price=5, max_cost=4, description=plain_text("&lt;script&gt;alert(1)&lt;/script&gt;")
    )
    page = client.get(f"/products/{product.slug}").content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


# --- imports


def test_a_product_is_imported_at_cost_and_off_sale_where_no_rule_prices_it(sandbox):
    done = catalogue.import_product(HARBOUR, actor="kim")
    product = Product.objects.get()
    assert (done.product, done.is_new) == (product, True)
    assert done.notes[0].startswith("No rule prices it: it stands at its cost, 11.90 EUR.")
    assert (product.title, product.slug, product.supplier_product_id) == (
        "Harbour of Glass",
        "harbour-of-glass",
        HARBOUR,
    )
    assert (product.is_active, product.price, product.max_cost) == (False, D("11.90"), D("11.90"))
    assert (product.platform, product.region, product.key_type) == ("PC Steam", "Europe", "text")
    assert (product.genres, product.age_rating, product.release_date) == (["Adventure"], "PEGI 12", date(2025, 3, 14))
    assert product.description == (
        "Harbour of Glass is an invented product of the sandbox.\n\n- It isn't real.\n- Nobody plays it."
    )
    assert product.activation == 'Open the client.\nChoose "Activate a product" and type the key.'
    assert SupplierStock.objects.get().price == D("11.90")
    change = PriceChange.objects.get()
    assert (change.actor, change.old_price, change.new_price, change.rule) == ("kim", None, D("11.90"), "")
    product.full_clean()


def test_a_rule_of_its_platform_prices_it(sandbox):
    PriceRule.objects.create(name="All", margin=100)
    PriceRule.objects.create(name="Steam", platform="PC Steam", margin=20, least_margin=2)
    done = catalogue.import_product(HARBOUR, actor="kim")
    assert (done.product.price, done.product.max_cost) == (D("14.99"), D("12.99"))
    assert "follows the rule “Steam”" in done.notes[0]
    assert (PriceChange.objects.get().rule, done.product.is_active) == ("Steam", False)


@pytest.mark.parametrize(
    ("theirs", "region"), [("REGION FREE", "Region free"), ("UK", "UK"), ("Rest of the world (RoW)",) * 2, ("", "")]
)
def test_a_region_is_written_as_the_shop_does(settings, theirs, region):
    with responses.RequestsMock() as mock:
        url = f"{kinguin.client()._endpoint._transport.base_url}/v2/products/{PRODUCT_ID}"
        mock.get(url, json=changed("product_v2", regionalLimitations=theirs, images=None))
        assert catalogue.import_product(PRODUCT_ID, actor="kim").product.region == region


def test_a_product_whose_keys_are_pictures_is_sold_as_that(sandbox):
    assert catalogue.import_product("64b000000000000000000004", actor="kim").product.key_type == "image"


def test_one_that_is_ours_stays_as_staff_have_it_unless_they_ask(sandbox):
    catalogue.import_product(HARBOUR, actor="kim")
    Product.objects.update(title="Ours", description="Ours.", price=20, is_active=True, slug="ours")
    again = catalogue.import_product(HARBOUR, actor="kim")
    assert (again.is_new, again.product.description) == (False, "Ours.")
    fresh = catalogue.import_product(HARBOUR, actor="kim", refresh=True).product
    assert fresh.description.startswith("Harbour of Glass is an invented")
    assert (fresh.title, fresh.slug, fresh.price, fresh.is_active) == ("Ours", "ours", D(20), True)
    assert (Product.objects.count(), PriceChange.objects.count()) == (1, 1)


def test_a_taken_address_gets_the_suppliers_number(sandbox):
    Product.objects.create(slug="harbour-of-glass", title="Another", price=5, max_cost=4)
    assert catalogue.import_product(HARBOUR, actor="kim").product.slug == "harbour-of-glass-910002"


@pytest.mark.parametrize(
    ("name", "title", "slugs"),
    [
        ("Odd Game", "Odd Game", ["odd-game", "odd-game-0", f"odd-game-{PRODUCT_ID[:-1]}2"]),
        ("<script>x</script>", f"Kinguin {PRODUCT_ID[:-1]}2", [f"kinguin-{PRODUCT_ID[:-1]}{n}" for n in range(3)]),
    ],
)
def test_products_of_one_name_or_none_have_an_address_each(name, title, slugs):
    with responses.RequestsMock() as mock:
        for number in range(3):
            product_id = f"{PRODUCT_ID[:-1]}{number}"
            url = f"{kinguin.client()._endpoint._transport.base_url}/v2/products/{product_id}"
            own = {"productId": product_id, "name": name, "kinguinId": None, "genres": ["\ud800", "a\x00", "Racing"]}
            mock.get(url, json=changed("product_v2", images=None, **own))
            product = catalogue.import_product(product_id, actor="kim").product
            assert (product.slug, product.genres) == (slugs[number], ["Racing"])
            product.full_clean()
    assert product.title == title


def test_a_button_that_is_pressed_twice_imports_once(sandbox):
    catalogue.import_product(HARBOUR, actor="kim")
    Product.objects.all().delete()  # as if the first had not finished yet
    with pytest.raises(NotImported, match="just now"):
        catalogue.import_product(HARBOUR, actor="kim")


@pytest.mark.parametrize(
    ("product_id", "why"), [("64b0000000000000000000ff", "no such product"), ("1949", "24 digits")]
)
def test_what_is_not_there_is_not_imported(sandbox, product_id, why):
    with pytest.raises(NotImported, match=why):
        catalogue.import_product(product_id, actor="kim")
    assert not Product.objects.exists()


# --- the cover


@pytest.fixture
def cdn(settings, tmp_path):
    """Kinguin's answers and its pictures, at the wire."""
    place = {"BACKEND": "storage.objects.EmbeddedFiles", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "covers": place}
    with responses.RequestsMock() as mock:
        mock.get(
            f"{kinguin.client()._endpoint._transport.base_url}/v2/products/{PRODUCT_ID}",
            json=changed("product_v2", images={"cover": {"url": "https://images.kinguin.net/c.png"}}),
        )
        yield mock


def png():
    file = BytesIO()
    Image.new("RGB", (60, 80), "#204080").save(file, "PNG")
    return file.getvalue()


def test_the_cover_is_fetched_kept_and_shown_by_the_shop_itself(cdn, client):
    cdn.get("https://images.kinguin.net/c.png", body=png())
    product = catalogue.import_product(PRODUCT_ID, actor="kim").product
    Product.objects.update(is_active=True)
    page = client.get(f"/products/{product.slug}").content.decode()
    assert f'src="{product.cover_url}"' in page
    assert "kinguin.net" not in page
    assert Image.open(BytesIO(client.get(product.cover_url).content)).size == (60, 80)
    assert client.get("/api/products").json()["results"][0]["cover"] == product.cover_url


@pytest.mark.parametrize("answer", [{"status": 500}, {"body": b"<html>"}])
def test_a_product_without_a_usable_cover_is_imported_all_the_same(cdn, answer):
    cdn.get("https://images.kinguin.net/c.png", **answer)
    done = catalogue.import_product(PRODUCT_ID, actor="kim")
    assert (done.product.picture, "upload one" in done.notes[1]) == ("", True)


def test_what_is_sold_out_without_a_price_is_priced_by_no_rule():
    PriceRule.objects.create(name="All", margin=20)
    with responses.RequestsMock() as mock:
        url = f"{kinguin.client()._endpoint._transport.base_url}/v2/products/{PRODUCT_ID}"
        mock.get(url, json=changed("product_v2", qty=0, price=None, images=None))
        done = catalogue.import_product(PRODUCT_ID, actor="kim")
    assert (done.product.price, done.product.is_active) == (D("0.01"), False)
    assert done.notes[0].startswith("Kinguin names no price now")
    assert (SupplierStock.objects.get().price, PriceChange.objects.get().cost) == (None, None)


def test_a_pre_order_is_not_imported(settings):
    with responses.RequestsMock() as mock:
        url = f"{kinguin.client()._endpoint._transport.base_url}/v2/products/{PRODUCT_ID}"
        mock.get(url, json=changed("product_v2", isPreorder=True))
        with pytest.raises(NotImported, match="pre-order"):
            catalogue.import_product(PRODUCT_ID, actor="kim")


def test_lookups_are_asked_for_once_and_a_silent_supplier_names_none(sandbox):
    sandbox.fault("kinguin.lookup", "5xx_before")
    assert catalogue.lookups().platforms == ()
    sandbox.calm()
    first = catalogue.lookups()
    sandbox.fault("kinguin.lookup", "5xx_before")
    assert catalogue.lookups() == first
    assert (1, "Europe") in first.regions

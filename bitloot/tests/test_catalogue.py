"""The shop window and `/api/products`: what is found, in which order, what is in stock, and what crawlers read."""

import json
import re
from datetime import date, timedelta
from decimal import Decimal
from itertools import product as combinations
from xml.etree import ElementTree

import pytest
from django.conf import settings as django_settings
from django.core.cache import caches
from django.db import connection
from django.utils import timezone

from bitloot.shop.catalogue import for_sale
from bitloot.shop.search import search
from fulfillment.availability import is_sold_out, sold_out
from fulfillment.models import SupplierStock
from orders.models import Order, Product
from orders.tests.factories import make_product

pytestmark = pytest.mark.django_db
KEY = "a-key-of-16-chars"
GAMES = [
    ("ember", "Ember Drift", "Steam", "Europe", "9.99", ["Racing"]),
    ("ember-2", "Ember Drift II: Deluxe Edition", "GOG", "Europe", "29.99", ["Racing", "Indie"]),
    ("harbour", "Harbour of Glass", "Steam", "Region free", "14.99", ["Puzzle"]),
    ("orchard", "Tiny Orchard Tycoon", "Steam", "Germany", "4.99", ["Simulation"]),
    ("stalker", "S.T.A.L.K.E.R. 100%", "GOG", "Region free", "19.99", []),
]


def stock(product, *, quantity=9, minutes=1, **fields):
    seen = timezone.now() - timedelta(minutes=minutes)
    said = {"price": Decimal("1.00"), "quantity": quantity, "text_quantity": quantity, "seen_at": seen, **fields}
    return SupplierStock.objects.update_or_create(product=product, defaults=said)[0]


@pytest.fixture
def games():
    made = {}
    for slug, title, platform, region, price, genres in GAMES:
        facts = {"title": title, "platform": platform, "region": region, "genres": genres}
        made[slug] = make_product(slug=slug, price=Decimal(price), **facts)
    stock(made["harbour"], quantity=0)
    return made


def listed(client, query=""):
    answer = client.get(f"/api/products?{query}")
    assert answer.status_code == 200, answer.content
    return [row["slug"] for row in answer.json()["results"]]


def place(client, **lines):
    items = [{"product": slug, "quantity": quantity} for slug, quantity in lines.items()]
    body = {"email": "kim@shop.example", "items": items}
    return client.post("/api/orders", body, content_type="application/json", headers={"Idempotency-Key": KEY})


# --- Finding ---


@pytest.mark.parametrize(("text", "found"), [
    ("", ["ember", "ember-2", "harbour", "orchard", "stalker"]),
    ("drift EMBER", ["ember", "ember-2"]),
    ("emb dri del", ["ember-2"]),
    ("glass steam", ["harbour"]),
    ("racing", ["ember", "ember-2"]),
    ("germany", ["orchard"]),
    ("“harbour” & | ! :* of'", ["harbour"]),
    ("100%", ["stalker"]),
    ("zzz", []),
    ("%", []),
    ("'", []),
])  # fmt: skip
def test_search_finds_words_in_any_order_and_half_typed(games, text, found):
    assert sorted(search(for_sale(), text).values_list("slug", flat=True)) == found


def test_best_match_comes_first(games):
    games["orchard"].platform = "Ember"
    games["orchard"].save()
    assert search(for_sale(), "ember").values_list("slug", flat=True)[:2][0].startswith("ember")
    assert list(search(for_sale(), "ember").values_list("slug", flat=True))[-1] == "orchard"


@pytest.mark.postgres
@pytest.mark.parametrize(("text", "best"), [
    ("embr drift", "ember"), ("harbor glas", "harbour"), ("orchrad", "orchard"), ("tykoon", "orchard"),
    ("s.t.a.l.k.e.r", "stalker"), ("zzzzzz", None),
])  # fmt: skip
def test_mistyped_words_are_found_on_postgresql(games, text, best):
    assert search(for_sale(), text).values_list("slug", flat=True).first() == best


@pytest.mark.postgres
@pytest.mark.parametrize(("text", "is_guess"), [("EMB", False), ("racing steam", False), ("embr", True), ("", False)])
def test_window_says_when_it_guesses(client, games, text, is_guess):
    page = client.get("/", {"q": text}).content.decode()
    assert 'href="/products/ember"' in page
    assert ("spelled like it" in page) == is_guess


@pytest.mark.postgres
def test_a_database_without_trigrams_finds_all_but_mistyped_words(games):
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")  # as the owner, also with --small-role
        cursor.execute("DROP EXTENSION pg_trgm CASCADE")
    assert search(for_sale(), "ember").count() == 2
    assert search(for_sale(), "embr").count() == 0


@pytest.mark.postgres
def test_words_are_looked_up_in_their_index(games):
    """Its expression stands in a migration, and PostgreSQL uses it only for exactly the same one."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "product_words" in search(Product.objects.all(), "ember").order_by().explain()


@pytest.mark.parametrize(("query", "found"), [
    ("platform=Steam", ["ember", "harbour", "orchard"]),
    ("platform=Steam&region=Europe", ["ember"]),
    ("platform=Amiga", []),
    ("region=%27%22%3C", []),
    ("min_price=9.99&max_price=14.99", ["ember", "harbour"]),
    ("min_price=9,99&max_price=10", ["ember"]),
    ("min_price=10&max_price=9", []),
    ("in_stock=true", ["ember", "ember-2", "stalker", "orchard"]),
    ("in_stock=0", ["harbour"]),
    ("q=steam&in_stock=1&ordering=-price", ["ember", "orchard"]),
    ("ordering=price&limit=2", ["orchard", "ember"]),
    ("ordering=price&limit=2&offset=2", ["harbour", "stalker"]),
    ("ordering=-title", ["orchard", "stalker", "harbour", "ember-2", "ember"]),
])  # fmt: skip
def test_lists_are_filtered_and_sorted(client, games, query, found):
    assert listed(client, query) == found


def test_newest_come_first(client, games):
    Product.objects.filter(slug="orchard").update(created_at=timezone.now() + timedelta(days=1))
    assert listed(client, "ordering=newest")[0] == "orchard"


@pytest.mark.parametrize(("query", "field"), [
    ("q=%00", "q"), ("q=" + "x" * 5000, "q"), ("platform=" + "x" * 41, "platform"), ("region=a%00", "region"),
    ("min_price=NaN", "min_price"), ("max_price=1e99999999", "max_price"), ("max_price=-1", "max_price"),
    ("max_price=1,000", "max_price"),
    ("min_price=" + "9" * 4000, "min_price"), ("in_stock=maybe", "in_stock"), ("ordering=password", "ordering"),
])  # fmt: skip
def test_what_cannot_be_is_refused_by_the_api_and_explained_by_the_page(client, games, query, field):
    answer = client.get(f"/api/products?{query}")
    assert [answer.status_code, list(answer.json()["errors"])] == [422, [field]]
    page = client.get(f"/?{query}")
    assert [page.status_code, len(page.context["products"])] == [200, len(GAMES)]
    assert list(page.context["asked"].errors) == [field]


@pytest.mark.parametrize("query", ["q=%ED%A0%80", "q=%F0%9F%8E%AE", "q=%5C", "q=" + "a+" * 50, "page=%00", "x=1&x=2"])
def test_strange_addresses_have_a_page(client, games, query):
    assert client.get(f"/?{query}").status_code == 200


def test_who_searches_too_often_has_to_wait_and_still_sees_the_window(client, games, settings):
    settings.THROTTLE_SCALE = 1 / 600  # one a minute
    assert [client.get(path).status_code for path in ("/?q=ember", "/?q=ember", "/", "/products/ember")] == [
        200, 429, 200, 200,
    ]  # fmt: skip


def test_choices_say_how_many_games_each_of_them_would_leave(client, games):
    page = client.get("/?platform=Steam&region=Germany")
    counts = page.context["asked"].counts
    assert [(one.value, one.count, one.is_chosen) for one in counts.platforms] == [("Steam", 1, True)]
    assert [(one.value, one.count) for one in counts.regions] == [("Europe", 1), ("Germany", 1), ("Region free", 1)]
    assert [counts.total, page.context["page"].paginator.count] == [1, 1]
    nothing = client.get("/?platform=Amiga").context["asked"].counts
    assert ("Amiga", 0, True) in [(one.value, one.count, one.is_chosen) for one in nothing.platforms]


def test_links_to_other_pages_and_without_a_filter_keep_the_rest(client, games, settings):
    for number in range(60):
        make_product(title=f"Ember {number}", platform="Steam & Co")
    page = client.get("/?q=ember&platform=Steam+%26+Co&in_stock=true&page=2").content.decode()
    assert '<link rel="prev" href="?q=ember&amp;platform=Steam+%26+Co&amp;in_stock=true&amp;page=1">' in page
    assert 'href="/?q=ember&amp;in_stock=true"' in page  # without the platform
    assert '<option value="Steam &amp; Co" selected>Steam &amp; Co (60)</option>' in page


# --- Over REST ---


def test_a_product_with_all_its_facts(client):
    one = make_product(
        title="Ant", description="<b>bold</b>", platform="Steam", cover="bitloot/covers/a b.svg", genres=["Racing"],
        age_rating="PEGI 12", release_date=date(2026, 3, 1), max_cost=Decimal("13.37"), supplier_product_id="canary",
    )  # fmt: skip
    facts = {
        "id": str(one.id),
        "slug": one.slug,
        "title": "Ant",
        "description": "<b>bold</b>",
        "platform": "Steam",
        "region": "Region free",
        "activation": "",
        "genres": ["Racing"],
        "age_rating": "PEGI 12",
        "release_date": "2026-03-01",
        "cover": "bitloot/covers/a b.svg",
        "cover_url": "http://testserver/static/bitloot/covers/a%20b.svg",
        "price": "24.99",
        "currency": "EUR",
        "key_type": "text",
        "in_stock": True,
    }
    make_product(title="Zebra")
    make_product(title="Hidden", is_active=False)
    page = client.get("/api/products?limit=1").json()
    assert [page["count"], page["previous"], page["results"]] == [2, None, [facts]]  # not what the supplier charges
    assert [row["title"] for row in client.get(page["next"]).json()["results"]] == ["Zebra"]
    assert client.get(f"/api/products/{one.slug}").json() == facts
    stock(one, quantity=0)
    caches["pages"].clear()
    assert client.get(f"/api/products/{one.slug}").json()["in_stock"] is False


def test_a_product_that_is_not_for_sale_is_not_found(client):
    hidden = make_product(is_active=False)
    answer = client.get(f"/api/products/{hidden.slug}")
    assert [answer.status_code, answer.json()["code"]] == [404, "not_found"]


@pytest.mark.parametrize("query", ["", "q=product&platform=Steam&in_stock=true&ordering=-price"])
def test_a_list_costs_as_many_statements_for_each_number_of_products(client, django_assert_num_queries, query):
    searches = connection.vendor == "postgresql" and "q=" in query  # whether there is any comes first
    for _ in range(2):
        make_product(platform="Steam")
        with django_assert_num_queries(3 + searches):
            client.get(f"/api/products?{query}")
        with django_assert_num_queries(0):
            client.get(f"/api/products?{query}")
        caches["pages"].clear()


def test_the_list_is_kept_for_everybody_for_seconds(client):
    product = make_product(title="Old title")
    first = client.get("/api/products")
    product.title = "New title"
    product.save()
    assert client.get("/api/products", headers={"Authorization": "Bearer x"}).json() == first.json()
    assert sorted(first["Cache-Control"].split(", ")) == ["max-age=5", "public"]
    caches["pages"].clear()
    assert client.get("/api/products").json()["results"][0]["title"] == "New title"


def test_a_list_that_did_not_change_is_not_sent_again(client):
    make_product()
    etag = client.get("/api/products")["ETag"]
    for known in (etag, f'"other", {etag}', f"W/{etag.removeprefix('W/')}", "*"):
        answer = client.get("/api/products", headers={"If-None-Match": known})
        assert [answer.status_code, answer.content, answer["ETag"]] == [304, b"", etag]
        assert "public" in answer["Cache-Control"]
    make_product()
    caches["pages"].clear()
    assert client.get("/api/products", headers={"If-None-Match": etag}).status_code == 200


def test_lists_are_kept_apart_by_each_parameter_and_wrong_ones_not_at_all(client, games):
    queries = ["", "platform=GOG", "platform=GOG&max_price=20", "q=ember", "ordering=price&limit=1", "offset=3"]
    wanted = [listed(client, query) for query in queries]
    assert len({tuple(slugs) for slugs in wanted}) == len(queries)
    assert [listed(client, query) for query in queries] == wanted
    answers = [client.get("/api/products?limit=0") for _ in range(2)]
    assert [(answer.status_code, answer["Cache-Control"]) for answer in answers] == [(422, "no-store")] * 2


# --- Stock ---


def test_the_database_judges_as_the_payment_step_does():
    prices, margins = (Decimal("1.94"), Decimal("1.95"), None), (Decimal(0), Decimal("8.05"), Decimal("8.06"))
    cases = combinations(prices, margins, (0, 1), (0, 1), ("text", "image"), (1, 61), (Decimal("1.94"), Decimal("9")))
    for price, margin, text, other, kind, minutes, cap in cases:
        one = make_product(price=Decimal("9.99"), min_margin=margin, key_type=kind, max_cost=cap)
        stock(one, price=price, quantity=text + other, text_quantity=text, minutes=minutes)
    make_product()
    judged = {product: is_sold_out(product) for product in for_sale()}
    assert 50 < sum(judged.values()) < len(judged) - 50
    assert set(for_sale().filter(sold_out())) == {product for product, is_gone in judged.items() if is_gone}


def test_what_is_sold_out_cannot_be_ordered_and_nobody_is_asked(client, games):
    """No supplier runs here: a call would fail."""
    stock(games["orchard"], quantity=2)
    for lines, sentence in (
        ({"harbour": 1}, "“Harbour of Glass” is sold out at the moment. Nothing was charged."),
        (
            {"ember": 1, "orchard": 3},
            "We cannot get 3 keys of “Tiny Orchard Tycoon” at the moment. Nothing was charged.",
        ),
    ):
        answer = place(client, **lines)
        assert (answer.status_code, answer.json()["code"]) == (409, "sold_out")
        assert answer.json()["detail"].startswith(sentence)
    assert not Order.objects.exists()
    placed = place(client, orchard=2)
    assert placed.status_code == 201
    stock(games["orchard"], quantity=0)
    assert place(client, orchard=2).json() == placed.json()  # the same order again
    stock(games["harbour"], quantity=0, minutes=61)  # that long ago, it is no longer known
    caches["default"].clear()
    answer = client.post("/api/orders", {"email": "a@b.example", "items": [{"product": "harbour", "quantity": 1}]},
                         content_type="application/json")  # fmt: skip
    assert answer.status_code == 201


def test_checkout_says_what_sold_out_since_it_was_opened(client, games):
    form = client.get("/checkout?product=ember").context["form"]
    filled = {name: form[name].value() for name in form.fields} | {"email": "kim@shop.example"}
    stock(games["ember"], quantity=1)
    few = client.post("/checkout", filled | {"quantity": "2"})
    assert [few.status_code, "We cannot get 2 keys of “Ember Drift”" in few.content.decode()] == [409, True]
    stock(games["ember"], quantity=0)
    gone = client.post("/checkout", filled)
    assert [gone.status_code, "“Ember Drift” is sold out at the moment" in gone.content.decode()] == [409, True]
    assert not Order.objects.exists()


def test_pages_offer_as_many_keys_as_there_are(client, games):
    stock(games["ember"], quantity=2)
    assert client.get("/products/ember").context["quantities"] == [1, 2]
    assert client.get("/checkout?product=ember").context["form"].fields["quantity"].choices[-1][0] == 2


# --- What crawlers read ---


def structured(page):
    return json.loads(re.search(r'<script type="application/ld\+json">(.*?)</script>', page, re.DOTALL)[1])


def test_product_page_has_facts_for_people_and_for_crawlers(client):
    evil = "</script><script>alert(1)</script> & <!-- “x”"
    one = make_product(
        slug="ant", title="Ant", description=evil, platform="Steam", genres=["Racing", "Indie"], age_rating="PEGI 12",
        release_date=date(2026, 3, 1), cover="bitloot/covers/ember-drift.svg",
    )  # fmt: skip
    page = client.get("/products/ant").content.decode()
    for fact in ("Racing, Indie", "PEGI 12", "March 1, 2026", "<title>Ant for Steam", 'href="/?region=Region%20free"'):
        assert fact in page
    assert structured(page) == {
        "@context": "https://schema.org",
        "@type": "Product",
        "name": "Ant",
        "description": evil,
        "sku": "ant",
        "url": f"{django_settings.SITE_URL}/products/ant",
        "image": f"{django_settings.SITE_URL}/static/bitloot/covers/ember-drift.svg",
        "category": "Racing, Indie",
        "releaseDate": "2026-03-01",
        "offers": {
            "@type": "Offer",
            "url": f"{django_settings.SITE_URL}/products/ant",
            "price": "24.99",
            "priceCurrency": "EUR",
            "itemCondition": "https://schema.org/NewCondition",
            "availability": "https://schema.org/InStock",
        },
    }
    assert f'<link rel="canonical" href="{django_settings.SITE_URL}/products/ant">' in page
    assert f'<meta property="og:image" content="{django_settings.SITE_URL}/static/bitloot/preview.png">' in page
    stock(one, quantity=0)
    assert structured(client.get("/products/ant").content.decode())["offers"]["availability"].endswith("/OutOfStock")


def test_only_the_whole_window_is_indexed(client, games):
    for path, canonical in (("/", "/"), ("/?page=1", "/"), ("/?utm_source=x", "/")):
        page = client.get(path).content.decode()
        assert f'<link rel="canonical" href="{django_settings.SITE_URL}{canonical}">' in page
        assert "noindex" not in page
    for path in ("/?q=ember", "/?platform=Steam", "/?max_price=x"):
        page = client.get(path).content.decode()
        assert '<meta name="robots" content="noindex, follow">' in page
        assert "canonical" not in page


def test_crawlers_are_shown_products_and_nothing_of_orders(client, games):
    make_product(slug="hidden", is_active=False)
    order = place(client, ember=1).json()
    sitemap = client.get("/sitemap.xml")
    places = [element.text for element in ElementTree.fromstring(sitemap.content).iter() if element.tag.endswith("loc")]
    own = [place.removeprefix(django_settings.SITE_URL) for place in places]
    assert sorted(own) == sorted(
        ["/", *(f"/products/{slug}" for slug in games), "/pages/imprint", "/pages/privacy", "/pages/terms"]
    )
    robots = client.get("/robots.txt").content.decode()
    assert f"Sitemap: {django_settings.SITE_URL}/sitemap.xml" in robots
    assert client.get(f"/orders/{order['id']}")["X-Robots-Tag"] == "noindex"
    assert "/orders" not in robots  # or it would not be read
    assert [client.get(path)["Cache-Control"] for path in ("/robots.txt", "/sitemap.xml")] == [
        "public, max-age=3600", "public, max-age=600",
    ]  # fmt: skip


def test_browsers_that_ask_for_an_icon_get_one(client):
    assert client.get("/favicon.ico")["Location"] == "/static/bitloot/favicon.ico"

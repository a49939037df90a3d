import re
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import path

from bitloot.core.stop import AWAY, BROKEN, FORBIDDEN, FORM_REFUSED, NOT_FOUND, TOO_OFTEN, stop_page
from bitloot.ops import errors
from bitloot.shop.pages import PRODUCTS_PER_PAGE
from orders.access import make_token, open_order
from orders.codes import redeem
from orders.models import Email, Order, Product
from orders.services import Line, place_order

pytestmark = pytest.mark.django_db

TEMPLATES = Path(settings.BASE_DIR) / "templates"
STATIC = Path(settings.BASE_DIR) / "bitloot" / "static" / "bitloot"
PEOPLES_PAGES = [*sorted(TEMPLATES.glob("*.html")), *sorted((TEMPLATES / "shop").glob("*.html"))]
UNKNOWN = "5e0a3c39-7a3d-4b0e-9f55-0d8f6a1c2b3d"


def make_product(slug: str = "ember-drift", **fields) -> Product:
    return Product.objects.create(
        slug=slug,
        **{
            "title": "Ember Drift",
            "description": "Rally on a volcano.",
            "platform": "Steam",
            "region": "Europe",
            "cover": f"bitloot/covers/{slug}.svg",
            "price": Decimal("7.49"),
            "max_cost": Decimal("5.00"),
            "supplier_product_id": slug,
            **fields,
        },
    )


def form_of(client: Client, slug: str = "ember-drift", **changes: str) -> dict[str, str]:
    """What a browser would send after filling in the checkout's form."""
    form = client.get("/checkout", {"product": slug}).context["form"]
    filled = {name: form[name].value() for name in form.fields}
    return {**filled, "email": "buyer@example.test", **changes}


def test_shop_window_shows_what_is_for_sale(client):
    make_product(key_type="image")
    make_product("secret-game", title="Secret Game", is_active=False)
    page = client.get("/")
    assert page.status_code == 200
    text = page.content.decode()
    assert 'href="/products/ember-drift"' in text
    assert "/static/bitloot/covers/ember-drift.svg" in text
    assert "Steam · Europe" in " ".join(text.split())
    assert "Key as image" in text
    assert "7.49" in text
    assert "Secret Game" not in text


def test_shop_window_says_when_it_is_empty(client):
    assert "nothing for sale right now" in client.get("/").content.decode()


@pytest.mark.parametrize("asked", ["", "?platform=Steam&region=Europe&in_stock=true&max_price=9&ordering=newest"])
def test_shop_window_asks_as_often_for_three_products_as_for_one(client, django_assert_num_queries, asked):
    """Counts, ids, products with their stock, the least payment."""
    for slugs in ("a", "bc"):
        for slug in slugs:
            make_product(slug)
        caches["pages"].clear()
        with django_assert_num_queries(4):
            client.get(f"/{asked}")


def test_shop_window_is_kept_for_everybody_for_seconds_in_each_language(client, django_assert_num_queries):
    first = client.get("/")
    make_product("late", title="A late one")
    with django_assert_num_queries(0):
        again = client.get("/")
    assert (again.content, again.headers["Vary"]) == (first.content, first.headers["Vary"])
    german = client.get("/", headers={"Accept-Language": "de"})
    for fresh in (german, client.get("/?page=1"), client.get("/?q=late"), client.get("/?ordering=price")):
        assert "A late one" in fresh.content.decode()
    make_product("later", title="A later one")
    assert "A later one" not in client.get("/?page=1").content.decode()
    for fresh in (client.get("/?q=late"), client.get("/?ordering=price")):
        assert "A later one" in fresh.content.decode()
    caches["pages"].clear()  # as after five seconds
    assert "A later one" in client.get("/").content.decode()


@pytest.mark.parametrize("asked", ["?page={}", "?x={}", "?q=a{}", "?page={}&language=de"])
def test_pages_that_nobody_asked_for_before_are_limited(client, settings, asked):
    settings.THROTTLE_SCALE = 3 / 600
    assert [client.get(f"/{asked.format(number)}").status_code for number in range(4)] == [200, 200, 200, 429]
    assert [client.get(path).status_code for path in ("/", "/?language=de", "/?language=xx")] == [200] * 3
    caches["pages"].clear()
    assert client.get("/").status_code == 200


def test_a_language_that_there_is_not_is_no_page_of_its_own(client, django_assert_num_queries):
    client.get("/")
    with django_assert_num_queries(0):
        assert [client.get(f"/?language={number}").status_code for number in range(3)] == [200] * 3


def test_shop_window_comes_in_pages(client):
    for number in range(PRODUCTS_PER_PAGE + 1):
        make_product(f"game-{number:02}", title=f"Game {number:02}")
    first, last = client.get("/"), client.get("/", {"page": "2"})
    assert [len(page.context["products"]) for page in (first, last)] == [PRODUCTS_PER_PAGE, 1]
    assert 'rel="next" href="?page=2"' in first.content.decode()
    assert "Page 2 of 2" in last.content.decode()
    assert "Game 48" in last.content.decode()


@pytest.mark.parametrize(("asked", "shown"), [("0", 2), ("99", 2), ("-1", 2), ("two", 1), ("", 1), ("9" * 400, 2)])
def test_page_that_is_not_there_leads_to_one_that_is(client, asked, shown):
    for number in range(PRODUCTS_PER_PAGE + 1):
        make_product(f"game-{number:02}")
    answer = client.get("/", {"page": asked})
    assert [answer.status_code, answer.context["page"].number] == [200, shown]


def test_product_page_tells_how_to_activate_and_leads_to_the_checkout(client):
    make_product(activation="Open Steam and paste the key.", description="<b>bold</b>")
    text = client.get("/products/ember-drift").content.decode()
    assert "Open Steam and paste the key." in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert 'method="get" action="/checkout"' in text


def test_logo_is_the_same_in_the_page_its_icon_and_its_file(client):
    text = client.get("/").content.decode()
    paths = re.findall(r' d="([^"]+)"', (STATIC / "logo.svg").read_text())
    assert paths
    assert [[text.count(f" d={quote}{path}{quote}") for path in paths] for quote in "\"'"] == [[1] * len(paths)] * 2


def test_product_without_cover_or_platform_still_has_a_page(client):
    make_product(cover="", platform="", region="")
    text = client.get("/products/ember-drift").content.decode()
    assert "bitloot/covers/no-cover.svg" in text
    assert '<ul class="chips"><li>Key as text' in text


@pytest.mark.parametrize("path", ["/products/secret-game", "/checkout?product=secret-game", "/checkout", "/nowhere"])
def test_what_is_not_for_sale_is_a_page_that_says_so(client, path):
    make_product("secret-game", is_active=False)
    page = client.get(path)
    assert page.status_code == 404
    assert "This page does not exist" in page.content.decode()


def test_opening_the_checkout_changes_nothing(client):
    make_product()
    page = client.get("/checkout", {"product": "ember-drift", "quantity": "2"})
    assert page.status_code == 200
    assert Order.objects.count() == 0
    assert '<option value="2" selected>2 keys: 14.98 EUR</option>' in page.content.decode()
    assert "no-store" in page["Cache-Control"]


def test_each_opened_checkout_has_a_key_of_its_own(client):
    make_product()
    assert form_of(client)["idempotency_key"] != form_of(client)["idempotency_key"]


def test_checkout_places_the_order_and_leads_to_its_page_with_a_code_in_the_fragment(client):
    make_product()
    answer = client.post("/checkout", form_of(client, quantity="3"))
    order = Order.objects.get()
    assert answer.status_code == 303
    page, _, code = answer["Location"].partition("#")
    assert page == f"/orders/{order.id}"
    assert open_order(order.id, redeem(order_id=order.id, text=code)) == order
    assert (order.email, order.total) == ("buyer@example.test", Decimal("22.47"))
    assert [(item.product.slug, item.quantity) for item in order.items.all()] == [("ember-drift", 3)]
    assert [mail.kind for mail in order.emails.all()] == [Email.Kind.ORDER_RECEIVED]


def test_form_sent_twice_places_one_order(client):
    make_product()
    form = form_of(client)
    first, second = client.post("/checkout", form), client.post("/checkout", form)
    assert first["Location"].partition("#")[0] == second["Location"].partition("#")[0]
    assert Order.objects.count() == 1


def test_form_changed_after_it_was_sent_is_shown_again_and_then_places_another_order(client):
    make_product()
    form = form_of(client)
    client.post("/checkout", form)
    again = client.post("/checkout", {**form, "quantity": "2"})
    assert again.status_code == 422
    assert "This form was sent before with other details." in again.content.decode()
    assert Order.objects.count() == 1
    fresh_key = again.context["form"]["idempotency_key"].value()
    assert fresh_key != form["idempotency_key"]
    assert client.post("/checkout", {**form, "quantity": "2", "idempotency_key": fresh_key}).status_code == 303
    assert Order.objects.count() == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"email": ""}, "Please enter your e-mail address: the link to your key goes there."),
        ({"email": "buyer@nowhere"}, "This does not look like an e-mail address. Please check it"),
        ({"quantity": "0"}, "Please choose 1 to 9 keys."),
        ({"quantity": "10"}, "Please choose 1 to 9 keys."),
        ({"quantity": "two"}, "Please choose 1 to 9 keys."),
        ({"idempotency_key": "short"}, "Please check it and send it again."),
    ],
)
def test_checkout_says_what_has_to_change(client, changes, sentence):
    make_product()
    answer = client.post("/checkout", form_of(client, **changes))
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert Order.objects.count() == 0


def test_checkout_shows_the_reason_for_which_an_order_was_refused(client, settings):
    settings.THROTTLE_SCALE = 0.05
    make_product()
    client.post("/checkout", form_of(client))
    answer = client.post("/checkout", form_of(client))
    assert answer.status_code == 422
    assert "There are too many unpaid orders for this address." in answer.content.decode()


def test_form_sent_too_often_gets_a_page_that_says_when_to_try_again(client, settings):
    settings.THROTTLE_SCALE = 1 / 60  # one a minute
    make_product()
    client.post("/checkout", form_of(client, email=""))
    answer = client.post("/checkout", form_of(client))
    assert answer.status_code == 429
    assert 1 <= int(answer["Retry-After"]) <= 60
    assert "A little too fast" in answer.content.decode()
    assert client.get("/checkout", {"product": "ember-drift"}).status_code == 200
    assert Order.objects.count() == 0


def test_checkout_wants_the_csrf_token():
    make_product()
    client = Client(enforce_csrf_checks=True)
    form = form_of(client)
    refused = client.post("/checkout", form)
    assert refused.status_code == 403
    assert "Please send the form again" in refused.content.decode()
    assert Order.objects.count() == 0
    token = str(client.get("/checkout", {"product": "ember-drift"}).context["csrf_token"])
    assert client.post("/checkout", {**form, "csrfmiddlewaretoken": token}).status_code == 303


def test_checkout_keeps_the_origin_that_the_csrf_check_needs(client):
    make_product()
    assert client.get("/checkout", {"product": "ember-drift"})["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("ending", ["", "/receipt"])
def test_order_pages_are_the_same_for_every_order_and_ask_the_database_nothing(
    client, ending, django_assert_num_queries
):
    make_product()
    order = place_order(email="buyer@example.test", lines=[Line("ember-drift", 1)]).order
    with django_assert_num_queries(0):
        known, unknown = (client.get(f"/orders/{pk}{ending}") for pk in (order.id, UNKNOWN))
    assert known.status_code == unknown.status_code == 200
    assert known.content == unknown.content
    assert not known.cookies
    assert "no-store" in known["Cache-Control"]
    assert known["X-Robots-Tag"] == "noindex"
    assert '<meta name="referrer" content="no-referrer">' in known.content.decode()
    assert "This page needs JavaScript." in known.content.decode()


def test_timeline_names_what_each_line_is_about(client):
    make_product()
    order = place_order(email="buyer@example.test", lines=[Line("ember-drift", 1)]).order
    order.hold(reason="out_of_stock", message="Our supplier is out of stock.")
    headers = {"Authorization": f"Bearer {make_token(order, 'api')}"}
    newest = client.get(f"/api/orders/{order.id}", headers=headers).json()["timeline"][-1]
    assert (newest["kind"], newest["event"]) == ("order", "held")
    assert newest["message"] == "Our supplier is out of stock."


@pytest.mark.parametrize("path", ["/orders/1", "/orders/not-an-order", f"/orders/{UNKNOWN}x"])
def test_malformed_order_id_is_not_found(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/checkout?product=%00", "/checkout?product=ember-drift%00", "/pages/%00"])
def test_text_that_no_column_holds_is_not_found(client, path):
    make_product()
    assert client.get(path).status_code == 404
    assert client.post("/checkout", {"product": "ember-drift\x00"}).status_code == 404


@pytest.mark.parametrize("path", ["/", "/products/ember-drift", f"/orders/{UNKNOWN}"])
def test_pages_that_are_only_read_take_no_post(client, path):
    make_product()
    assert client.post(path).status_code == 405


@pytest.mark.parametrize("stop", [FORBIDDEN, FORM_REFUSED, NOT_FOUND, TOO_OFTEN, BROKEN, AWAY])
def test_page_that_stops_needs_neither_request_nor_database(stop, django_assert_num_queries):
    with django_assert_num_queries(0):
        page = stop_page(stop)
    text = page.content.decode()
    assert page.status_code == stop.status
    assert f"<h1>{stop.headline}</h1>" in text
    assert f'<a href="/" class="button">{stop.button}</a>' in text


def raise_denied(request):
    raise PermissionDenied


def raise_bug(request):
    raise ZeroDivisionError


class BrokenUrls:
    handler403, handler500 = errors.forbidden, errors.server_error
    urlpatterns = [
        path(f"{prefix}{view.__name__}", view)
        for prefix in ("", "api/", "admin/")
        for view in (raise_denied, raise_bug)
    ]


@pytest.mark.parametrize(("name", "status", "headline"), [
    ("raise_denied", 403, "You may not open this page"),
    ("raise_bug", 500, "Something broke on our side"),
])  # fmt: skip
def test_failed_request_ends_with_a_page_for_people_and_a_problem_for_programs(settings, name, status, headline):
    settings.ROOT_URLCONF = BrokenUrls
    client = Client(raise_request_exception=False)
    for_people, for_programs = client.get(f"/{name}"), client.get(f"/api/{name}")
    assert (for_people.status_code, for_programs.status_code) == (status, status)
    assert headline in for_people.content.decode()
    assert for_programs["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(("place", "advice"), [
    ("", "write to us with the reference"),
    ("admin/", "the page&#x27;s history has a line for each decision"),
])  # fmt: skip
def test_page_about_a_fault_of_ours_has_the_reference_under_which_the_log_has_it(settings, caplog, place, advice):
    settings.ROOT_URLCONF = BrokenUrls
    answer = Client(raise_request_exception=False).get(f"/{place}raise_bug")
    page = answer.content.decode()
    assert answer.status_code == 500
    assert advice in page
    assert f'<code translate="no">{answer["X-Request-Id"]}</code>' in page
    assert caplog.records[-1].request.request_id == answer["X-Request-Id"]


def test_stop_page_runs_no_context_processor(settings):
    templates = settings.TEMPLATES[0]
    options = {**templates["OPTIONS"], "context_processors": [f"{__name__}.raise_bug"]}
    settings.TEMPLATES = [{**templates, "OPTIONS": options}]
    assert stop_page(BROKEN).status_code == 500


@pytest.mark.parametrize("template", PEOPLES_PAGES, ids=lambda path: path.name)
def test_pages_hold_nothing_that_the_content_policy_blocks(template):
    source = template.read_text().replace("xmlns='http://www.w3.org/2000/svg'", "")  # a name, nothing that is loaded
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:|https?://", source)
    assert re.findall(r"<script(?![^>]* src=| type=.application/ld.json.>)", source) == []


@pytest.mark.parametrize("cover", sorted((STATIC / "covers").glob("*.svg")), ids=lambda path: path.stem)
def test_covers_are_pictures_and_nothing_else(cover):
    picture = ElementTree.parse(cover).getroot()  # our own file
    assert picture.get("viewBox") == "0 0 600 800"
    tags = {element.tag.rpartition("}")[2] for element in picture.iter()}
    assert not tags & {"script", "foreignObject", "image", "use", "a", "style"}


def test_the_sheet_reads_no_variable_that_it_does_not_define():
    sheet = (STATIC / "site.css").read_text()
    known = set(re.findall(r"(--[\w-]+)\s*:", sheet))
    assert set(re.findall(r"var\((--[\w-]+)", sheet)) <= known
    assert "--pico" not in sheet

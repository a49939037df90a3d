"""Customers read the language they chose, or their browser's. What rests in rows is English, and so is the admin."""

import ast
import re
from functools import cache
from html import unescape
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from django.conf import settings
from django.template.base import Lexer, TokenType
from django.urls import get_resolver, reverse
from django.utils import translation

from bitloot.core import api
from bitloot.core.sentences import Sentence
from bitloot.ops import documentation
from bitloot.tests.staff import make_staff
from orders.access import make_token
from orders.mail_letters import write
from orders.models import Email, Order
from orders.tests.factories import make_order, make_product
from payments.tests.factories import make_payment
from tools.dev import messages

pytestmark = pytest.mark.django_db
GERMAN = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}
UNKNOWN = "5e0a3c39-7a3d-4b0e-9f55-0d8f6a1c2b3d"
TEMPLATES = Path(settings.BASE_DIR) / "templates"
OF_CUSTOMERS = [path for path in sorted(TEMPLATES.rglob("*.html")) if not {"admin", "email"} & set(path.parts)]
READ_ALOUD = re.compile(r'\b(?:alt|aria-label|placeholder|title|content)="([^"]*)"')
# What a <meta> says to machines, and two words that no language translates.
MACHINES = re.compile(r"width=device-width.*|light dark|noindex.*|summary_large_image|no-referrer|•.*|\W*UTC\W*")
BLOCKS = {"blocktranslate": "endblocktranslate", "comment": "endcomment"}


@pytest.mark.once
@pytest.mark.parametrize("template", OF_CUSTOMERS, ids=lambda path: path.name)
def test_template_says_nothing_that_is_not_translated(template):
    page = "".join(plain_text(Lexer(template.read_text()).tokenize()))
    said = [*READ_ALOUD.findall(page), *re.sub(r"<[^>]*>", "\n", page).splitlines()]
    assert [text for text in said if re.search("[^\\W\\d_]", text) and not MACHINES.fullmatch(text.strip())] == []


def plain_text(tokens):
    """Yield what a template writes by itself."""
    end = None
    for token in tokens:
        if token.token_type == TokenType.BLOCK:
            name = token.contents.split()[0]
            end = None if name == end else end or BLOCKS.get(name)
        elif token.token_type == TokenType.TEXT and end is None:
            yield token.contents


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "translation", "flags", "fault"),
    [
        ("Hello", "", (), "'Hello': no translation"),
        (("%(n)s key", "%(n)s keys"), ("%(n)s Key", ""), (), "no translation"),
        ("Hello", "Hallo", ("fuzzy",), "'Hello' is marked fuzzy: look at it"),
        ("Hello {name}", "Hallo {nmae}", (), "does not fill in the same"),
        ("Hello %(name)s", "Hallo %(nmae)s", ("python-format",), "unknown named placeholder"),
    ],
)
def test_check_refuses_what_a_translator_left(text, translation, flags, fault):
    catalog = Catalog(locale="de")
    catalog.add(text, translation, flags=flags)
    assert [fault in found for found in messages.faults(catalog, catalog)] == [True]


@pytest.fixture
def product():
    return make_product(slug="ember-drift", title="Ember Drift", description="", platform="Steam", region="EU", price=7)


@cache
def english_sentences() -> list[str]:
    with (Path(settings.BASE_DIR) / "locale" / "de" / "LC_MESSAGES" / "django.po").open("rb") as file:
        known = [message.id for message in read_po(file) if isinstance(message.id, str)]
    # Without what is filled in; words that stand alone may be names, or the same in both languages.
    sentences = [re.split(r"%\(\w+\)s|\{\w+\}", msgid)[0].strip() for msgid in known]
    return [sentence for sentence in sentences if " " in sentence]


def english_in(answer) -> list[str]:
    text = " ".join(unescape(re.sub(r"<[^>]*>", "\n", answer.content.decode())).split())
    return [sentence for sentence in english_sentences() if sentence in text]


@pytest.mark.parametrize(
    ("path", "headline"),
    [
        ("/", "Spiel aussuchen."), ("/products/ember-drift", "Vor dem Kauf"),
        ("/checkout?product=ember-drift", "Zahlungspflichtig bestellen"), ("/orders/find", "Bestellung finden"),
        (f"/orders/{UNKNOWN}", "Ihre Bestellung wird geöffnet…"), ("/nowhere", "Diese Seite gibt es nicht"),
        ("/pages/terms", "Einen Key, den Sie noch nicht geöffnet haben"), ("/pages/imprint", "Das ist ein Entwurf."),
    ],
)  # fmt: skip
def test_german_page_has_no_english_sentence(client, product, path, headline):
    page = client.get(path, headers=GERMAN)
    assert headline in page.content.decode()
    assert '<html lang="de">' in page.content.decode()
    assert english_in(page) == []
    assert page["Content-Language"] == "de"
    assert {"Accept-Language", "Cookie"} <= {name.strip() for name in page["Vary"].split(",")}
    assert len(english_in(client.get(path))) >= 5  # the same page in English is full of them


def test_german_forms_say_in_german_what_has_to_change(client, product):
    checkout = client.post("/checkout", {"product": product.slug, "quantity": "10", "email": "x"}, headers=GERMAN)
    assert "Das sieht nicht nach einer E-Mail-Adresse aus." in checkout.content.decode()
    assert "Bitte wählen Sie 1 bis 9 Keys." in checkout.content.decode()
    assert '<option value="2">2 Keys: 14,00 EUR</option>' in checkout.content.decode()
    found = client.post("/orders/find", {"email": "kim@example.org"}, headers=GERMAN)
    assert [english_in(checkout), english_in(found)] == [[], []]


def test_shop_window_names_regions_and_quotes_in_the_readers_language(client):
    make_product(title="Ember Drift", region="Region free")
    page = client.get("/?q=ember", headers=GERMAN).content.decode()
    assert ">Weltweit</span>" in page
    assert ">„ember“ <" in page


def test_switch_is_a_link_that_is_remembered(client, product):
    page = client.get("/products/ember-drift?quantity=2").content.decode()
    assert 'href="?quantity=2&amp;language=de"' in page
    switched = client.get("/products/ember-drift?quantity=2&language=de")
    assert "Vor dem Kauf" in switched.content.decode()
    cookie = switched.cookies["language"]
    assert (cookie.value, cookie["samesite"], cookie["httponly"]) == ("de", "Lax", True)
    assert "Spiel aussuchen." in client.get("/").content.decode()
    assert "Pick a game." in client.get("/?language=en").content.decode()
    assert "Pick a game." in client.get("/", headers=GERMAN).content.decode()  # chosen is chosen


@pytest.mark.parametrize("language", ["fr", "", "de-AT", "../de"])
def test_language_that_the_shop_does_not_speak_is_not_remembered(client, language):
    answer = client.get("/", {"language": language})
    assert "language" not in answer.cookies
    assert '<html lang="en">' in answer.content.decode()


def test_switch_at_the_checkout_keeps_the_product(client, product):
    page = client.get("/checkout", {"product": product.slug}).content.decode()
    (action,) = re.findall(r'action="([^"]*)"', page)
    refused = client.post(unescape(action), {"product": product.slug, "email": "x"})
    (query,) = re.findall(r'href="([^"]*language=de)"', refused.content.decode())
    assert client.get(f"/checkout{unescape(query)}").status_code == 200


def test_order_page_is_the_same_for_every_order_in_each_language(client):
    pages = [client.get(f"/orders/{number}", headers=GERMAN).content for number in (UNKNOWN, UNKNOWN.replace("5", "6"))]
    assert pages[0] == pages[1] != client.get(f"/orders/{UNKNOWN}").content


def test_order_remembers_the_language_of_the_page_that_placed_it(client, product):
    form = client.get("/checkout?product=ember-drift&language=de").context["form"]
    filled = {name: form[name].value() for name in form.fields} | {"email": "kim@example.org"}
    client.post("/checkout", filled)
    assert Order.objects.get().language == "de"
    assert Email.objects.get().order.language == "de"


def choose(client, order, language, *, purpose="api", token=None):
    body = {"order_id": str(order.pk), "language": language}
    bearer = {"Authorization": f"Bearer {token or make_token(order, purpose)}"}
    return client.post("/api/orders/language", body, "application/json", headers=bearer)


@pytest.mark.parametrize("purpose", ["api", "mail"])
def test_order_remembers_the_last_language_chosen_with_its_token(client, purpose):
    order, other = make_order(), make_order()
    assert choose(client, order, "de", purpose=purpose).json() == {"language": "de"}
    assert write(Email.objects.get(order=order), list(order.items.all())).subject.startswith("Ihre Bestellung")
    read(client, order, **{"Accept-Language": "en"})  # a visit chooses nothing
    client.get(f"/orders/{order.pk}?language=en")
    assert list(Order.objects.order_by("created_at").values_list("language", flat=True)) == ["de", "en"]
    assert choose(client, order, "en").status_code == 200
    assert Order.objects.get(pk=order.pk).language == "en"
    assert choose(client, order, "fr").json()["code"] == "invalid"
    assert choose(client, other, "de", token=make_token(order, purpose)).status_code == 404


# --- The API ---


def read(client, order, **headers):
    return client.get(
        f"/api/orders/{order.id}", headers={"Authorization": f"Bearer {make_token(order, 'api')}", **headers}
    )


def test_order_is_told_in_the_language_of_the_request(client):
    order = make_order(status="held", reason="out_of_stock")
    payment = make_payment(order, status="review", reason="late_rate")
    english, german = read(client, order), read(client, order, **GERMAN)
    assert german.json()["payment"]["headline"] == "Ihre Coins kamen zu spät"
    assert english_in(german) == []
    assert payment.pk in {payment.pk, english.json()["payment"]["id"]}
    assert english["ETag"] != german["ETag"]
    assert read(client, order, **{"If-None-Match": english["ETag"]}).status_code == 304
    assert read(client, order, **GERMAN, **{"If-None-Match": english["ETag"]}).status_code == 200


def test_timeline_rests_in_english_and_is_read_in_german(client):
    order = make_order()
    with translation.override("de"):  # whoever causes it
        order.note("payment", Sentence("%(coins)s more than asked arrived.", coins="0.2 BTC"))
        why = Sentence(
            "%(why)s We buy your key as soon as we can. If that takes longer than %(hours)s hours, we return your"
            " money.",
            why="Our supplier is out of stock.",
            hours=6,
        )
        order.hold(reason="out_of_stock", message=why)
    rows = [event.message for event in order.events.all()]
    assert rows[:2] == ["The order was placed.", "0.2 BTC more than asked arrived."]
    assert rows[2].startswith("Our supplier is out of stock. We buy your key")
    lines = [line["message"] for line in read(client, order, **GERMAN).json()["timeline"]]
    assert lines == [
        "Die Bestellung ist eingegangen.",
        "0.2 BTC mehr als verlangt sind angekommen.",
        "Unser Lieferant hat gerade keine Keys. Wir kaufen Ihren Key, sobald es geht. Dauert das länger als 6 Stunden,"
        " geben wir Ihnen Ihr Geld zurück.",
    ]
    assert [line["message"] for line in read(client, order).json()["timeline"]] == rows


@pytest.mark.once
@pytest.mark.parametrize("room", ["orders", "payments", "storage", "fulfillment"])
def test_timeline_keeps_no_sentence_that_is_not_marked(room):
    modules = [path for path in (Path(settings.BASE_DIR) / room).rglob("*.py") if "tests" not in path.parts]
    calls = [call for path in modules for call in ast.walk(ast.parse(path.read_text())) if isinstance(call, ast.Call)]
    unmarked = [ast.unparse(call) for call in calls if any(map(is_prose, kept_by(call, room)))]
    assert unmarked == []


def kept_by(call, room):
    """Return what a call hands to the timeline. Customers read general words for the moves of a purchase."""
    receiver, name = ast.unparse(call.func).rpartition(".")[::2]
    if name == "note" and receiver.endswith(("order", "self")) and ast.unparse(call.args[0]) != "'staff'":
        return call.args[1:]
    if room == "fulfillment" and not (receiver.endswith("order") or name == "owe_back"):
        return []
    messages_of = [keyword.value for keyword in call.keywords if keyword.arg == "message"]
    return [*messages_of, *call.args[2:]] if name == "owe_back" else messages_of


def is_prose(value):
    return isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and " " in str(value.value))


@pytest.mark.parametrize(
    ("path", "body", "more", "code", "detail"),
    [
        (f"/api/orders/{UNKNOWN}", None, {}, "not_found", "Unter dieser Adresse gibt es nichts für Sie."),
        ("/api/nowhere", None, {}, "not_found", "Unter dieser Adresse gibt es nichts für Sie."),
        ("/api/orders", "", {}, "parse_error", "Der Inhalt ist leer. Senden Sie ein JSON-Objekt."),
        ("/api/orders", "[1", {}, "parse_error", "Der Inhalt ist kein gültiges JSON in UTF-8."),
        ("/api/orders", "{}", {"Origin": "https://evil.example"}, "cross_site", "Das darf keine fremde Seite senden."),
        ("/api/orders", "x" * 70_000, {}, "too_large", "Der Inhalt ist größer als 64 KiB."),
    ],
)
def test_problem_is_told_in_german(client, path, body, more, code, detail):
    send = client.get if body is None else client.post
    options = {} if body is None else {"data": body, "content_type": "application/json"}
    answer = send(path, headers={**GERMAN, **more}, **options)
    assert answer.json()["code"] == code
    assert answer.json()["detail"].startswith(detail)


def test_errors_of_fields_are_told_in_german(client, product):
    asked = {"email": "kim", "items": [{"product": product.slug, "quantity": 1}]}
    answer = client.post("/api/orders", asked, content_type="application/json", headers=GERMAN)
    assert answer.json()["errors"] == {
        "email": ["Das ist keine E-Mail-Adresse. Prüfen Sie sie: Dorthin senden wir den Link zu Ihrem Key."]
    }
    answer = client.post("/api/orders", {}, content_type="application/json", headers=GERMAN)
    assert answer.json()["errors"]["email"] == ["Dieses Feld ist zwingend erforderlich."]  # Django REST framework's own


@pytest.mark.once
def test_every_problem_of_the_domain_has_german_words():
    assert get_resolver().url_patterns  # which loads every view, and with it what it answers
    said = {}
    for error, answer in api.DOMAIN_ANSWERS.items():
        try:
            said[error] = answer.detail(error()) if callable(answer.detail) else answer.detail
        except TypeError:  # it needs facts, and its sentence is made of them
            continue
    assert len(said) > 15
    for_staff = {"bitloot.staff", "bitloot.core", "webhooks", "fulfillment.exceptions", "orders.approvals"}
    for error, detail in said.items():
        if str(detail) and not error.__module__.startswith(tuple(for_staff)):
            english = str(detail)
            with translation.override("de"):
                assert str(detail) != english, error


@pytest.mark.once
def test_description_of_the_api_is_english_whoever_asks_first(client):
    documentation._document.cache_clear()
    first = client.get("/api/schema", headers=GERMAN)
    assert first["Content-Language"] == "en"
    documentation._document.cache_clear()
    assert first.content == client.get("/api/schema").content


# --- Staff, and what follows ---


def test_admin_is_english_for_germans_too(client):
    client.force_login(make_staff(superuser=True))
    client.cookies["language"] = "de"
    page = client.get(reverse("admin:orders_order_changelist"), headers=GERMAN)
    assert 'lang="en' in page.content.decode()
    assert "Abmelden" not in page.content.decode()
    answer = client.post("/api/admin/login", {}, content_type="application/json", headers=GERMAN)
    assert answer.json()["detail"] == "Some fields need a change; see errors."


def test_language_ends_with_the_request(client):
    client.get("/", headers=GERMAN)
    assert translation.get_language() == "en"


def test_region_that_the_shop_knows_is_named_in_the_readers_language(client):
    make_product(slug="known", region="Region free")
    make_product(slug="other", region="Moon base")
    assert "Weltweit" in client.get("/products/known", headers=GERMAN).text
    assert "Moon base" in client.get("/products/other", headers=GERMAN).text
    assert "Region free" in client.get("/products/known").text

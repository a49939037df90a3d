"""Products in the admin: covers uploaded, prices by rule, imports from Kinguin."""

from decimal import Decimal
from io import BytesIO
from typing import ClassVar

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from bitloot.tests.staff import button_of, list_of, make_staff, page_of
from bitloot.tests.test_product_form import filled
from fulfillment.models import PriceChange, PriceRule, SupplierStock
from orders.models import Product
from orders.tests.factories import make_product
from storage.objects import EmbeddedFiles

pytestmark = [pytest.mark.django_db, pytest.mark.once]
IMPORT = "/admin/orders/product/import/"
EMBER = "64b000000000000000000001"
D = Decimal


@pytest.fixture(autouse=True)
def files(settings, tmp_path):
    place = {"BACKEND": "storage.objects.EmbeddedFiles", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "covers": place}


def said(answer):
    return [str(message) for message in answer.context["messages"]]


# --- importing


def test_a_search_shows_what_kinguin_has_and_what_is_ours(boss, sandbox):
    assert "Three characters or more" in boss.get(IMPORT).content.decode()
    mine = make_product(supplier_product_id="64b000000000000000000002")
    page = boss.get(IMPORT, {"name": "glass", "platform": "PC Steam", "region": "1"}).content.decode()
    assert f'<a href="{page_of(mine)}">already yours</a>' in page
    page = boss.get(IMPORT, {"name": "drift"}).content.decode()
    assert "<td>Ember Drift</td>" in page
    assert f'<input type="hidden" name="product_id" value="{EMBER}">' in page
    assert "Kinguin has nothing of that name" in boss.get(IMPORT, {"name": "nothing at all"}).content.decode()


def test_one_button_imports_a_product_and_leads_to_its_page(boss, sandbox):
    answer = boss.post(f"{IMPORT}?name=drift", {"product_id": EMBER}, follow=True)
    product = Product.objects.get()
    assert answer.redirect_chain[0][0] == page_of(product)
    assert said(answer)[0].startswith("No rule prices it: it stands at its cost, 7.49 EUR.")
    assert LogEntry.objects.get().change_message == "Imported from Kinguin."
    assert PriceChange.objects.get().actor.startswith("staff")
    again = boss.post(IMPORT, {"product_id": EMBER}, follow=True)
    assert said(again) == ["It is ours already; nothing was changed."]
    assert Product.objects.count() == 1


def test_what_cannot_be_imported_is_said_beside_the_search(boss, sandbox):
    answer = boss.post(f"{IMPORT}?name=drift", {"product_id": "64b0000000000000000000ff"}, follow=True)
    assert said(answer)[0].startswith("Nothing was imported. Kinguin has no such product")
    assert "Ember Drift" in answer.content.decode()


def test_a_silent_supplier_and_a_dialect_without_a_catalogue_are_said(boss, sandbox, settings):
    sandbox.fault("kinguin.products", "5xx_before")
    assert "could not be searched: kinguin answered 500" in boss.get(IMPORT, {"name": "drift"}).content.decode()
    settings.KINGUIN_API = "orders"
    assert "has no catalogue" in boss.get(IMPORT, {"name": "drift"}).content.decode()


def test_without_the_permission_nothing_is_searched_or_imported(client, sandbox):
    client.force_login(make_staff("orders.view_product", "orders.add_product", "orders.change_product"))
    assert IMPORT not in client.get(list_of("orders.product")).content.decode()
    assert client.get(IMPORT, {"name": "drift"}).status_code == 403
    assert client.post(IMPORT, {"product_id": EMBER}).status_code == 403
    assert LogEntry.objects.filter(change_message="Refused “Import from Kinguin”: no permission.").count() == 2
    assert not Product.objects.exists()
    client.force_login(make_staff("orders.view_product", "fulfillment.import_product"))
    assert IMPORT in client.get(list_of("orders.product")).content.decode()
    assert client.get(IMPORT, {"name": "drift"}).status_code == 200


# --- the form


def png(size=(60, 80)):
    file = BytesIO()
    Image.new("RGB", size, "#204080").save(file, "PNG")
    return file.getvalue()


def upload(boss, product, content, **fields):
    sent = filled(title=product.title, slug=product.slug, supplier_product_id=product.supplier_product_id,
                  upload=SimpleUploadedFile("c.png", content), **fields)  # fmt: skip
    return boss.post(page_of(product), sent, follow=True)


def test_a_cover_is_uploaded_shown_and_taken_away(boss, client):
    product = make_product()
    upload(boss, product, png(), genres="Racing, Action ,", age_rating="PEGI 7", release_date="2025-03-14")
    product.refresh_from_db()
    assert (product.genres, product.age_rating, str(product.release_date)) == (
        ["Racing", "Action"],
        "PEGI 7",
        "2025-03-14",
    )
    page = boss.get(page_of(product)).content.decode()
    assert f'<img class="cover" src="{product.cover_url}"' in page
    assert 'value="Racing, Action"' in page
    assert client.get(product.cover_url)["Content-Type"] == "image/webp"
    sent = filled(title=product.title, slug=product.slug, supplier_product_id=product.supplier_product_id)
    boss.post(page_of(product), {**sent, "without_picture": "on"})
    product.refresh_from_db()
    assert product.picture == ""


class WatchedFiles(EmbeddedFiles):
    in_transaction: ClassVar[list[bool]] = []

    def save(self, name, content, max_length=None):
        self.in_transaction.append(connection.in_atomic_block)
        return super().save(name, content, max_length)


@pytest.mark.django_db(transaction=True)
def test_a_cover_is_stored_with_no_transaction_open(boss, settings):
    """On SQLite the whole shop could write nothing until the object store has it."""
    place = settings.STORAGES["covers"] | {"BACKEND": f"{__name__}.WatchedFiles"}
    settings.STORAGES = settings.STORAGES | {"covers": place}
    product = make_product()
    upload(boss, product, png())
    product.refresh_from_db()
    assert product.picture
    assert WatchedFiles.in_transaction == [False, False]  # large and small


def test_a_cover_of_somebody_who_may_only_look_is_not_stored(client, tmp_path):
    client.force_login(make_staff("orders.view_product"))
    assert upload(client, make_product(), png()).status_code == 403
    assert not (tmp_path / "covers").exists()


def test_what_is_no_picture_is_refused_and_nothing_is_saved(boss):
    product = make_product()
    answer = upload(boss, product, b"<svg onload=alert(1)>", price="12.00")
    assert answer.context["adminform"].form.errors["upload"] == [
        "This picture cannot be read. Use a JPEG, PNG or WebP file."
    ]
    product.refresh_from_db()
    assert (product.picture, product.price) == ("", D("24.99"))


def test_a_file_that_is_too_large_is_said_and_nothing_is_saved(boss, settings):
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 2000
    product = make_product()
    answer = upload(boss, product, b"\x00" * 4000, price="12.00")
    assert said(answer) == ["The cover is larger than 5 MiB. Nothing was saved."]
    product.refresh_from_db()
    assert product.price == D("24.99")


def test_a_price_that_staff_change_is_written_down_with_the_cost_of_then(boss):
    product = make_product()
    SupplierStock.objects.create(product=product, price=D("7.00"), quantity=9, seen_at=timezone.now())
    upload(boss, product, png(), price="12.00")
    upload(boss, product, png(), price="12.00")
    change = PriceChange.objects.get()
    assert (change.old_price, change.new_price, change.cost, change.rule) == (D("24.99"), D("12.00"), D("7.00"), "")
    assert f"product={product.pk}" in boss.get(page_of(product)).content.decode()


# --- the list


def test_the_list_says_what_each_costs_leaves_and_how_many_there_are(boss):
    now = timezone.now()
    said = {"price": D("7.49"), "quantity": 12, "text_quantity": 9, "seen_at": now}
    make_rows = [
        ({"price": D("9.99"), "max_cost": D("8.50")}, said),
        ({"price": D("9.99"), "max_cost": D("7.00"), "title": "Above its cap"}, said),
        ({"title": "None left"}, {"quantity": 0, "seen_at": now}),
        ({"title": "Gone"}, {"quantity": 0, "seen_at": now, "gone_since": now}),
    ]
    for fields, stock in make_rows:
        SupplierStock.objects.create(product=make_product(**fields), **stock)
    page = boss.get(list_of("orders.product")).content.decode()
    for words in (
        "2.50 EUR (25 %)",
        "9 of 12",
        'badge-bad">2.50 EUR (25 %)',
        'badge-look">sold out',
        'badge-bad">unknown to Kinguin',
    ):
        assert words in page, words


# --- rules


@pytest.fixture
def rule():
    for number, cost in enumerate(("5.00", "6.00")):
        stock = {"price": D(cost), "quantity": 9, "text_quantity": 9, "seen_at": timezone.now()}
        SupplierStock.objects.create(product=make_product(title=f"Game {number}"), **stock)
    make_product(title="Never asked about")
    return PriceRule.objects.create(name="All", margin=50)


def test_a_rule_shows_what_it_would_change_and_changes_that(boss, rule):
    page = boss.get(page_of(rule)).content.decode()
    assert "2 of 3 prices would change" in page
    assert "1 unchanged: The supplier has none, or was not asked yet." in page
    form = boss.get(button_of(rule, "apply"))
    assert "<b>7.99 EUR</b>" in form.content.decode()
    answer = boss.post(button_of(rule, "apply"), {"seen": form.context["seen"]}, follow=True)
    assert said(answer) == ["All: the prices are changed; orders that were placed keep theirs"]
    assert sorted(Product.objects.values_list("title", "price")) == [
        ("Game 0", D("7.99")), ("Game 1", D("9.99")), ("Never asked about", D("24.99"))
    ]  # fmt: skip
    assert PriceChange.objects.count() == 2
    again = boss.post(button_of(rule, "apply"), {"seen": form.context["seen"]}, follow=True)
    assert "Somebody decided about it meanwhile" in said(again)[0]


def test_a_cost_that_moved_since_the_preview_changes_nothing(boss, rule):
    seen = boss.get(button_of(rule, "apply")).context["seen"]
    SupplierStock.objects.filter(price=5).update(price=D("5.50"))
    answer = boss.post(button_of(rule, "apply"), {"seen": seen}, follow=True)
    assert "has changed meanwhile" in said(answer)[0]
    assert not PriceChange.objects.exists()


def asked_to_reprice(client, *products, **fields):
    ticked = {"action": "reprice", "_selected_action": [str(product.pk) for product in products]}
    return client.post(list_of("orders.product"), {**ticked, **fields}, follow=True)


def test_chosen_products_are_repriced_by_a_rule_as_previewed(boss, rule):
    first, second, never = Product.objects.order_by("title")
    assert "Reprice by a rule…" in boss.get(list_of("orders.product")).content.decode()
    shown = asked_to_reprice(boss, first, never, index="0")
    page = shown.content.decode()
    assert "1 of 2 prices would change" in page
    assert "1 unchanged: The supplier has none, or was not asked yet." in page
    done = asked_to_reprice(boss, first, never, rule=rule.pk, seen=shown.context["seen"])
    assert said(done) == ["All: 1 price is changed; orders that were placed keep theirs."]
    assert sorted(Product.objects.values_list("title", "price")) == [
        ("Game 0", D("7.99")), ("Game 1", second.price), ("Never asked about", never.price)
    ]  # fmt: skip
    change, line = PriceChange.objects.get(), LogEntry.objects.get()
    assert (change.product, change.rule, change.new_price) == (first, "All", D("7.99"))
    assert (line.object_id, line.change_message) == (str(first.pk), "Repriced by the rule “All”.")
    again = asked_to_reprice(boss, first, never, rule=rule.pk, seen=shown.context["seen"])
    assert "has changed meanwhile" in said(again)[0]
    assert PriceChange.objects.count() == 1


def test_another_rule_than_the_products_own_may_be_chosen(boss, rule):
    other = PriceRule.objects.create(name="Steam", platform="PC Steam", margin=100)
    products = Product.objects.filter(title__startswith="Game")
    assert asked_to_reprice(boss, *products).context["rule"] == rule
    shown = asked_to_reprice(boss, *products, rule=other.pk)
    assert shown.context["rule"] == other
    asked_to_reprice(boss, *products, rule=other.pk, seen=shown.context["seen"])
    assert sorted(products.values_list("price", flat=True)) == [D("10.99"), D("12.99")]


def test_all_that_the_list_shows_may_be_repriced(boss, rule):
    first = Product.objects.get(title="Game 0")
    shown = asked_to_reprice(boss, first, select_across="1")
    assert "2 of 3 prices would change" in shown.content.decode()
    assert 'name="select_across" value="1"' in shown.content.decode()
    done = asked_to_reprice(boss, first, select_across="1", rule=rule.pk, seen=shown.context["seen"])
    assert said(done) == ["All: 2 prices are changed; orders that were placed keep theirs."]


def test_a_cost_that_moved_since_the_preview_reprices_nothing(boss, rule):
    games = Product.objects.filter(title__startswith="Game")
    seen = asked_to_reprice(boss, *games).context["seen"]
    SupplierStock.objects.filter(price=5).update(price=D("5.50"))
    answer = asked_to_reprice(boss, *games, rule=rule.pk, seen=seen)
    assert "has changed meanwhile" in said(answer)[0]
    assert not PriceChange.objects.exists()


def test_without_a_rule_or_with_one_that_went_nothing_is_repriced(boss):
    product = make_product()
    assert "There is no price rule yet" in asked_to_reprice(boss, product).content.decode()
    PriceRule.objects.create(name="All", margin=50)
    gone = asked_to_reprice(boss, product, rule=0, seen="")
    assert "This rule is gone" in gone.content.decode()
    nothing = asked_to_reprice(boss, product, rule=PriceRule.objects.get().pk, seen=gone.context["seen"])
    assert said(nothing) == ["All: No price would change."]


def test_without_the_permission_nothing_is_repriced(client, rule):
    client.force_login(make_staff("orders.view_product", "orders.change_product", "fulfillment.view_pricerule"))
    games = Product.objects.filter(title__startswith="Game")
    assert "Reprice by a rule…" not in client.get(list_of("orders.product")).content.decode()
    assert asked_to_reprice(client, *games, rule=rule.pk, seen="").status_code == 403
    assert LogEntry.objects.get().change_message == "Refused “Reprice by a rule…”: no permission."
    assert not PriceChange.objects.exists()


def test_a_rule_is_written_by_staff_and_applied_by_those_who_may(client, rule):
    client.force_login(make_staff("fulfillment.view_pricerule", "fulfillment.change_pricerule"))
    sent = {
        "name": "All",
        "platform": "",
        "margin": "20",
        "least_margin": "0",
        "ending": "99",
        "floor": "9",
        "cap": "8",
    }
    answer = client.post(page_of(rule), sent)
    assert answer.context["adminform"].form.errors == {"floor": ["This is more than the cap."]}
    assert client.post(page_of(rule), {**sent, "cap": ""}).status_code == 302
    assert client.get(button_of(rule, "apply")).status_code == 403
    assert LogEntry.objects.filter(change_message="Refused “Change these prices”: no permission.").exists()
    assert not PriceChange.objects.exists()


def test_a_second_rule_for_all_others_is_refused_in_words(boss, rule):
    sent = {"name": "Another", "platform": "", "margin": "20", "least_margin": "0", "ending": "99"}
    answer = boss.post(reverse("admin:fulfillment_pricerule_add"), sent)
    assert "platform" in answer.context["adminform"].form.errors


def test_list_of_rules_has_the_units_of_its_numbers(boss):
    PriceRule.objects.create(name="All", margin=20, least_margin=D("1.50"), cap=60)
    page = boss.get(list_of("fulfillment.pricerule")).content.decode()
    assert [unit for unit in ("20.00 %", "1.50 EUR", "60.00 EUR") if unit not in page] == []

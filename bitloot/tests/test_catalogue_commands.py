"""import_product and sync_products, at the sandbox."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from bitloot.tests.commands import run
from fulfillment.models import PriceChange, SupplierStock
from orders.models import Product

pytestmark = [pytest.mark.django_db, pytest.mark.once]
EMBER, HARBOUR, UNKNOWN = "64b000000000000000000001", "64b000000000000000000002", "64b0000000000000000000ff"


@pytest.fixture(autouse=True)
def operator(monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "kim")


def document(*arguments):
    code, out, _ = run(*arguments, "--json")
    return code, json.loads(out)


def test_a_search_shows_what_there_is_and_imports_nothing(sandbox):
    run("import_product", EMBER)
    code, found = document("import_product", "--search", "drift")
    assert (code, [(one["product_id"], one["price"], one["ours"]) for one in found["found"]]) == (
        0, [(EMBER, "7.49", True)]
    )  # fmt: skip
    _, out, _ = run("import_product", "--search", "glass", "--platform", "PC Steam", "--region", "1")
    assert out.startswith(
        f"{HARBOUR}     11.90 EUR  Harbour of Glass  [PC Steam, Europe]\n1 products shown, none imported."
    )
    assert Product.objects.count() == 1


def test_products_are_imported_by_id_and_a_repeat_changes_nothing(sandbox):
    code, told = document("import_product", EMBER, HARBOUR)
    assert (code, [row["outcome"] for row in told["products"]]) == (0, ["imported", "imported"])
    assert {change.actor for change in PriceChange.objects.all()} == {"kim"}
    assert [row["outcome"] for row in document("import_product", EMBER, HARBOUR)[1]["products"]] == ["ours", "ours"]
    assert Product.objects.filter(is_active=False).count() == 2


def test_all_that_a_search_found_can_be_imported(sandbox):
    assert run("import_product", "--search", "drift", "--all")[0] == 0
    assert Product.objects.get().supplier_product_id == EMBER


def test_a_dry_run_asks_and_imports_nothing(sandbox):
    code, told = document("import_product", EMBER, "--dry-run")
    assert (code, told["products"][0]["outcome"], told["products"][0]["title"]) == (0, "possible", "Ember Drift")
    assert not Product.objects.exists()


@pytest.mark.parametrize("more", [(), ("--refresh",)])
def test_a_dry_run_ends_as_the_import_of_one_that_is_ours(sandbox, more):
    run("import_product", EMBER)
    before = Product.objects.values().get()
    if not more:  # then nobody is asked
        sandbox.fault("kinguin.product", "5xx_before")
    foreseen, done = (document("import_product", EMBER, *more, *dry) for dry in (("--dry-run",), ()))
    assert foreseen[0] == done[0] == 0
    same = ("outcome", "title", "slug", "price")
    assert [foreseen[1]["products"][0][name] for name in same] == [done[1]["products"][0][name] for name in same]
    if not more:
        assert Product.objects.values().get() == before


def test_one_that_fails_stops_no_other(sandbox):
    code, out, complaint = run("import_product", UNKNOWN, EMBER)
    assert (code, complaint) == (1, "1 of 2 products were not imported.")
    assert "Kinguin has no such product" in out
    assert Product.objects.count() == 1


@pytest.mark.parametrize("arguments", [(), (EMBER, "--search", "drift"), ("--search", "ab"), ("--page", "x")])
def test_a_wrong_call_exits_64(arguments):
    assert run("import_product", *arguments)[0] == 64


def test_a_dialect_without_a_catalogue_says_so(settings):
    settings.KINGUIN_API = "orders"
    assert "has no catalogue" in run("import_product", "--search", "drift")[2]
    settings.KINGUIN_API = "ecommerce"


def test_products_that_are_due_are_looked_at(sandbox):
    run("import_product", EMBER, HARBOUR)
    Product.objects.update(is_active=True)
    SupplierStock.objects.filter(product__supplier_product_id=EMBER).update(due_at=timezone.now() - timedelta(hours=1))
    assert document("sync_products", "--dry-run") == (
        0, {"dry_run": True, "due": 1, "answered": 0, "left": 1, "trouble": ""}
    )  # fmt: skip
    assert run("sync_products")[:2] == (0, "1 products due, 1 answered about, 0 left.\n")
    assert run("sync_products", "--all")[:2] == (0, "2 products due, 2 answered about, 0 left.\n")


def test_a_supplier_that_is_away_leaves_them_due(sandbox):
    run("import_product", EMBER)
    Product.objects.update(is_active=True)
    sandbox.fault("kinguin.products", "5xx_before")
    code, told = document("sync_products", "--all")
    assert (code, told["due"], told["left"], told["trouble"]) == (1, 1, 1, "kinguin answered 500")
    assert SupplierStock.objects.get().quantity > 0

from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from bitloot.core.providers import ProviderError
from bitloot.management.operator import OperatorCommand, UsageError, whole
from bitloot.ops.operator import whoami
from fulfillment import catalogue
from fulfillment.catalogue import NotImported
from fulfillment.kinguin import SupplierProduct
from fulfillment.kinguin.ecommerce import LEAST_NAME
from orders.models import Product


class Command(OperatorCommand):
    help = (
        "Make products of Kinguin's catalogue ours: title, texts, facts and cover, and a price where a price rule makes"
        " one. They are off sale until staff put them on sale. --search shows what there is, with the ids to import."
        " One that is ours already stays as it is."
    )
    exit_codes = {0: "imported, ours already, or shown", 1: "some were not imported; the text says why"}
    has_json = has_dry_run = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("product_id", nargs="*", help="Kinguin's productId, 24 digits from 0-9 and a-f")
        parser.add_argument(
            "--search", metavar="NAME", help="show the products with this name, three characters or more"
        )
        parser.add_argument("--platform", default="", help="of the search, as Kinguin names it: PC Steam")
        parser.add_argument(
            "--region", type=whole(0, 1_000_000), help="of the search, by Kinguin's number: 3 is region free"
        )
        parser.add_argument("--page", type=whole(1, 1_000_000), default=1, help="of what the search finds")
        parser.add_argument("--all", action="store_true", help="import every product on that page of the search")
        parser.add_argument(
            "--refresh", action="store_true", help="take texts, facts and cover anew if it is ours, never its price"
        )

    def handle(self, *product_id: str, **options: Any) -> None:
        ids = options["product_id"]
        if bool(ids) == bool(options["search"]):
            raise UsageError("Name productIds, or what to --search for.")
        if options["search"] and len(options["search"]) < LEAST_NAME:
            raise UsageError(f"Kinguin searches for {LEAST_NAME} characters or more.")
        try:
            found = self._search(options) if options["search"] else []
        except (ProviderError, ImproperlyConfigured) as err:
            raise CommandError(f"The catalogue could not be searched: {err}") from err
        if options["search"] and not options["all"]:
            self._show(found, options)
            return
        self._import(ids or [product.product_id for product in found], options)

    def _search(self, options: dict[str, Any]) -> list[SupplierProduct]:
        wanted = {"name": options["search"], "platform": options["platform"], "region": options["region"]}
        return catalogue.search(**wanted, page=options["page"]).products

    def _show(self, found: list[SupplierProduct], options: dict[str, Any]) -> None:
        ours = catalogue.ours(found)
        if options["json"]:
            self.write_json({"found": [{**_facts(one), "ours": one.product_id in ours} for one in found]})
            return
        for one in found:
            mark = "  (yours already)" if one.product_id in ours else ""
            self.stdout.write(
                f"{one.product_id}  {one.price:>8.2f} EUR  {one.name}  [{one.platform}, {one.region}]{mark}"
            )
        self.stdout.write(f"{len(found)} products shown, none imported. Name the ids to import, or add --all.")

    def _import(self, ids: Iterable[str], options: dict[str, Any]) -> None:
        wanted, rows = list(dict.fromkeys(ids)), []
        with self.progress(len(wanted), "products") as step:
            for product_id in wanted:
                rows.append(self._one(product_id, options))
                step(1)
        if options["json"]:
            self.write_json({"dry_run": options["dry_run"], "products": rows})
        else:
            for row in rows:
                self.stdout.write(f"{row['product_id']}  {row['outcome']}  {row['title']}  {' '.join(row['notes'])}")
        if failed := sum(row["outcome"] == "failed" for row in rows):
            raise CommandError(f"{failed} of {len(rows)} products were not imported.")

    def _one(self, product_id: str, options: dict[str, Any]) -> dict[str, Any]:
        ours: dict[str, Any] = {"product_id": product_id, "title": "", "notes": [], "slug": None, "price": None}
        try:
            if options["dry_run"]:
                return ours | _foreseen(product_id, refresh=options["refresh"])
            done = catalogue.import_product(product_id, actor=whoami(), refresh=options["refresh"])
        except (NotImported, ProviderError, ImproperlyConfigured) as err:
            return {**ours, "outcome": "failed", "notes": [str(err)]}
        outcome = "imported" if done.is_new else "ours"
        facts = {"slug": done.product.slug, "price": done.product.price}
        return {
            "product_id": product_id,
            "outcome": outcome,
            "title": done.product.title,
            "notes": list(done.notes),
            **facts,
        }


def _foreseen(product_id: str, *, refresh: bool) -> dict[str, Any]:
    """Return what an import would report. Raises NotImported, or ProviderError."""
    existing = Product.objects.filter(supplier_product_id=product_id).first()
    if existing is None:
        return {"outcome": "possible", "title": catalogue.describe(product_id).name}
    if refresh:
        catalogue.describe(product_id)
    note = "It is ours already; its texts and facts would be taken anew." if refresh else "It is ours already."
    facts = {"slug": existing.slug, "price": existing.price}
    return {"outcome": "ours", "title": existing.title, "notes": [note], **facts}


def _facts(one: SupplierProduct) -> dict[str, Any]:
    names = ("product_id", "number", "name", "platform", "region", "price", "qty", "text_qty")
    return {name: getattr(one, name) for name in names}

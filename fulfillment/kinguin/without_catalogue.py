"""What a dialect answers that cannot show Kinguin's products, only sell them."""

from collections.abc import Sequence

from fulfillment.kinguin.protocol import Found, Lookups, NotSupported, SupplierProduct

NO_CATALOGUE = (
    "This dialect of KINGUIN_API has no catalogue: products cannot be searched, imported or looked at. Add them by hand"
    " in the admin, or set KINGUIN_API=ecommerce."
)


class WithoutCatalogue:
    """Both plain dialects sell by an id that staff typed: they name no price, no stock and no title."""

    def quote(self, product_id: str) -> None:
        """Say nothing: the dialect has no catalogue."""

    def search(self, *, name: str = "", platform: str = "", region: int | None = None, page: int = 1) -> Found:
        raise NotSupported(NO_CATALOGUE)

    def product(self, product_id: str) -> SupplierProduct:
        raise NotSupported(NO_CATALOGUE)

    def products(self, product_ids: Sequence[str]) -> dict[str, SupplierProduct]:
        raise NotSupported(NO_CATALOGUE)

    def lookups(self) -> Lookups:
        raise NotSupported(NO_CATALOGUE)

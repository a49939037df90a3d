"""What is for sale, as the shop window and `/api/products` are asked for it: the same form reads both."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.cache import caches
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet
from django.utils.translation import gettext_lazy as _

from bitloot.shop.search import search
from fulfillment.availability import sold_out
from orders.models import Product

# How old a list may be: prices are read again when an order is placed.
KEPT_SECONDS = 5

ORDERINGS = {
    "title": ("title", "id"),
    "-title": ("-title", "-id"),
    "price": ("price", "title", "id"),
    "-price": ("-price", "title", "id"),
    "newest": ("-created_at", "id"),
}
ORDERING_NAMES = {
    "title": _("Title, A to Z"),
    "-title": _("Title, Z to A"),
    "price": _("Price, lowest first"),
    "-price": _("Price, highest first"),
    "newest": _("Newest in the shop"),
}
YES_OR_NO = {"true": True, "1": True, "false": False, "0": False}


def for_sale() -> QuerySet[Product]:
    return Product.objects.filter(is_active=True).select_related("supplier_stock")


def read(ids: Iterable[Any]) -> list[Product]:
    """Return these products in this order. To sort whole rows, with their descriptions, takes ten times as long."""
    ids = list(ids)
    rows = for_sale().in_bulk(ids)
    return [rows[pk] for pk in ids if pk in rows]


def kept_page(name: str, make: Callable[[], bytes]) -> bytes:
    """Return what was made under this name a few seconds ago, or make it."""
    key = sha256(name.encode()).hexdigest()
    body: bytes | None = caches["pages"].get(key)
    if body is None:
        body = make()
        caches["pages"].set(key, body, KEPT_SECONDS)
    return body


@dataclass(frozen=True)
class Choice:
    value: str
    count: int
    is_chosen: bool


class Counts:
    """How many products each platform and region has: one statement for the number of pages and for all choices."""

    def __init__(self, groups: Iterable[tuple[str, str, int]], chosen: Mapping[str, str]) -> None:
        self._groups = [({"platform": platform, "region": region}, number) for platform, region, number in groups]
        self._chosen = chosen

    @property
    def total(self) -> int:
        return sum(number for group, number in self._groups if self._chosen.items() <= group.items())

    @property
    def platforms(self) -> list[Choice]:
        return self._choices("platform")

    @property
    def regions(self) -> list[Choice]:
        return self._choices("region")

    def _choices(self, field: str) -> list[Choice]:
        # Counted without this filter: another choice would replace it. The chosen one stays, even with nothing.
        others = {name: value for name, value in self._chosen.items() if name != field}
        counts: Counter[str] = Counter({self._chosen[field]: 0} if field in self._chosen else {})
        for group, number in self._groups:
            counts[group[field]] += number if others.items() <= group.items() else 0
        mine = self._chosen.get(field)
        shown = [(value, number) for value, number in counts.items() if value and (number or value == mine)]
        return [Choice(value, number, value == mine) for value, number in sorted(shown)]


class YesOrNoField(forms.CharField):
    def clean(self, value: Any) -> bool | None:
        text = super().clean(value)
        if text and text.lower() not in YES_OR_NO:
            raise ValidationError(_("Write true or false."))
        return YES_OR_NO[text.lower()] if text else None


class PriceField(forms.DecimalField):
    """Takes 12.50 and, as half of Europe writes it, 12,50. 1,000 has three decimals and is refused."""

    def to_python(self, value: Any) -> Any:
        return super().to_python(value.replace(",", ".") if isinstance(value, str) else value)


class ProductFilter(forms.Form):
    """What is asked for. A value that cannot be is an error of its own field and leaves the others as they are."""

    q = forms.CharField(required=False, max_length=100, label=_("Search"), help_text="Words, in any order.")
    platform = forms.CharField(
        required=False, max_length=40, label=_("Platform"), help_text="Exactly as products have it."
    )
    region = forms.CharField(required=False, max_length=40, label=_("Region"), help_text="Exactly as products have it.")
    min_price = PriceField(required=False, min_value=0, max_digits=10, decimal_places=2, label=_("Price from"))
    max_price = PriceField(required=False, min_value=0, max_digits=10, decimal_places=2, label=_("Price to"))
    in_stock = YesOrNoField(required=False, label=_("In stock only"), help_text="false: what is sold out.")
    ordering = forms.ChoiceField(
        required=False,
        choices=list(ORDERING_NAMES.items()),
        label=_("Sort by"),
        error_messages={"invalid_choice": _("Sort by title, -title, price, -price or newest.")},
        help_text=f"{', '.join(ORDERINGS)}. Without it: the best matches first, or by title.",
    )

    def __init__(self, asked: Mapping[str, Any]) -> None:
        super().__init__(asked)
        self.is_valid()

    def products(self, *, leave_out: Collection[str] = ()) -> QuerySet[Product]:
        asked = {name: value for name, value in self.asked.items() if name not in leave_out}
        lookups = {"platform": "platform", "region": "region", "min_price": "price__gte", "max_price": "price__lte"}
        found = self._found.filter(**{lookup: asked[name] for name, lookup in lookups.items() if name in asked})
        if "in_stock" in asked:
            found = found.alias(is_gone=sold_out()).filter(is_gone=not asked["in_stock"])
        if "ordering" in asked:
            return found.order_by(*ORDERINGS[asked["ordering"]])
        return found if "q" in asked else found.order_by("title", "id")

    @property
    def asked(self) -> dict[str, Any]:
        """Return what was asked for and makes sense."""
        return {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}

    @cached_property
    def counts(self) -> "Counts":
        asked = self.asked
        chosen: dict[str, str] = {field: asked[field] for field in ("platform", "region") if field in asked}
        groups = self.products(leave_out=("platform", "region")).order_by().values_list("platform", "region")
        return Counts(list(groups.annotate(number=Count("*"))), chosen)

    @property
    def orderings(self) -> list[tuple[str, Any]]:
        """Return what else a list can be sorted by; by title is what it is without."""
        return [(name, label) for name, label in ORDERING_NAMES.items() if name != "title" or "q" in self.asked]

    def chips(self) -> list[tuple[str, str]]:
        """Return the filters in words, each with the end of the address that goes without it."""
        words = {"q": _("“%s”"), "min_price": _("from %s EUR"), "max_price": _("up to %s EUR")}
        filters = {name: value for name, value in self.asked.items() if name != "ordering"}
        if "in_stock" in filters:
            filters["in_stock"] = _("In stock") if filters["in_stock"] else _("Sold out")
        return [(str(words.get(name, "%s")) % value, self.query(**{name: None})) for name, value in filters.items()]

    def query(self, **changes: Any) -> str:
        """Return what is asked for as the end of an address; what is changed to None is left out."""
        asked = self.asked | changes
        words = {name: "true" if value else "false" for name, value in asked.items() if isinstance(value, bool)}
        return urlencode({name: value for name, value in (asked | words).items() if value is not None})

    @cached_property
    def _found(self) -> QuerySet[Product]:
        return search(for_sale(), self.cleaned_data.get("q") or "")

"""The products of staff: what the supplier says of each beside our price, its cover, and the way from the catalogue.

The form asks the supplier: a wrong id would be noticed by the first customer who paid.
"""

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.html import format_html

from bitloot.core.admin.base import may_view
from bitloot.core.admin.formatting import NOTHING, age, badge, list_link, money_of
from bitloot.core.choices import Tone
from bitloot.core.money import money
from bitloot.core.providers import ProviderError
from bitloot.staff import importing, repricing
from fulfillment import pricing, sync
from fulfillment.exceptions import UnknownProduct
from fulfillment.models import PriceRule, SupplierStock
from fulfillment.services import check_product
from orders import covers
from orders.admin import ProductAdmin
from orders.models import Product

FACTS = ("genres", "age_rating", "release_date")


class CommaList(forms.CharField):
    """Words of a list, typed with commas between them."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        return [word.strip()[:40] for word in str(super().to_python(value)).split(",") if word.strip()][:10]


class ProductForm(forms.ModelForm):
    upload = forms.FileField(
        label="New cover", required=False,
        help_text="A JPEG, PNG or WebP file of at most 5 MiB; upright (3:4) fits best.",
        widget=forms.FileInput(attrs={"accept": "image/jpeg,image/png,image/webp"}),
    )  # fmt: skip
    without_picture = forms.BooleanField(label="Take the cover away", required=False)
    genres = CommaList(required=False, help_text="With commas between them.")
    doubt = ""
    said: ClassVar[dict[str, Exception | None]] = {}  # the supplier, of the ids that it was asked about
    stored: ClassVar[str | covers.BadPicture | OSError] = ""  # the new cover's digest, or the error that prevented it

    class Meta:
        widgets = {"release_date": forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.initial.keys() & self.fields.keys():
            # Sent back with the form, it separates what this page showed from what staff have changed.
            self.fields[name].show_hidden_initial = True

    def clean_upload(self) -> Any:
        file = self.cleaned_data["upload"]
        if file is None:
            return None
        if isinstance(self.stored, covers.BadPicture):
            raise ValidationError(str(self.stored)) from self.stored
        if isinstance(self.stored, OSError):
            later = "The cover could not be stored right now. Save again without it, or later."
            raise ValidationError(later) from self.stored
        self.instance.picture = self.stored
        return file

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        cleaned |= {name: self.initial[name] for name in cleaned if self._is_as_shown(name)}
        if cleaned.get("without_picture") and not cleaned.get("upload"):
            self.instance.picture = ""
        trouble = self.said.get(cleaned.get("supplier_product_id", ""))
        if isinstance(trouble, UnknownProduct) and cleaned.get("is_active"):
            raise ValidationError({"supplier_product_id": str(trouble)}) from trouble
        if isinstance(trouble, UnknownProduct):
            self.doubt = str(trouble)
        elif trouble is not None:
            self.doubt = f"We could not ask the supplier whether it has this product: {trouble}."
        return cleaned

    def _is_as_shown(self, name: str) -> bool:
        """Whether nobody typed over what the page showed.

        That stays as it is now: since the page was opened, a price rule, an import or a colleague may have changed it.
        """
        was_shown = name in self.initial and self[name].html_initial_name in self.data
        return was_shown and name not in self.changed_data


@admin.register(Product)
class CheckedProductAdmin(ProductAdmin):
    form = ProductForm
    change_list_template = "admin/bitloot/products.html"
    list_display = ("title", "platform", "region", "amount", "cost", "left", "cap", "stock", "look", "for_sale")
    list_select_related = ("supplier_stock",)
    amount = money_of("price", "price")
    cap = money_of("max_cost", "cap")
    actions = (repricing.ACTION,)
    fieldsets = (
        (None, {"fields": ("title", "slug", "is_active", "description")}),
        ("Cover", {"fields": ("shown_cover", "upload", "without_picture", "cover")}),
        ("Key", {"fields": ("platform", "region", "key_type", "activation")}),
        ("Facts", {"fields": FACTS}),
        (
            "Money",
            {"fields": (("price", "currency"), "cost", "left", "max_cost", "min_margin", "margin", "price_history")},
        ),
        ("Supplier", {"fields": ("supplier_product_id", "supplier_offer_id", ("stock", "look"), "stock_wait_hours")}),
        ("Row", {"fields": ("id", "created")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        own = ("shown_cover", "cost", "left", "stock", "look", "price_history")
        return (*super().get_readonly_fields(request, obj), *own)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.import_view)
        return [path("import/", view, name="orders_product_import"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST":
            repricing.demand_permission(request)
        own = {"may_import": request.user.has_perm(importing.PERMISSION), "may_price": may_view(request, PriceRule)}
        return super().changelist_view(request, {**own, **(extra_context or {})})

    def has_reprice_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(repricing.PERMISSION)

    @admin.action(description=repricing.LABEL, permissions=["reprice"])
    def reprice(self, request: HttpRequest, products: QuerySet[Product]) -> HttpResponse | None:
        return repricing.show(self, request, products)

    def import_view(self, request: HttpRequest) -> HttpResponse:
        return importing.show(self, request)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        # Django passes over a file that is too large, and would save the rest without a word.
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.FILE_UPLOAD_MAX_MEMORY_SIZE:
            self.message_user(request, "The cover is larger than 5 MiB. Nothing was saved.", messages.ERROR)
            return HttpResponseRedirect(request.path)
        if request.method == "POST":
            # Before Django's transaction, in which the form is judged: on SQLite nobody else could write meanwhile.
            before: Any = self.get_object(request, unquote(object_id)) if object_id else None
            if self.has_change_permission(request, before) if object_id else self.has_add_permission(request):
                request.said = _ask_supplier(request, before)  # type: ignore[attr-defined]
                request.stored = _store_cover(request)  # type: ignore[attr-defined]
        return super().changeform_view(request, object_id, *args, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        # The class is made for this request.
        form.said, form.stored = getattr(request, "said", {}), getattr(request, "stored", "")
        return form

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        product = super().get_object(request, object_id, from_field)
        if product is not None and request.method == "POST" and connection.in_atomic_block:
            # Locked from here until it is saved: all columns are written, those that a price rule changes, too.
            return Product.objects.select_for_update(no_key=True).get(pk=product.pk)
        return product

    def save_model(self, request: HttpRequest, obj: Product, form: Any, change: bool) -> None:
        before = Product.objects.filter(pk=obj.pk).first()
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            self._record_price(request, before, obj)
            if obj.is_active and "is_active" in form.changed_data:
                sync.back_on_sale(obj)
        if form.doubt:
            self.message_user(request, f"Saved, but: {form.doubt}", messages.WARNING)

    def _record_price(self, request: HttpRequest, before: Product | None, now: Product) -> None:
        stock, actor = _stock(now), request.user.get_username()
        cost = stock.price if stock is not None else None
        if before is None:
            pricing.record_first(now, actor=actor, cost=cost)
        else:
            pricing.record(before, now.price, actor=actor, cost=cost)

    @admin.display(description="cost", ordering="supplier_stock__price")
    def cost(self, product: Product) -> str:
        """What the supplier asks, as it last said."""
        stock = _stock(product)
        return money(stock.price) if stock is not None and stock.price is not None else NOTHING

    @admin.display(description="margin now")
    def left(self, product: Product) -> str:
        """What is left of the price at that cost."""
        stock = _stock(product)
        if stock is None or stock.price is None or product.price is None:
            return NOTHING
        left = product.price - stock.price
        words = f"{money(left)} ({100 * left / product.price:.0f} %)"
        is_enough = left >= product.min_margin and stock.price <= product.max_cost
        return words if is_enough else badge(words, Tone.BAD)

    @admin.display(description="stock", ordering="supplier_stock__quantity")
    def stock(self, product: Product) -> str:
        stock = _stock(product)
        if stock is None:
            return NOTHING
        if stock.gone_since is not None:
            return badge("unknown to Kinguin", Tone.BAD)
        if not stock.quantity:
            return badge("sold out", Tone.LOOK)
        is_text = product.key_type == Product.KeyType.TEXT
        return f"{stock.text_quantity} of {stock.quantity}" if is_text else str(stock.quantity)

    @admin.display(description="last look", ordering="supplier_stock__seen_at")
    def look(self, product: Product) -> str:
        stock = _stock(product)
        return age(stock.seen_at) if stock is not None else NOTHING

    @admin.display(description="on sale", boolean=True, ordering="is_active")
    def for_sale(self, product: Product) -> bool:
        return product.is_active

    @admin.display(description="cover now")
    def shown_cover(self, product: Product) -> str:
        return format_html('<img class="cover" src="{}" alt="" width="150" height="200">', product.cover_url)

    @admin.display(description="history")
    def price_history(self, product: Product) -> str:
        return list_link("fulfillment.pricechange", "what it cost before", product=product.pk)


def _ask_supplier(request: HttpRequest, before: Product | None) -> dict[str, Exception | None]:
    product_id = request.POST.get("supplier_product_id", "").strip()
    is_new = before is None or before.supplier_product_id != product_id
    goes_on_sale = "is_active" in request.POST and not (before and before.is_active)
    # A product that is sold out for a while can still be edited: only a new id, or going on sale, is asked about.
    return {product_id: _trouble_with(product_id)} if product_id and (is_new or goes_on_sale) else {}


def _trouble_with(product_id: str) -> Exception | None:
    try:
        check_product(product_id)
    except (UnknownProduct, ProviderError, ImproperlyConfigured) as err:
        return err
    return None


def _store_cover(request: HttpRequest) -> str | covers.BadPicture | OSError:
    """Store the picture before its form is judged; `prune` removes a cover that no product names in the end."""
    file = request.FILES.get("upload")
    try:
        return covers.keep(file.read()) if file else ""
    except (covers.BadPicture, OSError) as err:
        return err


def _stock(product: Product) -> SupplierStock | None:
    return getattr(product, "supplier_stock", None)

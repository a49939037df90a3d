"""The form of a product, which asks the supplier: a wrong id would be noticed by the first customer who paid."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.http import HttpRequest

from bitloot.core.providers import ProviderError
from fulfillment.exceptions import UnknownProduct
from fulfillment.services import check_product
from orders.admin import ProductAdmin
from orders.models import Product


class ProductForm(forms.ModelForm):
    doubt = ""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        product_id = cleaned.get("supplier_product_id")
        is_for_sale = bool(cleaned.get("is_active"))
        goes_on_sale = is_for_sale and "is_active" in self.changed_data
        # A product that is sold out for a while can still be edited: only a new id, or going on sale, is asked about.
        if product_id and (goes_on_sale or "supplier_product_id" in self.changed_data):
            self._ask_supplier(product_id, is_for_sale=is_for_sale)
        return cleaned

    def _ask_supplier(self, product_id: str, *, is_for_sale: bool) -> None:
        try:
            check_product(product_id)
        except UnknownProduct as err:
            if is_for_sale:
                raise ValidationError({"supplier_product_id": str(err)}) from err
            self.doubt = str(err)
        except (ProviderError, ImproperlyConfigured) as err:
            self.doubt = f"We could not ask the supplier whether it has this product: {err}."


@admin.register(Product)
class CheckedProductAdmin(ProductAdmin):
    form = ProductForm

    def save_model(self, request: HttpRequest, obj: Product, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if form.doubt:
            self.message_user(request, f"Saved, but: {form.doubt}", messages.WARNING)

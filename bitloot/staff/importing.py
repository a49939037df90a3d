"""“Import from Kinguin”: search the supplier's catalogue, and make one of its products ours with one button."""

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from bitloot.core.admin.base import BaseAdmin
from bitloot.core.providers import ProviderError
from fulfillment import catalogue
from fulfillment.kinguin import Found
from fulfillment.kinguin.ecommerce import LEAST_NAME, PRODUCTS_PER_PAGE
from orders.models import Product

PERMISSION = "fulfillment.import_product"
LABEL = "Import from Kinguin"


class SearchForm(forms.Form):
    name = forms.CharField(
        min_length=LEAST_NAME,
        max_length=80,
        widget=forms.TextInput(attrs={"type": "search", "autofocus": True}),
        error_messages={"min_length": f"Kinguin searches for {LEAST_NAME} characters or more."},
    )
    platform = forms.ChoiceField(required=False)
    region = forms.TypedChoiceField(required=False, coerce=int, empty_value=None)
    page = forms.IntegerField(required=False, min_value=1, max_value=1000, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = catalogue.lookups()
        self.fields["platform"].choices = [("", "any"), *((name, name) for name in known.platforms)]  # type: ignore[attr-defined]
        self.fields["region"].choices = [("", "any"), *known.regions]  # type: ignore[attr-defined]


def show(page: BaseAdmin, request: HttpRequest) -> HttpResponse:
    """Answer GET with the search, and POST with an import."""
    if not request.user.has_perm(PERMISSION):
        _log(request, None, CHANGE, f"Refused “{LABEL}”: no permission.")
        raise PermissionDenied
    if request.method == "POST":
        return _import(page, request)
    form = SearchForm(request.GET if "name" in request.GET else None)
    context = {
        **page.admin_site.each_context(request),
        "title": LABEL,
        "opts": page.opts,
        "list_name": page.title,
        "form": form,
        **(_search(form) if form.is_valid() else {}),
    }
    return TemplateResponse(request, "admin/bitloot/import.html", context)


def _search(form: SearchForm) -> dict[str, Any]:
    wanted = form.cleaned_data
    number = wanted["page"] or 1
    try:
        found = catalogue.search(name=wanted["name"], platform=wanted["platform"], region=wanted["region"], page=number)
    except (ProviderError, ImproperlyConfigured) as err:
        return {"trouble": f"The catalogue could not be searched: {err}"}
    ours = catalogue.ours(found.products)
    rows = [(product, ours.get(product.product_id)) for product in found.products]
    return {"found": found, "rows": rows, **_pages(wanted, found, number)}


def _pages(wanted: dict[str, Any], found: Found, number: int) -> dict[str, str]:
    def to(page: int) -> str:
        asked = {name: wanted[name] for name in ("name", "platform", "region") if wanted[name]}
        return "?" + urlencode({**asked, "page": page})

    has_more = number * PRODUCTS_PER_PAGE < found.total
    return {
        "here": to(number),
        "earlier": to(number - 1) if number > 1 else "",
        "later": to(number + 1) if has_more else "",
    }


def _import(page: BaseAdmin, request: HttpRequest) -> HttpResponse:
    try:
        done = catalogue.import_product(request.POST.get("product_id", ""), actor=request.user.get_username())
    except (catalogue.NotImported, ProviderError, ImproperlyConfigured) as err:
        page.message_user(request, f"Nothing was imported. {err}", messages.ERROR)
        return HttpResponseRedirect(f"{request.path}?{request.META.get('QUERY_STRING', '')}")
    if done.is_new:
        _log(request, done.product, ADDITION, "Imported from Kinguin.")
    for note in done.notes:
        page.message_user(request, note, messages.SUCCESS if done.is_new else messages.INFO)
    return HttpResponseRedirect(reverse("admin:orders_product_change", args=[done.product.pk]))


def _log(request: HttpRequest, product: Product | None, flag: int, words: str) -> None:
    user_id: Any = request.user.pk
    LogEntry.objects.create(
        user_id=user_id,
        content_type=ContentType.objects.get_for_model(Product),
        object_id=str(product.pk) if product is not None else "",
        object_repr=str(product)[:200] if product is not None else "products",
        action_flag=flag,
        change_message=words,
    )

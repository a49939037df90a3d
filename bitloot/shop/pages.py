"""The pages people see. A GET changes nothing; the order's page is a shell that a script fills from the API."""

import secrets
import uuid

from django.conf import settings
from django.contrib.flatpages.models import FlatPage
from django.contrib.flatpages.views import flatpage
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods, require_safe

from bitloot.core.languages import PARAMETER
from bitloot.core.strict_json import is_storable
from bitloot.shop.catalogue import ProductFilter, for_sale, kept_page, read
from bitloot.shop.crawlers import preview, structured
from bitloot.shop.forms import CheckoutForm, focus_first_error
from bitloot.shop.sale import quantities, why_not_sold
from bitloot.shop.search import is_guess
from bitloot.shop.throttling import too_often
from bitloot.shop.words import WORDS
from fulfillment.availability import refuse_sold_out
from fulfillment.exceptions import SoldOut
from orders.codes import hand_over_code
from orders.exceptions import KeyReused, KeySpent, OrderRefused, StillRunning
from orders.idempotency import BadKey
from orders.models import Order, Product
from orders.services import Line, place_order
from payments.coins import least_price

PRODUCTS_PER_PAGE = 48
_SAME_FOR_ALL = {"page", PARAMETER}


@require_safe
def shop_window(request: HttpRequest) -> HttpResponse:
    is_first = request.GET.keys() <= {PARAMETER}
    # Everybody's first view is kept. Anything else may be made up: page 4711, or a new search.
    if not is_first and (refusal := too_often(request, "read")):
        return refusal
    asked = ProductFilter(request.GET)
    if request.GET.keys() <= _SAME_FOR_ALL:
        # Each process makes it once every few seconds, like the API's list. Unknown languages share one.
        name = f"{get_language()} {'first' if is_first else request.get_full_path()}"
        return HttpResponse(kept_page(name, lambda: _window(request, asked).content))
    return _window(request, asked)


def _window(request: HttpRequest, asked: ProductFilter) -> HttpResponse:
    pages = Paginator(asked.products().values_list("pk", flat=True), PRODUCTS_PER_PAGE)
    # The choices beside the list count everything anyway: one statement less.
    pages.count = asked.counts.total
    # A number that is too high or none at all: somebody's old link. It leads to a page that is there.
    page = pages.get_page(request.GET.get("page"))
    products, least = read(page.object_list), least_price()
    shown = {
        "products": [(product, why_not_sold(product, least)) for product in products],
        "is_guess": bool(products) and is_guess(products[0], asked.asked.get("q", "")),
        "page": page,
        "asked": asked,
        "chips": asked.chips(),
        "is_narrowed": bool(asked.asked.keys() - {"q"} or asked.errors),
        "previous": asked.query(page=page.number - 1) if page.has_previous() else "",
        "next": asked.query(page=page.number + 1) if page.has_next() else "",
    }
    path = reverse("shop") + (f"?page={page.number}" if page.number > 1 else "")
    return render(request, "shop/shop.html", shown | preview(path))


@require_safe
def product_page(request: HttpRequest, slug: str) -> HttpResponse:
    product = get_object_or_404(for_sale(), slug=slug)
    least = least_price()
    not_sold = why_not_sold(product, least)
    shown = {
        "product": product,
        "not_sold": not_sold,
        "quantities": quantities(product, least),
        "structured": structured(product, is_sold=not_sold is None),
    }
    return render(request, "shop/product.html", shown | preview(request.path, product=product))


@require_http_methods(["GET", "HEAD", "POST"])
def checkout(request: HttpRequest) -> HttpResponse:
    if request.method == "POST" and (refusal := too_often(request, "orders")):
        return refusal
    asked = request.POST if request.method == "POST" else request.GET
    product = get_object_or_404(for_sale(), slug=_storable(asked.get("product", "")))
    least = least_price()
    if request.method != "POST" and why_not_sold(product, least):
        return redirect("product", product.slug)  # which says why
    if request.method != "POST":
        initial = {"product": product.slug, "quantity": asked.get("quantity", "1"), "idempotency_key": _new_key()}
        return _checkout_page(request, product, CheckoutForm(initial=initial, product=product, least=least))
    form = CheckoutForm(asked, product=product, least=least)
    try:
        order = _place(form, get_language()) if form.is_valid() else None
    except SoldOut as err:
        form.add_error(None, str(err))
        return _checkout_page(request, product, form, status=409)
    if order is None:
        return _checkout_page(request, product, form, status=422)
    page = reverse("order-page", args=[order.id])
    # A code that works once instead of the token: browsers keep and sync the addresses they were sent to.
    return HttpResponse(status=303, headers={"Location": f"{page}#{hand_over_code(order)}"})


@require_safe
@gzip_page  # also without a proxy that does it; there is nothing secret in it
def order_page(request: HttpRequest, order_id: uuid.UUID) -> HttpResponse:
    """Answer the same bytes for every id: only the bearer learns whether there is such an order."""
    return render(request, "shop/order.html", {"words": WORDS})


@require_safe
@gzip_page
def receipt_page(request: HttpRequest, order_id: uuid.UUID) -> HttpResponse:
    """Answer the same bytes for every id, as the order's page does."""
    return render(request, "shop/receipt.html", {"words": WORDS})


@require_safe
def text_page(request: HttpRequest, url: str) -> HttpResponse:
    """Show a page that staff wrote: `/de/terms` to Germans if there is one, otherwise `/terms`."""
    translated = FlatPage.objects.filter(url=f"/{get_language()}/{_storable(url)}", sites=settings.SITE_ID)
    return flatpage(request, f"{get_language()}/{url}" if translated.exists() else url)


def _storable(text: str) -> str:
    """Return a text to look for, or raise Http404: PostgreSQL would crash over a NUL, which no row has."""
    if not is_storable(text):
        raise Http404
    return text


def _new_key() -> str:
    return secrets.token_urlsafe(24)


def _checkout_page(request: HttpRequest, product: Product, form: CheckoutForm, status: int = 200) -> HttpResponse:
    focus_first_error(form)
    response = render(request, "shop/checkout.html", {"form": form, "product": product}, status=status)
    # With no-referrer browsers send this form with `Origin: null`, and Django's CSRF check refuses it.
    response["Referrer-Policy"] = "same-origin"
    return response


def _place(form: CheckoutForm, language: str) -> Order | None:
    """Place the form's order, or show in the form what has to change. Raises SoldOut."""
    wanted = form.cleaned_data
    line = Line(product=wanted["product"], quantity=wanted["quantity"])
    try:
        return place_order(
            email=wanted["email"],
            lines=[line],
            language=language,
            idempotency_key=wanted["idempotency_key"] or None,
            check=refuse_sold_out,
        ).order
    except OrderRefused as err:
        _explain(form, err)
    except StillRunning:
        form.add_error(
            None, _("Your order is just being placed. Please send the form again in a moment: it orders once.")
        )
    except KeySpent:
        form.add_error(
            None, _("This order is placed already. Please open it with the newest link that we e-mailed you.")
        )
    except (KeyReused, BadKey):
        # Under a key of its own, or the corrected form would be refused as this one was.
        form.data = dict(form.data.items()) | {"idempotency_key": _new_key()}
        form.add_error(None, _("This form was sent before with other details. Please check it and send it again."))
    return None


def _explain(form: CheckoutForm, refused: OrderRefused) -> None:
    for path, messages in refused.errors.items():
        field = path.rpartition(".")[2]
        form.add_error(field if field in ("email", "quantity") else None, messages)

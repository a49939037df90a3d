"""What search engines and previews of links read: robots.txt, the sitemap, and a product's facts as JSON-LD."""

import json
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.flatpages.models import FlatPage
from django.contrib.flatpages.sitemaps import FlatPageSitemap
from django.contrib.sitemaps import Sitemap
from django.contrib.sitemaps.views import sitemap
from django.core.cache import caches
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from bitloot.core.api import public_answer
from orders.models import Product

SITEMAP_KEPT_SECONDS = 600  # 10,000 addresses take half a second of a CPU
ROBOTS_KEPT_SECONDS = 3600
# Orders are not named here. A crawler that may not read an address cannot read its noindex either, and may list it.
ROBOTS = """User-agent: *
Disallow: /admin/
Disallow: /api/

Sitemap: {}
"""
# What would end a script element early, or start one.
_UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


class _OwnAddress:
    """The shop's address is SITE_URL; the row of django.contrib.sites is only what flat pages ask for."""

    def get_domain(self, site: Any = None) -> str:
        return urlsplit(settings.SITE_URL).netloc

    def get_protocol(self, protocol: str | None = None) -> str:
        return urlsplit(settings.SITE_URL).scheme


class ShopSitemap(_OwnAddress, Sitemap):
    def items(self) -> list[str]:
        return [reverse("shop")]

    def location(self, item: str) -> str:
        return item


class ProductSitemap(_OwnAddress, Sitemap):
    def items(self) -> Iterable[str]:
        return Product.objects.filter(is_active=True).order_by("slug").values_list("slug", flat=True)

    def location(self, item: str) -> str:
        return reverse("product", args=[item])


class PageSitemap(_OwnAddress, FlatPageSitemap):
    def items(self) -> QuerySet[FlatPage]:
        """Leave out translations: one address shows each page in its reader's language."""
        translated = [Q(url__startswith=f"/{code}/") for code, _ in settings.LANGUAGES]
        return FlatPage.objects.filter(sites=settings.SITE_ID).exclude(reduce(or_, translated))


SITEMAPS: dict[str, type[Sitemap] | Sitemap] = {"shop": ShopSitemap, "products": ProductSitemap, "pages": PageSitemap}


@require_safe
def robots_txt(request: HttpRequest) -> HttpResponse:
    body = ROBOTS.format(absolute(reverse("sitemap"))).encode()
    return public_answer(request, body, seconds=ROBOTS_KEPT_SECONDS, content_type="text/plain")


@require_safe
def sitemap_xml(request: HttpRequest) -> HttpResponse:
    body = caches["pages"].get("sitemap")
    if body is None:
        body = sitemap(request, SITEMAPS).render().content
        caches["pages"].set("sitemap", body, SITEMAP_KEPT_SECONDS)
    return public_answer(request, body, seconds=SITEMAP_KEPT_SECONDS, content_type="application/xml")


@require_safe
def favicon(_request: HttpRequest) -> HttpResponse:
    return redirect(static("bitloot/favicon.ico"))


def absolute(path: str) -> str:
    return f"{settings.SITE_URL}{path}"


def preview(path: str, *, product: Product | None = None) -> dict[str, str]:
    """Return the address and the picture that a link to this page is shown with."""
    cover = product.cover_url if product and product.cover_path else None
    # Previews of links draw no SVG.
    picture = static("bitloot/preview.png") if cover is None or cover.endswith(".svg") else cover
    return {"canonical": absolute(path), "preview_picture": absolute(picture)}


def structured(product: Product, *, is_sold: bool) -> SafeString:
    """Return the product and its offer in the words of schema.org, for a data block of its page."""
    address = absolute(reverse("product", args=[product.slug]))
    facts = {
        "@context": "https://schema.org",
        "@type": "Product",
        "name": product.title,
        "description": product.description,
        "sku": product.slug,
        "url": address,
        "image": absolute(product.cover_url) if product.cover_path else "",
        "category": ", ".join(map(str, product.genres)),
        "releaseDate": product.release_date.isoformat() if product.release_date else "",
        "offers": {
            "@type": "Offer",
            "url": address,
            "price": str(product.price),
            "priceCurrency": product.currency,
            "itemCondition": "https://schema.org/NewCondition",
            "availability": f"https://schema.org/{'InStock' if is_sold else 'OutOfStock'}",
        },
    }
    known = {name: value for name, value in facts.items() if value}
    return SafeString(json.dumps(known, ensure_ascii=False).translate(_UNSAFE))

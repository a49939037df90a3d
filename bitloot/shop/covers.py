"""Where a product's cover is, for the API and for previews of links."""

from urllib.parse import quote

from django.conf import settings

from orders.models import Product


def cover_path(product: Product) -> str | None:
    # Not the static() of the pages' own files: staff type this path, and a mistyped one must not break a page.
    return f"{settings.STATIC_URL}{quote(product.cover)}" if product.cover else None

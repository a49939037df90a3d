"""What our mails say: one template for each kind, from which subject, text and HTML are made.

A template of templates/orders/email fills the blocks of a layout, and is rendered once with each of the three layouts.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.mime.image import MIMEImage
from pathlib import PurePath
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext

from orders import covers, notifications
from orders.models import Alert, Email, Order, OrderItem, Product

logger = logging.getLogger(__name__)

Kind = Email.Kind
# These lead to a public page instead of to the order.
_LEAD_TO_SHOP = frozenset({Kind.EXPIRED, Kind.CANCELLED})
BRING_TOKEN = frozenset(Kind) - {*Email.WITHOUT_LINK, *_LEAD_TO_SHOP, Kind.ACCESS_CODE}
# What mail programs show; an SVG none of them does.
_COVER_TYPES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif"}
_MAX_COVER_BYTES = 200_000
_COVER_ID = "cover"


@dataclass(frozen=True)
class Letter:
    subject: str
    text: str
    html: str
    cover: MIMEImage | None = None


def write(mail: Email, items: Sequence[OrderItem], **secrets: object) -> Letter:
    """Write a mail in its order's language; staff's in English. `secrets` are the link or the code that it brings."""
    language = _language(mail, secrets)
    with translation.override(language):
        context = {"language": language, **_shop(), **_about(mail, items), **_facts(mail.facts), **secrets}
        cover = _cover(context)
        text = _render(mail.kind, "_layout.txt", context)
        html = _render(mail.kind, "_layout.html", context | {"cover": cover and _COVER_ID})
        return Letter(
            subject=" ".join(_render(mail.kind, "_subject.txt", context).split()),
            # A block that a kind leaves out leaves no gap.
            text=re.sub(r"\n{3,}", "\n\n", text).strip() + "\n",
            html=re.sub(r"\s*<p>\s*</p>", "", html),
            cover=cover,
        )


def _language(mail: Email, secrets: Mapping[str, Any]) -> str:
    """Return the language of the order, or of the newest of several."""
    listed = secrets.get("found")
    order = listed[0]["order"] if listed else mail.order
    return settings.LANGUAGE_CODE if order is None or mail.kind in Email.IN_ENGLISH else order.language


def _render(kind: str, layout: str, context: Mapping[str, Any]) -> str:
    return render_to_string(f"orders/email/{kind}.html", {**context, "layout": f"orders/email/{layout}"})


def _shop() -> dict[str, object]:
    return {"store": settings.STORE_NAME, "support": settings.SUPPORT_EMAIL, "site_url": settings.SITE_URL}


def _about(mail: Email, items: Sequence[OrderItem]) -> dict[str, object]:
    context: dict[str, object] = {"order": mail.order, "reason": mail.reason, "owed_at": mail.created_at}
    if mail.order is not None and mail.kind not in Email.WITHOUT_LINK:
        context |= _receipt(mail, mail.order, sorted(items, key=lambda item: item.title))
    if mail.alert is not None:
        alert = mail.alert
        about_url = settings.SITE_URL + alert.about_path if alert.about_path else ""
        context |= {"alert": alert, "alert_url": notifications.link_to(alert), "about_url": about_url}
        context["concerns"] = _concerns(alert, items)
    return context


def _receipt(mail: Email, order: Order, items: Sequence[OrderItem]) -> dict[str, object]:
    order_url = settings.SITE_URL + reverse("order-page", args=[order.pk])
    return {
        "items": [
            {"title": item.title, "quantity": item.quantity, "price": item.unit_price * item.quantity} for item in items
        ],
        "product": _product(items),
        "products": [item.product for item in items],
        "one_key": sum(item.quantity for item in items) == 1,
        "order_url": order_url,
        "link": _link(mail, items, order_url),
        "brings_token": mail.kind in BRING_TOKEN,
    }


def _concerns(alert: Alert, items: Sequence[OrderItem]) -> str:
    """Return for a subject what the alert is about: of an order its products, and nothing of its customer."""
    if alert.order is not None:
        return _product(sorted(items, key=lambda item: item.title))
    if alert.about_model == Product._meta.label_lower:
        return Product.objects.filter(pk=alert.about_pk).values_list("title", flat=True).first() or alert.about
    return alert.about


def _link(mail: Email, items: Sequence[OrderItem], order_url: str) -> str:
    if mail.kind == Kind.ACCESS_CODE:
        return f"{order_url}#code"  # where the page asks for it
    return _again_url(items) if mail.kind in _LEAD_TO_SHOP else order_url


def _product(items: Sequence[OrderItem]) -> str:
    """Name the order by its first product, as subjects do."""
    title = items[0].title if items else ""
    return title if len(items) <= 1 else gettext("%(title)s and more") % {"title": title}


def _again_url(items: Sequence[OrderItem]) -> str:
    """Return the page to order again from: the product's own, unless there were several or it is gone."""
    product = items[0].product if len(items) == 1 else None
    path = reverse("product", args=[product.slug]) if product is not None and product.is_active else "/"
    return f"{settings.SITE_URL}{path}"


def _facts(facts: Mapping[str, Any]) -> dict[str, object]:
    """Read back what `queue_email` kept: only moments are not what the template takes."""
    return {name: datetime.fromisoformat(fact) if name == "until" else fact for name, fact in facts.items()}


def _cover(context: Mapping[str, Any]) -> MIMEImage | None:
    """Return the first product's picture, to be sent along: a mail that loads nothing tells nobody that it was read."""
    products: Sequence[Product] = context.get("products", ())
    found = _picture(products[0]) if products and settings.MAIL_SHOWS_PICTURES else None
    if found is None or len(found[0]) > _MAX_COVER_BYTES:
        return None
    image = MIMEImage(*found)
    image.add_header("Content-ID", f"<{_COVER_ID}>")
    image.add_header("Content-Disposition", "inline")
    return image


def _picture(product: Product) -> tuple[bytes, str] | None:
    """Return its picture and what kind it is, or None if mail programs would not show it."""
    if product.picture:
        try:
            return covers.as_jpeg(product.picture), "jpeg"
        except OSError as err:
            logger.warning("a mail leaves without the cover of %s: %s", product.slug, type(err).__name__)
            return None
    subtype = _COVER_TYPES.get(PurePath(product.cover).suffix.lower())
    path = finders.find(product.cover) if subtype else None
    if subtype is None or not isinstance(path, str):
        return None
    with open(path, "rb") as file:
        return file.read(_MAX_COVER_BYTES + 1), subtype

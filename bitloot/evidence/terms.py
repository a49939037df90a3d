"""What the shop's text pages said when: a text is kept from the moment at which it took another one's place."""

from hashlib import sha256
from typing import Any

from django.contrib.flatpages.models import FlatPage
from django.utils.html import strip_tags

from bitloot.evidence.models import PageVersion
from orders.models import Order

TERMS = "/terms"


def keep_texts() -> int:
    """Keep the texts that are other ones than those kept last; return how many."""
    there = dict(FlatPage.objects.values_list("url", "content"))
    kept = dict(PageVersion.objects.order_by("pk").values_list("url", "sha256"))  # of each page, the last one stays
    gone = dict.fromkeys(kept.keys() - there.keys(), "")
    changed = {url: text for url, text in {**there, **gone}.items() if kept.get(url) != digest_of(text)}
    PageVersion.objects.bulk_create(
        PageVersion(url=url, text=text, sha256=digest_of(text)) for url, text in changed.items()
    )
    return len(changed)


def digest_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def terms_for(order: Order) -> dict[str, Any]:
    """Return the terms that stood when the order was placed, in its language, as facts of the evidence."""
    version = _version_then(order)
    stood = version is not None
    version = version or PageVersion.objects.filter(url=TERMS).order_by("pk").first()
    if version is None:
        return {"text": "", "as_when_ordered": False}
    later = PageVersion.objects.filter(url=version.url, pk__gt=version.pk).order_by("pk")
    return {
        "page": version.url, "text": strip_tags(version.text), "sha256": version.sha256,
        "valid_from": version.valid_from, "changed_at": later.values_list("valid_from", flat=True).first(),
        "as_when_ordered": stood,
    }  # fmt: skip


def _version_then(order: Order) -> PageVersion | None:
    # As the shop shows them: `/de/terms` to Germans if there is one, otherwise `/terms`.
    for url in (f"/{order.language}{TERMS}", TERMS):
        before = PageVersion.objects.filter(url=url, valid_from__lte=order.created_at)
        version = before.order_by("-pk").first()
        if version is not None and version.text:
            return version
    return None

"""How admin pages write a status, a moment, a row's name and a link."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from bitloot.core.admin import runbook
from bitloot.core.choices import ReasonChoices, StatusChoices, Tone
from bitloot.core.money import money

NOTHING = "–"
UUID_PATTERN = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}(?![0-9a-f])")

_CODE_WORD = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")


def tone_of(row: Any) -> Tone:
    """Return the tone that the choices of the row's model give its status."""
    statuses: type[StatusChoices] = type(row).Status
    return statuses.tone_for(row.status)


def state_badge(row: Any) -> SafeString:
    return badge(row.status, tone_of(row))


def badge(word: str, tone: Tone) -> SafeString:
    return format_html('<span class="badge badge-{}">{}</span>', tone.value, word.replace("_", " "))


def why(value: str, reasons: Iterable[type[ReasonChoices]]) -> str:
    """Return a stored reason in words, with its sentence as the tooltip, linked to its row of the runbook; the first of
    `reasons` that knows it names it.

    A value that none knows is a sentence already, or the word of a later version.
    """
    known = next((choices for choices in reasons if value in choices.values), None)
    if not value or known is None:
        return value.replace("_", " ").capitalize() if "_" in value else value
    sentence, label = known.sentence_for(value), known.label_for(value)
    if url := runbook.url_of(value, *runbook.REASONS):
        return format_html('<a class="why" href="{}" title="{}">{}</a>', url, sentence, label)
    return format_html('<span class="why" title="{}">{}</span>', sentence, label)


def copyable(value: str, shown: str = "") -> str:
    """Return an id cut to what people compare, with a button that copies all of it."""
    if not value:
        return NOTHING
    return format_html(
        '<span class="id"><code title="{0}">{1}</code><button type="button" class="copy" data-copy="{0}"'
        ' aria-label="Copy {0}"></button></span>',
        value, address(shown) if "@" in shown else shown or _cut(value),
    )  # fmt: skip


def address(email: str) -> str:
    """Return an e-mail address that breaks behind its @ where it is too long for its line."""
    name, at, host = email.rpartition("@")
    return format_html("{}{}<wbr>{}", name, at, host)


def _cut(value: str) -> str:
    if UUID_PATTERN.fullmatch(value):
        return value[:8]
    return value if len(value) <= 20 else f"{value[:8]}…{value[-6:]}"


def age(moment: datetime | None) -> str:
    """Return how long ago a moment was or how far ahead it is; pages show the exact time beside it."""
    if moment is None:
        return NOTHING
    seconds = (timezone.now() - moment).total_seconds()
    words = f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"
    exact = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{} <span class="exact">{} UTC</span></time>',
        exact.isoformat(timespec="seconds"), f"{exact:%Y-%m-%d %H:%M:%S}", words, f"{exact:%Y-%m-%d %H:%M:%S}",
    )  # fmt: skip


def span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def short(row: object) -> str:
    """Return the row's name with each id cut to its first eight characters."""
    return UUID_PATTERN.sub(lambda found: found[0][:8], str(row))


def in_words(outcome: str) -> str:
    """Return what a handler noted, with the providers' words as people write them: partially paid."""
    return _CODE_WORD.sub(lambda found: found[0].replace("_", " "), outcome)


def link(row: Model | None, text: str = "") -> str:
    """Return a link to the row's own page."""
    if row is None:
        return NOTHING
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[quote(row.pk)])
    return format_html('<a href="{}" title="{}">{}</a>', url, str(row), text or short(row))


def list_url(model: str, **query: object) -> str:
    """Return the address of a list ("orders.order"), filtered."""
    url = reverse(f"admin:{model.replace('.', '_')}_changelist")
    return f"{url}?{urlencode(query)}" if query else url


def list_link(model: str, text: str, **query: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', list_url(model, **query), text)


def age_of(field: str, description: str) -> Callable[[Any, Any], str]:
    """Return a column or field that shows a moment of the row."""

    @admin.display(description=description, ordering=field)
    def column(_: Any, row: Any) -> str:
        return age(getattr(row, field))

    return column


def money_of(field: str, description: str) -> Callable[[Any, Any], str]:
    """Return a column or field that shows an amount of the shop's currency."""

    @admin.display(description=description, ordering=field)
    def column(_: Any, row: Any) -> str:
        amount = getattr(row, field)
        return NOTHING if amount is None else money(amount)

    return column


def link_to(field: str, description: str) -> Callable[[Any, Any], str]:
    """Return a column or field that links to the row that a foreign key names."""

    @admin.display(description=description)
    def column(_: Any, row: Any) -> str:
        return link(getattr(row, field))

    return column

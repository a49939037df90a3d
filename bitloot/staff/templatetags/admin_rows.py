"""Cells of Django's lists that say what they are: on a phone each row is a card, without the table's head."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst

from bitloot.core.admin.formatting import short

register = template.Library()


@register.filter
def labelled(cells: Iterable[str], headers: Sequence[dict[str, Any]]) -> Iterator[SafeString]:
    """Give each cell of a row the words of its column's head."""
    for cell, header in zip(cells, headers, strict=False):
        tag = "th" if cell.startswith("<th") else "td"
        text = "" if "action-checkbox" in str(header.get("class_attrib", "")) else capfirst(str(header["text"]))
        # Django wrote the cell, escaped; only its first tag grows.
        yield mark_safe(str(cell).replace(f"<{tag}", f'<{tag} data-label="{escape(text)}"', 1))  # noqa: S308


@register.filter
def heading(row: object) -> str:
    """Return the row's name as a heading; the name of a host stays as it is written."""
    name = short(row)
    return name if "." in name.partition(" ")[0] else capfirst(name)

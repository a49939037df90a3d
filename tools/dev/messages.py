"""The catalogs under locale/: every sentence of code and templates that is translated, and what it is in each language.

`python -m tools.dev.messages` brings the .po files up to date and compiles them; translate what it lists, and run it
again. With `--check` it changes nothing and fails if that would change anything, or if a sentence has no translation.

Django's `makemessages` does the same with the programs of GNU gettext, which not every machine has. The .mo files are
in the repository, so that neither `make install` nor the image needs a compiler for them.
"""

import io
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import django
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.conf import settings
from django.utils.translation.template import templatize

from tools.dev.devenv import ROOT

ROOMS = ("bitloot", "orders", "payments", "fulfillment", "storage", "webhooks")
KEYWORDS = {
    "gettext": None, "gettext_lazy": None, "gettext_noop": None, "_": None,
    "ngettext": (1, 2), "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2), "pgettext_lazy": ((1, "c"), 2), "npgettext": ((1, "c"), 2, 3),
    "Sentence": None,  # bitloot.core.sentences
}  # fmt: skip
LOCALE = ROOT / "locale"
# Filled in by scripts. Those of Python are Babel's to check.
_SLOT = re.compile(r"\{\w+\}")
_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)
_NO_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_HEADER = "# Made by python -m tools.dev.messages."
Found = tuple[str | tuple[str, ...], str | None, str]


def main() -> None:
    settings.configure(USE_I18N=True)  # all that templatize needs
    django.setup()
    found = sorted(_found(), key=str)
    check = "--check" in sys.argv[1:]
    wrong = [sentence for folder in sorted(LOCALE.iterdir()) for sentence in _catalog(folder.name, found, check=check)]
    print("\n".join(wrong) or "Every sentence is translated.")
    sys.exit(1 if wrong else 0)


def _catalog(language: str, found: list[Found], *, check: bool) -> Iterator[str]:
    po = LOCALE / language / "LC_MESSAGES" / "django.po"
    old = read_po(io.BytesIO(po.read_bytes()), locale=language) if po.exists() else Catalog(locale=language)
    new = _updated(old, found)
    for path, content in {po: _po(new), po.with_suffix(".mo"): _mo(new)}.items():
        if check and (not path.exists() or path.read_bytes() != content):
            yield f"{path.relative_to(ROOT)} is not up to date: run python -m tools.dev.messages."
        if not check:
            path.write_bytes(content)
    yield from (f"{language}: {fault}" for fault in faults(old, new))


def faults(old: Catalog, new: Catalog) -> Iterator[str]:
    """Say what a translator still has to do; `old` is what the file had."""
    yield from (f"{message.id!r} is marked fuzzy: look at it" for message in old if message.id and message.fuzzy)
    for message in new:
        if message.id:
            yield from (f"{message.id!r}: {fault}" for fault in _faults_of(message, new))


def _faults_of(message: Message, catalog: Catalog) -> Iterator[str]:
    ids, texts = (list(text) if isinstance(text, tuple) else [text or ""] for text in (message.id, message.string))
    if not all(texts):
        yield "no translation"
        return
    if any(set(_SLOT.findall(text)) != set(_SLOT.findall(ids[-1])) for text in texts):
        yield "does not fill in the same"
    yield from map(str, message.check(catalog))


def _updated(old: Catalog, found: list[Found]) -> Catalog:
    # No day and no name: the same sentences are the same bytes.
    new = Catalog(
        locale=old.locale, project="BitLoot", version="1", copyright_holder="BitLoot", header_comment=_HEADER,
        creation_date=_NO_DAY, revision_date=_NO_DAY, fuzzy=False,
    )  # fmt: skip
    for text, context, path in found:
        known = old.get(text if isinstance(text, str) else text[0], context)
        new.add(text, known.string if known else None, locations=[(path, 0)], context=context)
    return new


def _found() -> Iterator[Found]:
    for path in _files():
        name, source = str(path.relative_to(ROOT)), path.read_text("utf-8")
        if path.suffix in (".html", ".txt"):
            source = _INDENT.sub("", templatize(source, origin=name))  # to Python, indentation means something
        for _, text, _, context in extract("python", io.BytesIO(source.encode()), KEYWORDS):
            if text:
                yield text, context, name


def _files() -> Iterator[Path]:
    for room in ROOMS:
        yield from (path for path in (ROOT / room).rglob("*.py") if not {"tests", "migrations"} & set(path.parts))
    for suffix in ("html", "txt"):
        # The staff's pages are in English; what they say with the words of Django's admin, Django translates.
        yield from (path for path in (ROOT / "templates").rglob(f"*.{suffix}") if "admin" not in path.parts)


def _po(catalog: Catalog) -> bytes:
    file = io.BytesIO()
    write_po(file, catalog, width=120, sort_output=True, include_lineno=False)
    return file.getvalue()


def _mo(catalog: Catalog) -> bytes:
    file = io.BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


if __name__ == "__main__":
    main()

"""Sentences that rest in rows: in English for staff, and in the reader's language for customers."""

from typing import TYPE_CHECKING, Any, TypeAlias

from django.utils.translation import gettext

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

Words: TypeAlias = "str | StrPromise"  # words for people; what `gettext_lazy` returns becomes text in their language
Phrase = list[Any]  # [msgid, values], as JSON keeps it


class Sentence(str):
    """English text that still knows its msgid and what was filled in, so that it can be said in another language.

    A value may be a sentence itself. Text without values is marked with `gettext_noop` and is its own msgid.
    """

    phrase: Phrase

    def __new__(cls, msgid: str, **values: str | int) -> "Sentence":
        sentence = super().__new__(cls, msgid % values)
        sentence.phrase = [msgid, values]
        return sentence


def phrase_of(text: str) -> Phrase | None:
    return text.phrase if isinstance(text, Sentence) else None


def translated(text: str, phrase: Phrase | None) -> str:
    """Return what a row keeps in the language of the reader; what no catalog knows stays as it is."""
    if phrase is None:
        return _known(text)
    msgid, values = phrase
    return _known(msgid) % {name: _known(value) if isinstance(value, str) else value for name, value in values.items()}


def _known(text: str) -> str:
    return gettext(text) if text else ""  # the empty msgid is the catalog's header

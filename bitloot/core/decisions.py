"""What staff may decide about a row: what stands against it is said once, to the button and to the service."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, Generic, TypeVar

from django import forms

Row = TypeVar("Row")


class DecisionRefused(Exception):
    """The row's state forbids the decision; the message is a sentence: why, and what to do instead."""


class ConfirmForm(forms.Form):
    """Asks nothing; the page only shows the consequence once more."""


class ReasonForm(forms.Form):
    reason = forms.CharField(
        min_length=5,
        max_length=200,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        help_text="A few words, kept with the decision.",
        error_messages={"required": "Say why, in a few words.", "min_length": "Say a little more: why?"},
    )


@dataclass(frozen=True, kw_only=True)
class Decision(Generic[Row]):
    """A decision about one row. It stands in the service module, beside the function that carries it out.

    `objection` returns the sentence that stands against it now, or None. Pages show the decision exactly while there is
    none; `carry_out` asks again under the row's lock (`demand`), so the two cannot drift apart.
    """

    name: str  # its part of the address
    label: str
    permission: str
    objection: Callable[[Row], str | None]
    carry_out: Callable[Concatenate[Row, ...], object]  # (row, *, actor, **fields of the form); raises DecisionRefused
    done: str  # what happens next; follows the row's name and a colon
    consequence: str = ""  # read before it is decided
    # Without a form it is done at once, from the row's page or for many rows of the list. What is typed into a form is
    # kept in the staff log, so a form must never take a key.
    form: type[forms.Form] | None = None


def demand(objection: str | None, error: type[DecisionRefused] = DecisionRefused) -> None:
    """Raise the objection, if there is one. The caller holds the lock of the row that was looked at."""
    if objection is not None:
        raise error(objection)


def nothing_against(row: object) -> None:
    """The objection of a decision that is always possible."""

"""What staff may decide about a row: what stands against it is said once, to the button and to the service."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, TypeVar

from django import forms

Row = TypeVar("Row")


class DecisionRefused(Exception):
    """The row's state forbids the decision; the message is a sentence: why, and what to do instead."""

    def afterwards(self) -> None:
        """Write what has to stay although the decision is undone; called when its transaction is over."""


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


@dataclass(frozen=True)
class Secret:
    """What a staff member typed and no log, page or message may show: its text is nowhere but in `value`."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "…"


class _Unseen(forms.Textarea):
    def format_value(self, value: Any) -> str:
        return ""  # a page that complains of another field does not show the secret once more


class SecretField(forms.CharField):
    """Text that the decision's page does not show again and the staff log does not keep."""

    widget = _Unseen

    def __init__(self, **options: Any) -> None:
        attrs = {"rows": 2, "cols": 70, "autocomplete": "off", "spellcheck": "false"}
        super().__init__(**{"strip": True, "widget": _Unseen(attrs=attrs), **options})

    def clean(self, value: Any) -> Any:
        return Secret(super().clean(value))


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
    # kept in the staff log, unless its field is a SecretField: a key is typed into nothing else.
    form: type[forms.Form] | None = None
    form_for: Callable[[Row], type[forms.Form]] | None = None  # instead of `form`, where its fields depend on the row
    initial: Callable[[Row], Mapping[str, Any]] | None = None  # what the form begins with, hidden fields included
    # True if this row and these fields need a second member of staff; see orders.approvals. Only with a form.
    needs_second: Callable[[Row, Mapping[str, Any]], bool] | None = None

    def __post_init__(self) -> None:
        # Without a form it is carried out for many rows at once, where nobody could be asked.
        if self.needs_second is not None and self.form is None:
            raise TypeError(f"“{self.label}” needs a form, because it may need a second member of staff")


def demand(objection: str | None, error: type[DecisionRefused] = DecisionRefused) -> None:
    """Raise the objection, if there is one. The caller holds the lock of the row that was looked at."""
    if objection is not None:
        raise error(objection)


def nothing_against(row: object) -> None:
    """The objection of a decision that is always possible."""

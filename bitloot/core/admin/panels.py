"""What an app shows on the home page of staff: its ModelAdmin names it, the site collects it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A part of the home page: `panels = (Panel(...),)` on the ModelAdmin of the rows that it shows.

    Anyone who may view that list sees it; `permission` asks for one more. Its template gets `panel`: the title and what
    `query` returns. Panels with a lower `place` come first: 10-39 what waits for a decision, 40-69 how the day goes,
    70-99 queues and gates.
    """

    title: str
    template: str
    query: Callable[[HttpRequest], dict[str, Any]]
    permission: str = ""
    place: int = 50

    def is_for(self, request: HttpRequest) -> bool:
        return not self.permission or request.user.has_perm(self.permission)

    def shown(self, request: HttpRequest) -> dict[str, Any]:
        return {"title": self.title, "template": self.template, **self.query(request)}


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A page that is no list: `tools = (Tool(...),)` on a ModelAdmin shows it on the page of all lists."""

    label: str
    view: str  # its name for reverse()
    permission: str


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Rows that wait for staff: `waiting = (Waiting(...),)` on their ModelAdmin.

    Each row is a case of “Decide now” on the home page, beside the decisions of its page; rows of one order are one
    case. The header counts them. `rows` has to be answered from an index: every page of the admin asks it.
    """

    title: str  # of one row
    rows: Callable[[], QuerySet[Any]]
    since: str = "created_at"

"""“Decide now”: all that waits for staff as one list, by money and age; what is about one order is one case."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db.models import prefetch_related_objects
from django.http import HttpRequest
from django.urls import reverse

from bitloot.core.admin.base import BaseAdmin
from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.admin.formatting import age, link
from bitloot.staff.waits import Waits, waits_for
from orders.models import Alert, Order

SHOWN = 20
MOST_PER_KIND = 200


@dataclass(frozen=True)
class Entry:
    """A row that waits, with the page that knows its decisions."""

    page: BaseAdmin
    title: str
    row: Any
    since: datetime

    @property
    def heading(self) -> str:
        return self.page.heading(self.row, self.title)


@dataclass
class Case:
    order: Order | None
    entries: list[Entry] = field(default_factory=list)

    @property
    def rank(self) -> tuple[bool, Decimal, datetime]:
        """Trouble of the whole shop first, since every order may be next; then by money, then by age."""
        is_about_the_shop = self.order is None and any(isinstance(entry.row, Alert) for entry in self.entries)
        return not is_about_the_shop, -self.order.total if self.order else Decimal(0), self.since

    @property
    def since(self) -> datetime:
        return min(entry.since for entry in self.entries)

    @property
    def headings(self) -> list[str]:
        # That the order is held says less than what it is held for.
        telling = [entry for entry in self.entries if entry.row is not self.order and not isinstance(entry.row, Order)]
        return list(dict.fromkeys(entry.heading for entry in telling or self.entries))

    @property
    def sentences(self) -> list[str]:
        # What an order waits for is asked for all of them at once, see `waits_for`.
        said = (entry.page.concern(entry.row) for entry in self.entries if not isinstance(entry.row, Order))
        return list(dict.fromkeys(filter(None, said)))


def open_cases(request: HttpRequest, pages: Iterable[BaseAdmin]) -> dict[str, Any]:
    """Return the first cases for the home page, and how many there are in all."""
    cases = sorted(_collect(pages), key=attrgetter("rank"))
    shown = cases[:SHOWN]
    orders = [case.order for case in shown if case.order is not None]
    prefetch_related_objects(orders, "items")
    waits = waits_for(orders)
    subjects = _subjects(request, [entry.row for case in shown for entry in case.entries])
    rows = [_shown(request, case, waits, subjects) for case in shown]
    return {"cases": rows, "count": len(cases), "more": len(cases) - len(shown)}


def count_waiting(page: BaseAdmin) -> int:
    return sum(waiting.rows().order_by()[:MOST_PER_KIND].count() for waiting in page.waiting)


def _collect(pages: Iterable[BaseAdmin]) -> list[Case]:
    cases: dict[Any, Case] = {}
    for page in pages:
        for waiting in page.waiting:
            rows = list(waiting.rows().order_by(waiting.since)[:MOST_PER_KIND])
            for row, order in zip(rows, page.orders_of(rows), strict=True):
                case = cases.setdefault(order.pk if order else (page.opts.label, row.pk), Case(order))
                case.entries.append(Entry(page, waiting.title, row, getattr(row, waiting.since)))
    # Only now: what an alert repeats may be of a page that came later.
    for case in cases.values():
        rows = [entry.row for entry in case.entries]
        case.entries = [e for e in case.entries if not e.page.repeats(e.row, [row for row in rows if row is not e.row])]
    return list(cases.values())


def _subjects(request: HttpRequest, rows: Sequence[Any]) -> dict[tuple[str, str], tuple[DecisionAdmin, Any]]:
    """Read the rows that alerts are about, a query for each model, where they may see them and something is decided."""
    alerts = sorted((row for row in rows if isinstance(row, Alert) and row.about_model), key=attrgetter("about_model"))
    found: dict[tuple[str, str], tuple[DecisionAdmin, Any]] = {}
    for label, group in groupby(alerts, key=attrgetter("about_model")):
        page = admin.site.get_model_admin(apps.get_model(label))
        if isinstance(page, DecisionAdmin) and page.has_view_permission(request):
            about = page.get_queryset(request).filter(pk__in=[alert.about_pk for alert in group])
            found |= {(label, str(row.pk)): (page, row) for row in about}
    return found


def _shown(
    request: HttpRequest,
    case: Case,
    waits: dict[Any, Waits | None],
    subjects: dict[tuple[str, str], tuple[DecisionAdmin, Any]],
) -> dict[str, Any]:
    order, wait = case.order, waits.get(case.order.pk) if case.order else None
    deciding = [(entry.page, entry.row) for entry in case.entries]
    for entry in case.entries:
        if isinstance(entry.row, Alert) and (subject := subjects.get((entry.row.about_model, entry.row.about_pk))):
            # First: its decision ends the cause, the alert's own ends the alert only.
            deciding.insert(0, subject)
    return {
        "headings": case.headings,
        "row": link(order) if order else link(case.entries[0].row, "Details"),
        "products": order.product_names if order else "",
        "order": order,
        "since": age(case.since),
        "why": case.sentences or [wait.sentence if wait else case.entries[0].page.concern(case.entries[0].row)],
        "then": _then(case, wait),
        "choices": _choices(request, deciding),
        "ways": _ways(deciding),
    }


def _choices(request: HttpRequest, deciding: Iterable[tuple[BaseAdmin, Any]]) -> list[dict[str, Any]]:
    back = reverse("admin:index")
    found = {}
    for page, row in deciding:
        if isinstance(page, DecisionAdmin):
            # By address: the row that an alert is about may be in the case itself, with the same buttons.
            offered = page.choices_about(request, row, back=back)
            found.update({choice["url"]: (choice, page.named(row)) for choice in offered})
    labels = _told_apart((choice["label"], name) for choice, name in found.values())
    return [{**choice, "label": label} for (choice, _), label in zip(found.values(), labels, strict=True)]


def _ways(deciding: Iterable[tuple[BaseAdmin, Any]]) -> list[tuple[str, str]]:
    found = {url: (label, page.named(row)) for page, row in deciding for label, url in page.ways(row)}
    return list(zip(_told_apart(found.values()), found, strict=True))


def _told_apart(labels: Iterable[tuple[str, str]]) -> list[str]:
    """Return each label, with the name of its row where another row of the case has the same button."""
    named = list(labels)
    times = Counter(label for label, _ in named)
    return [f"{label} ({name})" if times[label] > 1 else label for label, name in named]


def _then(case: Case, wait: Waits | None) -> dict[str, str]:
    """Say what happens if nobody decides, and when."""
    if wait is not None and wait.until is not None:
        return {"what": wait.then, "when": age(wait.until)}
    due = [entry.row.next_attempt_at for entry in case.entries if getattr(entry.row, "next_attempt_at", None)]
    if due:
        return {"what": "BitLoot looks again", "when": age(min(due))}
    if all(isinstance(entry.row, Alert) for entry in case.entries):
        return {"what": "The alert stays until its cause is over, or somebody closes it", "when": ""}
    return {"what": "Nothing happens", "when": ""}

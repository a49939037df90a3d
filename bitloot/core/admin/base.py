"""What the apps' admin pages share: read-only pages, search by any id, counts per status, live parts, extension."""

import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, ValidationError
from django.core.paginator import Paginator
from django.db.models import Choices, Model, Q, QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.text import capfirst

from bitloot.core import replica
from bitloot.core.admin.formatting import NOTHING, UUID_PATTERN, link, list_url, short, state_badge, why
from bitloot.core.admin.panels import Panel, Tool, Waiting
from bitloot.core.choices import ReasonChoices, StatusChoices, Tone

MAX_INLINES = 100
MAX_FOUND = 200
MAX_TERM = 200
MAX_COUNTED = 10_000
MAX_COUNTED_BY_STATUS = 1_000

Fieldset = tuple[str | None, dict[str, Any]]

_COMPARISONS = frozenset({"exact", "in", "isnull", "gt", "gte", "lt", "lte"})
_START_OF_UUID = re.compile(r"[0-9a-f]{6,31}")


class OneOf(admin.SimpleListFilter):
    """A filter by the `choices` of a TextChoices or a table: Django's own would read all rows to learn the values."""

    words: Iterable[str] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            (str(word), str(word.label if isinstance(word, Choices) else word).replace("_", " ")) for word in self.words
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


class CappedPaginator(Paginator):
    """Counts no further than MAX_COUNTED rows, so that a long list costs no more than a short one."""

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        # In the list's order, which has an index: the newest rows are the last of their table.
        return int(rows[: MAX_COUNTED + 1].count())

    @cached_property
    def count(self) -> int:
        return min(self._counted, MAX_COUNTED)

    @property
    def is_capped(self) -> bool:
        return self._counted > MAX_COUNTED


class ReadList(ChangeList):
    """A list that is looked at comes from the replica, if there is one; one that is acted upon does not."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        if request.method == "GET":
            self.root_queryset = self.root_queryset.using(replica.for_lists())
        return super().get_queryset(request, exclude_parameters)


class BaseAdmin(admin.ModelAdmin):
    """Lists that stay quick however long they grow, and are searched by ids."""

    search_ids: tuple[str, ...] = ()  # UUIDs: found whole, without dashes, or by their first six characters
    search_numbers: tuple[str, ...] = ()
    linked_by: tuple[str, ...] = ()  # what other pages' links may filter by, beside list_filter
    list_name = ""  # what the header calls the list, where that is not the plural of its rows
    counts_statuses = False
    is_live = False
    in_finder = True  # False where the page of the order, purchase or key shows the same rows
    # For the home page of staff.
    panels: tuple[Panel, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    tools: tuple[Tool, ...] = ()
    # What a row's `reason` may be; the first that knows it names it.
    reasons: tuple[type[ReasonChoices], ...] = ()
    # What upper apps added with extend().
    extra_fieldsets: tuple[tuple[type[Model], Fieldset], ...] = ()
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = CappedPaginator
    change_list_template = "admin/bitloot/change_list.html"
    change_form_template = "admin/bitloot/change_form.html"
    object_history_template = "admin/bitloot/history.html"

    @classmethod
    def extend(
        cls,
        *,
        inlines: Iterable[type["ReadOnlyInline"]] = (),
        fieldsets: Iterable[Fieldset] = (),
        list_filter: Iterable[Any] = (),
        reasons: Iterable[type[ReasonChoices]] = (),
        of: type[Model] | None = None,
    ) -> None:
        """Add to the page of a lower app's row, from the upper app's own admin.py: `OrderAdmin.extend(inlines=[…])`.

        Inlines are shown in the order of their `place`, to those who may view their model. A fieldset has Django's
        form; its fields are functions of the row under @admin.display, shown to those who may view the model `of`.
        Fieldsets of one title become one. Filters and reasons come after those of the lower app.
        """
        cls.reasons = (*cls.reasons, *reasons)
        cls.list_filter = (*cls.list_filter, *list_filter)
        cls.inlines = sorted((*cls.inlines, *inlines), key=attrgetter("place"))
        cls.extra_fieldsets = (*cls.extra_fieldsets, *((of or cls.model, fieldset) for fieldset in fieldsets))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        added: dict[str | None, Fieldset] = {}
        for title, options in (fieldset for model, fieldset in self.extra_fieldsets if may_view(request, model)):
            before = added[title][1]["fields"] if title in added else ()
            added[title] = (title, {**options, "fields": (*before, *options["fields"])})
        return (*super().get_fieldsets(request, obj), *added.values())

    @admin.display(description="status", ordering="status")
    def state(self, row: Any) -> str:
        return state_badge(row)

    @admin.display(description="why", ordering="reason")
    def why(self, row: Any) -> str:
        return why(row.reason, self.reasons) or NOTHING

    @admin.display(description="status", ordering="status")
    def state_and_why(self, row: Any) -> str:
        return format_html("{} {}", state_badge(row), why(row.reason, self.reasons)) if row.reason else state_badge(row)

    # --- what the home page and the finder ask ---

    def concern(self, row: Any) -> str:
        """Return why the row waits for staff, in words; nothing if it does not."""
        return ""

    def heading(self, row: Any, title: str) -> str:
        """Return what a waiting row is called; `title` is that of its `Waiting`."""
        reason = getattr(row, "reason", "")
        known = next((choices for choices in self.reasons if reason in choices.values), None)
        return known.label_for(reason) if known else title

    def repeats(self, row: Any, others: Sequence[Any]) -> bool:
        """Return whether a waiting row says nothing beyond the other waiting rows of its order."""
        return False

    def orders_of(self, rows: Sequence[Any]) -> list[Any]:
        """Return the order that each row is about, or None; without a query for each."""
        return [getattr(row, "order", None) for row in rows]

    def ways(self, row: Any) -> list[tuple[str, str]]:
        """Return other pages where the trouble of a waiting row is fixed, as label and address."""
        return []

    # --- searching and filtering ---

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by each condition separately, so that every one can use its own index."""
        # As addresses are kept: a letter with an accent may be typed as one sign or as two.
        term = unicodedata.normalize("NFC", search_term.replace("\x00", "").strip()[:MAX_TERM])
        if not term:
            return queryset, False
        found: set[Any] = set()
        for condition in self._conditions(term):
            found.update(queryset.filter(condition).values_list("pk", flat=True)[:MAX_FOUND])
        return queryset.filter(pk__in=found), False

    def _conditions(self, term: str) -> Iterator[Q]:
        whole = UUID_PATTERN.search(term.lower())
        # Ids and addresses are pasted in any case; each spelling is looked up exactly, so that an index answers.
        texts = {term, term.lower(), term.upper(), *([str(uuid.UUID(whole[0]))] if whole else [])}
        for lookup in self.search_fields:
            if lookup.endswith(("__icontains", "__iexact")):
                yield Q(**{lookup: term})
            else:
                yield Q(**{f"{lookup}__in": sorted(texts)})
        if span := _uuid_span(term.lower()):
            lowest, highest = span
            yield from (Q(**{f"{field}__gte": lowest, f"{field}__lte": highest}) for field in self.search_ids)
        if term.isascii() and term.isdigit() and len(term) < 19:
            yield from (Q(**{field: int(term)}) for field in self.search_numbers)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Allow what the page's own filters and links use; the address bar reaches no other column."""
        filters = self.get_list_filter(request) if request is not None else self.list_filter
        known = {getattr(entry, "parameter_name", entry) for entry in filters} | set(self.linked_by)
        field, _, comparison = lookup.rpartition("__")
        return lookup in known or (field in known and comparison in _COMPARISONS)

    # --- pages ---

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        # Where ids are text, PostgreSQL would crash over a NUL, which no id has.
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ReadList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        request.GET = _without_nul(request.GET)  # type: ignore[assignment]
        if request.method == "POST":
            self._check_ids(request.POST.getlist(ACTION_CHECKBOX_NAME))
        own = {
            "title": self.title,
            "status_counts": self._status_counts() if self.counts_statuses and request.method == "GET" else [],
            "is_live": self.is_live,
        }
        return super().changelist_view(request, {**own, **(extra_context or {})})

    def _check_ids(self, selected: list[str]) -> None:
        """Answer 400 to the id of no row, with which Django would crash."""
        for pk in selected:
            try:
                self.opts.pk.clean(pk, None)
            except ValidationError as err:
                raise BadRequest("invalid id of a selected row") from err

    def _status_counts(self) -> list[dict[str, Any]]:
        """Count the rows of each status, no further than a thousand: each count is answered from one index."""
        counts = []
        statuses: type[StatusChoices] = self.model.Status
        every = self.model._default_manager.using(replica.for_lists()).order_by()
        for status, label in statuses.choices:
            rows = every.filter(status=status)
            count = rows[: MAX_COUNTED_BY_STATUS + 1].count()
            shown = f"{MAX_COUNTED_BY_STATUS}+" if count > MAX_COUNTED_BY_STATUS else str(count)
            url = list_url(self.opts.label_lower, status__exact=status)
            tone = statuses.tone_for(status) if count else Tone.CALM
            counts.append({"label": label, "count": shown, "url": url, "tone": tone.value})
        return counts

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        own = {"is_live": self.is_live, "list_name": self.title}
        return super().change_view(request, object_id, form_url, {**own, **(extra_context or {})})

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        own = {"title": f"New {self.opts.verbose_name}", "list_name": self.title, **(extra_context or {})}
        return super().add_view(request, form_url, own)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        name = self.named(row) if row is not None else ""
        own = {"title": f"History: {name}", "row_name": name, "list_name": self.title}
        return super().history_view(request, object_id, {**own, **(extra_context or {})})

    @property
    def title(self) -> str:
        return str(capfirst(self.list_name or self.opts.verbose_name_plural))

    def named(self, row: Any) -> str:
        """Return what messages call the row."""
        return short(row)

    def view_name(self, view: str) -> str:
        return f"admin:{self.opts.app_label}_{self.opts.model_name}_{view}"


class ReadOnlyAdmin(BaseAdmin):
    """Rows that only BitLoot makes and changes. As nobody may change them, Django shows every field as text."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class NewestFormSet(BaseInlineFormSet):
    """The newest MAX_INLINES rows, oldest first."""

    is_cut = False

    def get_queryset(self) -> list[Any]:  # type: ignore[override]
        # Kept, because Django asks for it several times for a page.
        if not hasattr(self, "_newest"):
            rows = list(super().get_queryset().reverse()[: MAX_INLINES + 1])
            self.is_cut = len(rows) > MAX_INLINES
            self._newest = rows[MAX_INLINES - 1 :: -1]
        return self._newest


class ReadOnlyInline(admin.TabularInline):
    """A table of rows that belong to the page's row."""

    formset = NewestFormSet
    template = "admin/bitloot/inline.html"
    extra = 0
    can_delete = False
    nothing = "None."  # what is said instead of no rows
    place = 50  # among the tables of its page; the lowest comes first

    @admin.display(description="status")
    def state(self, row: Any) -> str:
        return state_badge(row)

    @admin.display(description="")
    def page(self, row: Any) -> str:
        return link(row)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return list(self.get_fields(request, obj))  # type: ignore[arg-type]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def may_view(request: HttpRequest, model: type[Model]) -> bool:
    """Return True if they may see this model's list; Django lets those who may change a row view it, too."""
    meta = model._meta
    return any(request.user.has_perm(f"{meta.app_label}.{verb}_{meta.model_name}") for verb in ("view", "change"))


def _uuid_span(term: str) -> tuple[uuid.UUID, uuid.UUID] | None:
    """Return the lowest and the highest id that the term, or its last word, may stand for."""
    whole = UUID_PATTERN.search(term)
    digits = (whole[0] if whole else term.rsplit(maxsplit=1)[-1].lstrip("#")).replace("-", "")
    if not whole and not _START_OF_UUID.fullmatch(digits):
        return None
    return uuid.UUID(digits.ljust(32, "0")), uuid.UUID(digits.ljust(32, "f"))


def _without_nul(query: QueryDict) -> QueryDict:
    """Return the query without NUL characters, which PostgreSQL refuses."""
    if not any("\x00" in value for _, values in query.lists() for value in values):
        return query
    clean = QueryDict(mutable=True)
    for name, values in query.lists():
        clean.setlist(name.replace("\x00", ""), [value.replace("\x00", "") for value in values])
    return clean

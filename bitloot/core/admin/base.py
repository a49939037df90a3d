"""What the apps' admin pages share: read-only pages with buttons, search by any id, counts per status, live parts."""

import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import flatten_fieldsets, quote, unquote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.views.decorators.http import require_POST

from bitloot.core.admin.formatting import TONES, UUID_PATTERN, badge, link, list_url, short

MAX_ROWS = 100
MAX_INLINES = 100
MAX_FOUND = 200
MAX_TERM = 200
MAX_COUNTED = 10_000
MAX_COUNTED_BY_STATUS = 1_000


_COMPARISONS = frozenset({"exact", "in", "isnull", "gt", "gte", "lt", "lte"})
_START_OF_UUID = re.compile(r"[0-9a-f]{6,31}")


class Refused(Exception):
    """The row was left as it is; the message goes on after the row's name and says why."""


class OneOf(admin.SimpleListFilter):
    """A filter by values that are written here: Django's own would read the whole table to learn them."""

    values: tuple[str, ...] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, value.replace("_", " ")) for value in self.values]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


class CappedPaginator(Paginator):
    """Counts no further than MAX_COUNTED rows, so that a long list costs no more than a short one."""

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: MAX_COUNTED + 1].count())

    @cached_property
    def count(self) -> int:
        return min(self._counted, MAX_COUNTED)

    @property
    def is_capped(self) -> bool:
        return self._counted > MAX_COUNTED


class StoreAdmin(admin.ModelAdmin):
    """Lists that stay quick however long they grow, are searched by ids, and whose actions are buttons too."""

    actions: tuple[str, ...] = ()
    search_ids: tuple[str, ...] = ()  # UUIDs: found whole, without dashes, or by their first six characters
    search_numbers: tuple[str, ...] = ()
    linked_by: tuple[str, ...] = ()  # what other pages' links may filter by, beside list_filter
    counts_statuses = False
    is_live = False
    tones: dict[str, str] = {}
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = CappedPaginator
    change_list_template = "admin/store/change_list.html"
    change_form_template = "admin/store/change_form.html"

    @admin.display(description="status", ordering="status")
    def state(self, row: Any) -> str:
        return badge(row.status, self.tones.get(row.status, ""))

    # --- searching and filtering ---

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find rows by each condition by itself: every one can then use its own index."""
        term = search_term.replace("\x00", "").strip()[:MAX_TERM]
        if not term:
            return queryset, False
        found: set[Any] = set()
        for condition in self._conditions(term):
            found.update(queryset.filter(condition).values_list("pk", flat=True)[:MAX_FOUND])
        return queryset.filter(pk__in=found), False

    def _conditions(self, term: str) -> Iterator[Q]:
        whole = UUID_PATTERN.search(term.lower())
        texts = {term, str(uuid.UUID(whole[0]))} if whole else {term}
        for lookup in self.search_fields:
            for text in sorted(texts):
                yield Q(**{lookup: text})
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

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        request.GET = _without_nul(request.GET)  # type: ignore[assignment]
        if request.method == "POST":
            self._check_posted(request)
        own = {
            "title": capfirst(self.opts.verbose_name_plural),
            "status_counts": self._status_counts() if self.counts_statuses else [],
            "is_live": self.is_live,
        }
        return super().changelist_view(request, {**own, **(extra_context or {})})

    def _status_counts(self) -> list[dict[str, Any]]:
        """Count the rows of each status, no further than a thousand: an index answers each count by itself."""
        counts = []
        for status, label in self.model._meta.get_field("status").choices:
            rows = self.model._default_manager.filter(status=status).order_by()
            count = rows[: MAX_COUNTED_BY_STATUS + 1].count()
            shown = f"{MAX_COUNTED_BY_STATUS}+" if count > MAX_COUNTED_BY_STATUS else str(count)
            url = list_url(self.opts.label_lower, status__exact=status)
            tone = (self.tones.get(status) or TONES.get(status, "calm")) if count else "calm"
            counts.append({"label": label, "count": shown, "url": url, "tone": tone})
        return counts

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        own = {"buttons": self._buttons(request, object_id), "is_live": self.is_live}
        return super().change_view(request, object_id, form_url, {**own, **(extra_context or {})})

    # --- actions: on many rows from the list, on one from its page ---

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_do"
        view = self.admin_site.admin_view(self.button_view)
        return [path("<path:object_id>/do/<slug:name>/", view, name=name), *super().get_urls()]

    @method_decorator(require_POST)
    def button_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        if name not in self.actions or not self.has_view_permission(request):
            raise Http404
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if name not in self.get_actions(request):
            self._refuse(request, name, str(row.pk), str(row))
        getattr(self, name)(request, self.get_queryset(request).filter(pk=row.pk))
        back = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[quote(row.pk)])
        return HttpResponseRedirect(back)

    def act(self, request: HttpRequest, rows: QuerySet[Any], do: Callable[[Any], None], *, done: str) -> None:
        """Do one thing to at most MAX_ROWS rows, log it, and say what became of them; `do` raises Refused."""
        taken, changed, left = list(rows[: MAX_ROWS + 1]), [], Counter[str]()
        for row in taken[:MAX_ROWS]:
            try:
                do(row)
            except Refused as err:
                left[str(err)] += 1
            else:
                changed.append(row)
        if changed:
            LogEntry.objects.log_actions(_user_id(request), changed, CHANGE, capfirst(done))
            several = f"{len(changed)} {self.opts.verbose_name_plural}"
            name = self.named(changed[0]) if len(changed) == 1 else several
            self.message_user(request, f"{name}: {done}", messages.SUCCESS)
        for reason, count in left.items():
            name = self.named(taken[0]) if len(taken) == 1 else f"{count} left as before"
            self.message_user(request, f"{name}: {reason}", messages.WARNING)
        if len(taken) > MAX_ROWS:
            text = f"Only the first {MAX_ROWS} were taken. Filter the list and do it again for the others."
            self.message_user(request, text, messages.WARNING)

    def named(self, row: Any) -> str:
        """Return what messages call the row."""
        return short(row)

    def _buttons(self, request: HttpRequest, object_id: str) -> list[dict[str, Any]]:
        view = f"admin:{self.opts.app_label}_{self.opts.model_name}_do"
        return [
            {"label": action[2], "url": reverse(view, args=[object_id, name])}
            for name, action in self.get_actions(request).items()
            if name in self.actions and action
        ]

    def _check_posted(self, request: HttpRequest) -> None:
        """Stop what Django would answer with a crash (an id that is none) or pass over in silence (no permission)."""
        refused = set(request.POST.getlist("action")) & set(self.actions) - set(self.get_actions(request))
        if refused:
            self._refuse(request, ", ".join(refused), "", str(self.opts.verbose_name_plural))
        for selected in request.POST.getlist(ACTION_CHECKBOX_NAME):
            try:
                self.opts.pk.clean(selected, None)
            except ValidationError as err:
                raise BadRequest("a selected row's id is none") from err

    def _refuse(self, request: HttpRequest, name: str, object_id: str, object_repr: str) -> None:
        LogEntry.objects.create(
            user_id=_user_id(request),
            content_type=ContentType.objects.get_for_model(self.model),
            object_id=object_id,
            object_repr=object_repr[:200],
            action_flag=CHANGE,
            change_message=f"Refused “{name}”: no permission.",
        )
        raise PermissionDenied


class ReadOnlyAdmin(StoreAdmin):
    """Rows that only the store itself makes and changes; people read them, and press the buttons there are."""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return flatten_fieldsets(self.get_fieldsets(request, obj))

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
        if not hasattr(self, "_newest"):
            rows = list(super().get_queryset().reverse()[: MAX_INLINES + 1])
            self.is_cut = len(rows) > MAX_INLINES
            self._newest = rows[MAX_INLINES - 1 :: -1]
        return self._newest


class ReadOnlyInline(admin.TabularInline):
    """A table of rows that belong to the page's row."""

    formset = NewestFormSet
    template = "admin/store/inline.html"
    extra = 0
    can_delete = False
    tones: dict[str, str] = {}

    @admin.display(description="status")
    def state(self, row: Any) -> str:
        return badge(row.status, self.tones.get(row.status, ""))

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


def _user_id(request: HttpRequest) -> Any:
    return request.user.pk

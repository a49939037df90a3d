"""Decisions of staff about one row: a page that asks why, one effect however often it is sent, a line in the log."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote, unquote
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from bitloot.core.admin.base import ReadOnlyAdmin, Refused
from bitloot.core.admin.formatting import short


class ReasonForm(forms.Form):
    reason = forms.CharField(
        min_length=5,
        max_length=200,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        help_text="A few words, kept with the decision.",
        error_messages={"required": "Say why, in a few words.", "min_length": "Say a little more: why?"},
    )


@dataclass(frozen=True)
class Decision:
    name: str
    label: str
    consequence: str  # read before it is decided
    is_possible: Callable[[Any], bool]
    decide: Callable[[Any, str, dict[str, str]], str]  # row, who, the form: what comes next; raises Refused
    form: type[forms.Form] = ReasonForm


class DecisionAdmin(ReadOnlyAdmin):
    """A read-only page with the decisions that are possible now. The row is an order, or has one."""

    decisions: tuple[Decision, ...] = ()
    decision_permission = ""
    change_form_template = "admin/store/decisions.html"

    def concern(self, row: Any) -> str:
        """Say in words why the row waits for a person; nothing if it does not."""
        return ""

    def facts(self, row: Any) -> str:
        """Return what to look at while deciding, as HTML."""
        return ""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.decision_view)
        return [path("<path:object_id>/decide/<slug:name>/", view, name=self._view_name("decide")), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        own: dict[str, Any] = {}
        if row is not None and self.has_view_permission(request, row):
            own = {"concern": self.concern(row), "facts": self.facts(row), "decisions": self._open_to(request, row)}
        return super().change_view(request, object_id, form_url, {**own, **(extra_context or {})})

    def decision_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        decision = next((decision for decision in self.decisions if decision.name == name), None)
        row = self.get_object(request, unquote(object_id)) if self.has_view_permission(request) else None
        if decision is None or row is None:
            raise Http404
        if not request.user.has_perm(self.decision_permission):
            self._refuse(request, decision.label, str(row.pk), str(row))
        if request.method != "POST" and not decision.is_possible(row):
            self.message_user(request, f"{short(row)}: “{decision.label}” is not possible (any more).", messages.ERROR)
            return self._back_to(row)
        form = decision.form(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            self._decide(request, row, decision, form.cleaned_data)
            return self._back_to(row)
        return self._ask(request, row, decision, form)

    def _ask(self, request: HttpRequest, row: Any, decision: Decision, form: forms.Form) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": decision.label,
            "opts": self.opts,
            "row": row,
            "row_name": short(row),
            "decision": decision,
            "form": form,
            "facts": self.facts(row),
            "concern": self.concern(row),
            "seen": request.POST.get("seen") or self._last_log(row),
        }
        return TemplateResponse(request, "admin/store/decision.html", context)

    def _decide(self, request: HttpRequest, row: Any, decision: Decision, fields: dict[str, str]) -> None:
        """Decide and log in one transaction, under the order's lock, unless somebody was faster."""
        try:
            with transaction.atomic():
                getattr(row, "order", row).lock()
                if request.POST.get("seen") != self._last_log(row):
                    raise Refused("somebody decided about it meanwhile, or the form was sent twice. Look at it again.")
                row.refresh_from_db()
                said = decision.decide(row, request.user.get_username(), fields)
                words = ". ".join([decision.label, *(value for value in fields.values() if value)])
                who: Any = request.user.pk
                LogEntry.objects.log_actions(who, [row], CHANGE, words)
        except Refused as err:
            self.message_user(request, f"{short(row)}: {err}", messages.ERROR)
        else:
            self.message_user(request, f"{short(row)}: {said}", messages.SUCCESS)

    def _open_to(self, request: HttpRequest, row: Any) -> list[dict[str, str]]:
        if not request.user.has_perm(self.decision_permission):
            return []
        view = f"admin:{self._view_name('decide')}"
        return [
            {"label": choice.label, "consequence": choice.consequence, "url": reverse(view, args=[row.pk, choice.name])}
            for choice in self.decisions
            if choice.is_possible(row)
        ]

    def _last_log(self, row: Any) -> str:
        about = LogEntry.objects.filter(
            content_type=ContentType.objects.get_for_model(self.model), object_id=str(row.pk)
        )
        return str(about.order_by("-pk").values_list("pk", flat=True).first() or "none")

    def _back_to(self, row: Any) -> HttpResponse:
        return HttpResponseRedirect(reverse(f"admin:{self._view_name('change')}", args=[quote(row.pk)]))

    def _view_name(self, view: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{view}"

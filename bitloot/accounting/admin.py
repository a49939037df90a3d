from datetime import timedelta
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from bitloot.accounting.journal import KINDS, journal
from bitloot.accounting.models import Acknowledgement
from bitloot.accounting.spreadsheet import spreadsheet
from bitloot.core import replica
from bitloot.core.admin.base import ReadOnlyAdmin
from bitloot.core.admin.formatting import age_of
from bitloot.core.admin.panels import Tool

MAY_EXPORT = "accounting.export_accounting"


def _day_of_last_month(*, first: bool) -> Any:
    last = timezone.now().date().replace(day=1) - timedelta(days=1)
    return last.replace(day=1) if first else last


class ExportForm(forms.Form):
    since = forms.DateField(
        label="From", initial=lambda: _day_of_last_month(first=True), widget=forms.DateInput({"type": "date"})
    )
    until = forms.DateField(
        label="To, included", initial=lambda: _day_of_last_month(first=False), widget=forms.DateInput({"type": "date"})
    )
    kinds = forms.MultipleChoiceField(
        label="What", choices=[(kind, f"{kind}s") for kind in KINDS], initial=KINDS, widget=forms.CheckboxSelectMultiple
    )

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if "since" in found and "until" in found and found["until"] < found["since"]:
            self.add_error("until", "This day is before the first one.")
        return found


@admin.register(Acknowledgement)
class AcknowledgementAdmin(ReadOnlyAdmin):
    tools = (Tool(label="Accounting export (CSV)", view="admin:accounting_export", permission=MAY_EXPORT),)
    list_display = ("kind", "subject", "reason", "acknowledged_by", "acknowledged")
    list_filter = ("kind", "acknowledged_at")
    search_fields = ("subject", "order")
    fieldsets = (
        (None, {"fields": ("kind", "subject", "order", "message")}),
        ("What was done", {"fields": ("reason", ("acknowledged_by", "acknowledged"))}),
    )
    acknowledged = age_of("acknowledged_at", "acknowledged")

    def get_urls(self) -> list[URLPattern]:
        export = path("export/", self.admin_site.admin_view(self.export_view), name="accounting_export")
        return [export, *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """Ask for days and kinds, then answer as `manage.py export_accounting` does."""
        if not request.user.has_perm(MAY_EXPORT):
            self._log(request, "Refused “Accounting export”: no permission.")
            raise PermissionDenied
        form = ExportForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            context = {**self.admin_site.each_context(request), "title": "Accounting export", "form": form}
            return TemplateResponse(request, "admin/accounting/export.html", context)
        since, until, kinds = (form.cleaned_data[name] for name in ("since", "until", "kinds"))
        self._log(request, f"Accounting export: {', '.join(kinds)}, {since} to {until}")
        lines = journal(since, until, kinds=kinds, using=replica.for_lists())
        answer = StreamingHttpResponse(spreadsheet(lines), content_type="text/csv")
        answer["Content-Disposition"] = f'attachment; filename="accounting-{since}-{until}.csv"'
        return answer

    def _log(self, request: HttpRequest, words: str) -> None:
        LogEntry.objects.create(
            user_id=cast(int, request.user.pk), content_type=ContentType.objects.get_for_model(self.model),
            object_repr="accounting export", action_flag=CHANGE, change_message=words,
        )  # fmt: skip

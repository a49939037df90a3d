from typing import Any

from django.contrib import admin
from django.contrib.flatpages.admin import FlatPageAdmin
from django.contrib.flatpages.models import FlatPage
from django.db.models import QuerySet
from django.http import HttpRequest

from bitloot.core.admin.base import ReadOnlyAdmin
from bitloot.core.admin.formatting import age_of
from bitloot.evidence.models import PageVersion
from bitloot.evidence.terms import keep_texts

admin.site.unregister(FlatPage)


@admin.register(FlatPage)
class TextPageAdmin(FlatPageAdmin):
    """Django's page for text pages; what each said is kept, in the transaction that changes it."""

    def save_model(self, request: HttpRequest, obj: FlatPage, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        keep_texts()

    def delete_model(self, request: HttpRequest, obj: FlatPage) -> None:
        super().delete_model(request, obj)
        keep_texts()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[FlatPage]) -> None:
        super().delete_queryset(request, queryset)
        keep_texts()


@admin.register(PageVersion)
class PageVersionAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("url", "since", "sha256")
    list_filter = ("valid_from",)
    search_fields = ("url", "sha256")
    fieldsets = ((None, {"fields": ("url", "since", "sha256", "text")}),)
    since = age_of("valid_from", "since")

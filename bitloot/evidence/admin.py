from django.contrib import admin

from bitloot.core.admin.base import ReadOnlyAdmin
from bitloot.core.admin.formatting import age_of
from bitloot.evidence.models import PageVersion


@admin.register(PageVersion)
class PageVersionAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("url", "since", "sha256")
    list_filter = ("valid_from",)
    search_fields = ("url", "sha256")
    fieldsets = ((None, {"fields": ("url", "since", "sha256", "text")}),)
    since = age_of("valid_from", "since")

from django.contrib import admin

from bitloot.accounting.models import Acknowledgement
from bitloot.core.admin.base import ReadOnlyAdmin
from bitloot.core.admin.formatting import age_of


@admin.register(Acknowledgement)
class AcknowledgementAdmin(ReadOnlyAdmin):
    list_display = ("kind", "subject", "reason", "acknowledged_by", "acknowledged")
    list_filter = ("kind", "acknowledged_at")
    search_fields = ("subject", "order")
    fieldsets = (
        (None, {"fields": ("kind", "subject", "order", "message")}),
        ("What was done", {"fields": ("reason", ("acknowledged_by", "acknowledged"))}),
    )
    acknowledged = age_of("acknowledged_at", "acknowledged")

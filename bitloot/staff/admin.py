from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.utils.html import format_html

from bitloot.core.admin.base import OneOf, ReadOnlyAdmin
from bitloot.core.admin.formatting import age_of
from fulfillment.choices import HoldReason
from orders.admin import OrderAdmin
from orders.choices import OrderReason
from payments.choices import ReviewReason


class OrderReasonFilter(OneOf):
    """An order that stopped for one of its payments or purchases carries the reason of that row."""

    title = parameter_name = "reason"
    words = tuple(dict.fromkeys([*OrderReason.values, *HoldReason.values, *ReviewReason.values]))


OrderAdmin.extend(list_filter=[OrderReasonFilter])


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """What staff did here."""

    in_finder = False
    list_display = ("what", "moment", "user", "about")
    list_filter = ("action_time", "action_flag")
    search_fields = ("user__username", "object_id", "object_repr__icontains")
    list_select_related = ("user", "content_type")
    fieldsets = ((None, {"fields": ("moment", "user", "about", "what")}),)
    moment = age_of("action_time", "when")

    @admin.display(description="what")
    def what(self, entry: LogEntry) -> str:
        return entry.get_change_message() or entry.get_action_flag_display()

    @admin.display(description="about")
    def about(self, entry: LogEntry) -> str:
        url = entry.get_admin_url() if entry.object_id else None
        return format_html('<a href="{}">{}</a>', url, entry.object_repr) if url else entry.object_repr

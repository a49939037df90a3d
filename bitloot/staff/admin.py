from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.html import format_html
from knox.models import AuthToken

from bitloot.core.admin.base import OneOf, ReadOnlyAdmin
from bitloot.core.admin.formatting import age_of
from bitloot.staff import order_page, products
from bitloot.staff.models import SignIn
from fulfillment.choices import HoldReason
from orders.admin import OrderAdmin
from orders.choices import OrderReason
from payments.choices import ReviewReason

__all__ = ["order_page", "products"]  # they register their pages


class OrderReasonFilter(OneOf):
    """An order that stopped for one of its payments or purchases carries the reason of that row."""

    title = parameter_name = "reason"
    words = tuple(dict.fromkeys([*OrderReason, *HoldReason, *ReviewReason]))


OrderAdmin.extend(list_filter=[OrderReasonFilter], reasons=[HoldReason, ReviewReason])


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


admin.site.unregister([AuthToken, User])


@admin.register(AuthToken)
class AuthTokenAdmin(ReadOnlyAdmin):
    """Tokens come from POST /api/admin/login, with an expiry and for oneself; here they are seen and ended."""

    in_finder = False
    list_display = ("token_key", "user", "issued", "expiry")
    list_select_related = ("user",)
    fieldsets = ((None, {"fields": ("token_key", "user", "issued", "expiry")}),)
    issued = age_of("created", "issued")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("knox.delete_authtoken")


@admin.register(User)
class StaffUserAdmin(UserAdmin):
    """Only superusers hand out rights; with change_user alone, nobody gets more than before."""

    RIGHTS = ("is_superuser", "is_staff", "groups", "user_permissions")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if _is_superuser(request) else (*fields, *self.RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Or they would set a superuser's password and sign in with it.
        is_above = obj is not None and obj.is_superuser and not _is_superuser(request)
        return not is_above and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_above = obj is not None and obj.is_superuser and not _is_superuser(request)
        return not is_above and super().has_delete_permission(request, obj)


@admin.register(SignIn)
class SignInAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("name", "moment", "outcome", "network", "way")
    list_filter = ("outcome", "way", "at")
    search_fields = ("name", "network")
    fieldsets = ((None, {"fields": ("name", "moment", "outcome", "network", "way")}),)
    moment = age_of("at", "when")


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))

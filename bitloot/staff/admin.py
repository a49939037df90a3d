from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db.models import BooleanField, Case, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils.html import format_html
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.models import AuthToken

from bitloot.core.admin.base import OneOf, ReadOnlyAdmin
from bitloot.core.admin.formatting import NOTHING, age, age_of
from bitloot.core.sessions import at_rest
from bitloot.staff import order_page, products, sessions
from bitloot.staff.audit import record
from bitloot.staff.models import SignIn, StaffEvent
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


admin.site.unregister([AuthToken, Group, StaticDevice, TOTPDevice, User])


@admin.register(AuthToken)
class AuthTokenAdmin(ReadOnlyAdmin):
    """Tokens come from POST /api/admin/login, with an expiry and for oneself; here they are seen and ended.

    Everybody sees and ends their own; those of others need the permissions.
    """

    in_finder = False
    list_display = ("token_key", "user", "issued", "expiry")
    list_select_related = ("user",)
    fieldsets = ((None, {"fields": ("token_key", "user", "issued", "expiry")}),)
    issued = age_of("created", "issued")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuthToken]:
        rows = super().get_queryset(request)
        return rows if request.user.has_perm("knox.view_authtoken") else rows.filter(user=request.user.pk)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and getattr(request.user, "is_staff", False))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None or obj.user_id == request.user.pk or request.user.has_perm("knox.view_authtoken")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None or obj.user_id == request.user.pk or request.user.has_perm("knox.delete_authtoken")


@admin.register(User)
class StaffUserAdmin(UserAdmin):
    """Only superusers hand out rights; with change_user alone, nobody gets more than before."""

    RIGHTS = ("is_superuser", "is_staff", "groups", "user_permissions")
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()  # Django's two-column choice has fields that a screen reader cannot name

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return shown
        # Its button leads to a page that would refuse them.
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name != "password"]})
            for title, options in shown
        ]

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


@admin.register(Group)
class StaffGroupAdmin(GroupAdmin):
    filter_horizontal = ()


@admin.register(TOTPDevice, StaticDevice)
class DeviceAdmin(ReadOnlyAdmin):
    """That an account has a second factor. Django-otp's own pages show secrets and recovery codes to who may view them.

    `manage.py staff_device` replaces both.
    """

    in_finder = False
    list_display = ("user", "name", "confirmed", "made", "used")
    search_fields = ("user__username",)
    list_select_related = ("user",)
    fieldsets = ((None, {"fields": ("user", "name", "confirmed", "made", "used")}),)
    made = age_of("created_at", "made")
    used = age_of("last_used_at", "last used")


@admin.register(Session)
class SessionAdmin(ReadOnlyAdmin):
    """Everybody sees and ends their own sessions; those of others need the permissions. One's present one: log out."""

    in_finder = False
    list_display = ("whose", "begun_at", "network", "agent", "last_page", "is_this_one")
    ordering = ("-expire_date",)
    fieldsets = ((None, {"fields": ("whose", "begun_at", "network", "agent", "last_page")}),)
    actions = ("end",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
        rows = sessions.live()
        if not request.user.has_perm("sessions.view_session"):
            rows = [row for row in rows if sessions.begun(row).user_id == str(request.user.pk)]
        self_key = request.session.session_key
        return super().get_queryset(request).filter(pk__in=[row.pk for row in rows]).annotate(is_mine=_is(self_key))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and getattr(request.user, "is_staff", False))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)  # the queryset holds what they may see

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None:
            return True
        if obj.pk == at_rest(request.session.session_key):
            return False  # it would end in the middle of this very answer
        is_own = sessions.begun(obj).user_id == str(request.user.pk)
        return is_own or request.user.has_perm("sessions.delete_session")

    def get_actions(self, request: HttpRequest, *where: Any, **location: Any) -> dict[str, Any]:
        # Django's would refuse all of them because of the present one, and talk of related objects.
        own = super().get_actions(request, *where, **location)
        return {name: action for name, action in own.items() if name != "delete_selected"}

    @admin.action(description="End the selected sessions")
    def end(self, request: HttpRequest, rows: QuerySet[Session]) -> None:
        ended = [row.pk for row in rows if self.has_delete_permission(request, row)]
        if ended:
            chosen = Session.objects.filter(pk__in=ended)
            self.log_deletions(request, chosen)
            chosen.delete()
            self._tell_ended(request, len(ended))
        if left := len(rows) - len(ended):
            text = f"{left} left as it was: to end the present one, log out; those of others need a permission."
            self.message_user(request, text, messages.WARNING)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().change_view(request, object_id, form_url, {**self._name_of(object_id), **(extra_context or {})})

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().delete_view(request, object_id, {**self._name_of(object_id), **(extra_context or {})})

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: Any) -> HttpResponse:
        # Django would name it by its digest, and lead home those who may change none.
        self._tell_ended(request, 1)
        return HttpResponseRedirect(reverse(self.view_name("changelist")))

    def _tell_ended(self, request: HttpRequest, count: int) -> None:
        text = f"{count} session{pluralize(count)} ended: whoever works there has to sign in again."
        self.message_user(request, text, messages.SUCCESS)

    def _name_of(self, object_id: str) -> dict[str, Any]:
        """Return a title that says whose session it is: its own name is a digest."""
        session = Session.objects.filter(pk=unquote(object_id)).first()
        if session is None:
            return {}
        network = sessions.begun(session).network
        return {"title": f"Session of {self.whose(session)} from {network}", "subtitle": None}

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Session]) -> Any:
        """Write whose session was ended; its key says nothing to anybody."""
        for session in queryset:
            user = User.objects.filter(pk=sessions.begun(session).user_id).first()
            if user is not None:
                record(user, f"a session from {sessions.begun(session).network} was ended")
        return super().log_deletions(request, queryset)

    @admin.display(description="account")
    def whose(self, session: Session) -> str:
        return sessions.names_of([session]).get(sessions.begun(session).user_id, NOTHING)

    @admin.display(description="begun")
    def begun_at(self, session: Session) -> str:
        return age(sessions.begun(session).at)

    @admin.display(description="network")
    def network(self, session: Session) -> str:
        return sessions.begun(session).network

    @admin.display(description="program")
    def agent(self, session: Session) -> str:
        return sessions.begun(session).agent

    @admin.display(description="last page")
    def last_page(self, session: Session) -> str:
        return age(sessions.last_page(session))

    @admin.display(description="this one", boolean=True)
    def is_this_one(self, session: Any) -> bool:
        return bool(session.is_mine)


@admin.register(StaffEvent)
class StaffEventAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("about", "what", "actor", "moment")
    list_filter = ("at",)
    search_fields = ("about", "actor")
    fieldsets = ((None, {"fields": ("about", "what", "actor", "moment")}),)
    moment = age_of("at", "when")


@admin.register(SignIn)
class SignInAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("name", "moment", "outcome", "network", "way")
    list_filter = ("outcome", "way", "at")
    search_fields = ("name", "network")
    fieldsets = ((None, {"fields": ("name", "moment", "outcome", "network", "way")}),)
    moment = age_of("at", "when")


def _is(session_key: str | None) -> Case:
    mine = When(pk=at_rest(session_key), then=Value(True))
    return Case(mine, default=Value(False), output_field=BooleanField())


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))

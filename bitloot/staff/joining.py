"""New members of staff: invited by a mailed link that works once, and lets them set a password and an authenticator."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import segno
from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.models import Group, User
from django.contrib.auth.tokens import default_token_generator
from django.contrib.auth.views import PasswordResetConfirmView
from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from bitloot.core import logs
from bitloot.staff import devices
from bitloot.staff.audit import record


class AlreadyStaff(Exception):
    """There is an account of this name that was not merely invited; the message says so."""


def invite(*, name: str, email: str, groups: Sequence[Group]) -> User:
    """Make an account that nobody can sign in with yet, or the one that was invited before; older links end.

    The link is mailed by `mail_link`, when this is committed. Raises AlreadyStaff.
    """
    with transaction.atomic():
        user = User.objects.select_for_update().filter(username__iexact=name).first()
        if user is not None and (user.has_usable_password() or not user.is_staff):
            raise AlreadyStaff(f"There is an account {user.username} already. Change it in the admin.")
        user = user or User(username=name, is_staff=True)
        user.email = email
        user.set_unusable_password()  # a new one each time, and with it every older link ends
        user.save()
        user.groups.set(groups)
        record(user, f"invited: {', '.join(group.name for group in groups) or 'no group'}")
    return user


def mail_link(user: User) -> datetime:
    """Mail the link, which is stored nowhere; return when it ends. Raises what the mail server answers."""
    ends_at = timezone.now() + timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)
    name, token = urlsafe_base64_encode(force_bytes(user.pk)), default_token_generator.make_token(user)
    link = settings.SITE_URL + reverse("staff-join", args=[name, token])
    text = render_to_string("admin/bitloot/invitation.txt", {"user": user, "link": link, "ends_at": ends_at})
    send_mail(f"Your staff account at {settings.STORE_NAME}", text, settings.DEFAULT_FROM_EMAIL, [user.email])
    return ends_at


class JoinForm(SetPasswordForm):
    """A password, and a code that shows that the authenticator has the secret."""

    code = forms.CharField(
        max_length=10,
        label="One-time code",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        # Last: a code works once, and one that was spent on a refused password would be refused with the next.
        if not self.errors and not devices.begin(self.user).verify_token(cleaned["code"].replace(" ", "")):
            self.add_error("code", "This is not the code that your authenticator shows now. Type the next one.")
        return cleaned


class JoinView(PasswordResetConfirmView):
    """Django's one-time link, for accounts that have no password yet."""

    form_class = JoinForm
    template_name = "admin/bitloot/join.html"
    title = "Your staff account"
    success_url = reverse_lazy("admin:login")
    user: Any

    def get_user(self, uidb64: str) -> Any:
        user = super().get_user(uidb64)
        is_invited = user is not None and user.is_staff and user.is_active and not user.has_usable_password()
        return user if is_invited else None

    def get_context_data(self, **more: Any) -> dict[str, Any]:
        # Of a link that has ended, Django would say that a password reset failed.
        context = {**super().get_context_data(**more), "title": self.title, "site_header": admin.site.site_header}
        if self.validlink:
            device = devices.begin(self.user)
            picture = segno.make(device.config_url).svg_data_uri(scale=4, light="#fff")
            context |= {"secret": devices.secret_of(device), "picture": picture}
        return context

    def form_valid(self, form: Any) -> HttpResponse:
        with logs.about(staff=self.user.get_username()), transaction.atomic():
            # Sent twice at the same moment, by a double click or by a thief of the link: the second finds a password.
            locked = User.objects.select_for_update().get(pk=self.user.pk)
            if locked.has_usable_password():
                self.validlink = False
                return self.render_to_response(self.get_context_data(form=None))
            super().form_valid(form)  # saves the password and ends the link; the page below replaces its redirect
            codes = devices.confirm(devices.begin(self.user))
        context = {**admin.site.each_context(self.request), "title": self.title, "codes": codes, "name": locked}
        return TemplateResponse(self.request, "admin/bitloot/joined.html", context)

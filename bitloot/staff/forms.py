from hashlib import sha256
from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.cache import cache

from bitloot.core.api import client_address

WRONG_PASSWORDS = 10
LOCKED_SECONDS = 15 * 60


class LimitedLoginForm(AdminAuthenticationForm):
    """Locks a name for one client's address after ten wrong passwords; from elsewhere its owner still gets in."""

    def clean(self) -> dict[str, Any]:
        name = str(self.cleaned_data.get("username", "")).lower()
        address = client_address(self.request) if self.request else ""
        key = "staff-login:" + sha256(f"{name}|{address}".encode()).hexdigest()
        if (cache.get(key) or 0) >= WRONG_PASSWORDS:
            raise forms.ValidationError("Too many wrong passwords. Wait a quarter of an hour, then try again.")
        try:
            return super().clean()
        except forms.ValidationError:
            cache.set(key, (cache.get(key) or 0) + 1, LOCKED_SECONDS)
            raise

from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm

from bitloot.staff.sign_in import TooManyTries, attempt, passes_second_factor


class SignInForm(AdminAuthenticationForm):
    """Name, password and one-time code; each try counts before its password costs anything."""

    error_messages = {
        **AdminAuthenticationForm.error_messages,
        "invalid_login": "Name, password and one-time code do not fit together. Each code works once.",
    }
    code = forms.CharField(
        required=False,
        max_length=20,
        label="One-time code",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "autocapitalize": "none"}),
    )

    def clean(self) -> dict[str, Any]:
        name = str(self.cleaned_data.get("username", ""))
        try:
            with attempt(self.request, name=name, way="admin"):
                cleaned = super().clean()
                user = self.get_user()
                if user is not None and not passes_second_factor(user, self.cleaned_data.get("code", "")):
                    raise self.get_invalid_login_error()  # the same for each factor
        except TooManyTries as err:
            raise forms.ValidationError(f"Too many wrong passwords. {err}") from err
        return cleaned

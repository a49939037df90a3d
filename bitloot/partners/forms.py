import uuid
from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone

from bitloot.core.clients import Scope
from bitloot.partners.models import ApiKey


class KeyForm(forms.ModelForm):
    # Made with the form: a page that is reloaded sends it again, and makes no second key.
    made_as = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4, required=False)
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices, initial=[Scope.PRODUCTS, Scope.PLACE, Scope.READ], widget=forms.CheckboxSelectMultiple
    )
    expires_at = forms.DateTimeField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        label="Expires",
        help_text="Empty: it works until somebody ends it.",
    )

    class Meta:
        model = ApiKey
        fields = ["name", "email", "scopes", "requests_per_minute", "unpaid_per_hour", "expires_at"]

    def clean_expires_at(self) -> Any:
        moment = self.cleaned_data["expires_at"]
        if moment is not None and moment <= timezone.now():
            raise forms.ValidationError("Choose a day to come.")
        return moment


class RenewForm(forms.Form):
    hours = forms.IntegerField(
        min_value=0,
        max_value=168,
        initial=24,
        label="Hours for which the current secret still works",
        help_text="0 if it leaked: then it ends at once.",
    )
    seen = forms.CharField(widget=forms.HiddenInput)

    @property
    def overlap(self) -> timedelta:
        return timedelta(hours=self.cleaned_data["hours"])

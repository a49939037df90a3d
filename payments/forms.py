from django import forms
from django.core.validators import RegexValidator

from bitloot.core.decisions import ReasonForm

TRANSACTION_ID = r"[\x21-\x7e]{6,200}"
NO_TRANSACTION_ID = "Enter the transaction id as the network shows it."


class TransactionForm(forms.Form):
    transaction_id = forms.CharField(
        min_length=6,
        max_length=200,
        validators=[RegexValidator(rf"^{TRANSACTION_ID}\Z", NO_TRANSACTION_ID)],
        widget=forms.TextInput(attrs={"size": 70, "autocomplete": "off", "spellcheck": "false"}),
        help_text="As the network shows it. The customer sees it on their page.",
    )


class SentForm(TransactionForm):
    destination = forms.IntegerField(widget=forms.HiddenInput, help_text="The address that the page showed.")


class SentElsewhereForm(TransactionForm):
    address = forms.CharField(
        min_length=8, max_length=200, widget=forms.TextInput(attrs={"size": 70, "autocomplete": "off"}),
        help_text="The address that the coins went to, one of those that the customer gave.",
    )  # fmt: skip
    reason = ReasonForm.base_fields["reason"]

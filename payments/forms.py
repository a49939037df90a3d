from django import forms


class SentForm(forms.Form):
    transaction_id = forms.CharField(
        min_length=6,
        max_length=200,
        widget=forms.TextInput(attrs={"size": 70, "autocomplete": "off", "spellcheck": "false"}),
        help_text="As the network shows it. The customer sees it on their page.",
    )

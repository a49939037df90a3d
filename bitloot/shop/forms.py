from decimal import Decimal
from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from bitloot.core.money import money
from bitloot.shop.sale import payable_quantities, quantities
from orders.mailboxes import MailboxField, MailboxInput
from orders.models import MAX_QUANTITY, Product

NOT_AN_ADDRESS = _("This does not look like an e-mail address. Please check it: is an @ or a dot missing?")


class CheckoutForm(forms.Form):
    product = forms.SlugField(widget=forms.HiddenInput)
    # Made by the page, so that a form sent twice places one order.
    idempotency_key = forms.CharField(widget=forms.HiddenInput, required=False)
    quantity = forms.TypedChoiceField(
        coerce=int,
        error_messages=dict.fromkeys(
            ("invalid_choice", "required"), format_lazy(_("Please choose 1 to {most} keys."), most=MAX_QUANTITY)
        ),
    )
    email = MailboxField(
        max_length=254,
        help_text=_("We'll e-mail your order link and updates. No account needed."),
        widget=MailboxInput(attrs={"placeholder": _("you@example.org")}),
        error_messages={
            "required": _("Please enter your e-mail address: the link to your key goes there."),
            "invalid": NOT_AN_ADDRESS,
        },
    )

    def __init__(self, *args: Any, product: Product, least: Decimal | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What has sold out since the page was opened is refused with the reason, not as a wrong number.
        numbers = payable_quantities(product, least) if self.is_bound else quantities(product, least)
        # The total stands in the choice itself: it is right without a script and without another request.
        self.fields["quantity"].choices = [  # type: ignore[attr-defined]
            (n, _choice(n, money(product.price * n, product.currency))) for n in numbers
        ]


def focus_first_error(form: forms.Form) -> None:
    """Put the keyboard into the field that has to be corrected; the page comes anew and would start at its top."""
    wrong = next((field for name, field in form.fields.items() if name in form.errors), None)
    if wrong is not None:
        wrong.widget.attrs["autofocus"] = True


def _choice(number: int, total: str) -> str:
    sentence = ngettext("%(number)s key: %(total)s", "%(number)s keys: %(total)s", number)
    return sentence % {"number": number, "total": total}

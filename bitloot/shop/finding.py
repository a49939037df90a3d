"""“Find my order”: a form that works without a script. What it answers never depends on what it finds."""

import re
import uuid

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from bitloot.shop.forms import NOT_AN_ADDRESS, focus_first_error
from bitloot.shop.throttling import too_often
from orders import services
from orders.mailboxes import MailboxField

# The whole one, or the eight characters that the order's page shows.
_NUMBER = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}|\b[0-9a-f]{8}\b", re.IGNORECASE)


class FindForm(forms.Form):
    email = MailboxField(
        max_length=254,
        label=_("The e-mail address you ordered with"),
        error_messages={
            "required": _("Please enter the address you ordered with: the link goes there."),
            "invalid": NOT_AN_ADDRESS,
        },
    )
    number = forms.CharField(
        max_length=300,
        required=False,
        label=_("Order number, if you have it"),
        help_text=_(
            "It is in our e-mails and at the top of your order's page. Without it we e-mail you all your orders."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def clean_number(self) -> str:
        """Take the number out of whatever was pasted: a link, capitals, or with words around it."""
        typed = self.cleaned_data["number"].strip()
        if not typed:
            return ""
        found = _NUMBER.search(typed)
        if found is None:
            raise forms.ValidationError(
                _(
                    "This is not an order number. It begins with 8 letters and digits, like 4f0c91ab;"
                    " or leave the field empty."
                )
            )
        return found[0].replace("-", "").lower()


@require_http_methods(["GET", "HEAD", "POST"])
def find_order(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return _page(request, FindForm())
    if refusal := too_often(request, "lookup"):
        return refusal
    form = FindForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    number, email = form.cleaned_data["number"], form.cleaned_data["email"]
    order_id = services.id_of(number, email=email) if number else None
    services.look_up(order_id=order_id, email=email)
    return _page(request, form, is_sent=True)


@require_safe
def to_order_page(request: HttpRequest, order_id: str, rest: str = "") -> HttpResponse:
    """Lead from an address with capitals, a slash or an encoded `#` at its end to the order's own, with its token."""
    page = reverse("order-page", args=[uuid.UUID(order_id)])
    token = rest.strip("/").removeprefix("#")
    return HttpResponseRedirect(f"{page}#{token}" if token else page)


def _page(request: HttpRequest, form: FindForm, *, is_sent: bool = False, status: int = 200) -> HttpResponse:
    focus_first_error(form)
    response = render(request, "shop/find.html", {"form": form, "is_sent": is_sent}, status=status)
    # With no-referrer browsers send this form with `Origin: null`, and Django's CSRF check refuses it.
    response["Referrer-Policy"] = "same-origin"
    return response

"""“Reprice by a rule…”: what a rule would make of the products chosen in the list, and the button that does it."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from bitloot.core.admin.base import BaseAdmin
from bitloot.core.decisions import DecisionRefused
from fulfillment import pricing
from fulfillment.admin import shown_prices
from fulfillment.models import PriceRule
from orders.models import Product

ACTION = "reprice"
LABEL = "Reprice by a rule…"
PERMISSION = pricing.APPLY.permission


class RuleForm(forms.Form):
    rule = forms.ModelChoiceField(
        PriceRule.objects.all(), empty_label=None, error_messages={"invalid_choice": "This rule is gone. Choose again."}
    )


def demand_permission(request: HttpRequest) -> None:
    """Refuse, and log it, if they may not change prices by a rule: Django would ignore the action silently."""
    if ACTION not in request.POST.getlist("action") or request.user.has_perm(PERMISSION):
        return
    LogEntry.objects.create(
        user_id=_user_id(request), content_type=ContentType.objects.get_for_model(Product), object_repr="products",
        action_flag=CHANGE, change_message=f"Refused “{LABEL}”: no permission.",
    )  # fmt: skip
    raise PermissionDenied


def show(page: BaseAdmin, request: HttpRequest, products: QuerySet[Product]) -> TemplateResponse | None:
    """Answer with the preview, or change the prices; None leads back to the list."""
    form = RuleForm(request.POST if "rule" in request.POST else {"rule": _usual(products)})
    rule = form.cleaned_data["rule"] if form.is_valid() else None
    if rule is not None and "seen" in request.POST:
        _change(page, request, rule, products)
        return None
    proposals = list(pricing.preview(rule, products)) if rule is not None else []
    context = {
        **page.admin_site.each_context(request),
        "title": LABEL.rstrip("…"),
        "opts": page.opts,
        "list_name": page.title,
        "action": ACTION,
        "chosen": request.POST.getlist(ACTION_CHECKBOX_NAME),
        "across": request.POST.get("select_across", "0"),
        "form": form,
        "rule": rule,
        "prices": shown_prices(proposals) if rule is not None else "",
        "changes": any(proposal.changes for proposal in proposals),
        "seen": pricing.digest_of(proposals),
    }
    return TemplateResponse(request, "admin/bitloot/reprice.html", context)


def _usual(products: QuerySet[Product]) -> Any:
    """Return the rule that the first of them has anyway, or another where it has none."""
    first, known = products.first(), pricing.rules()
    usual = pricing.rule_of(first, known) if first is not None else None
    return (usual or next(iter(known.values()), PriceRule())).pk


def _change(page: BaseAdmin, request: HttpRequest, rule: PriceRule, products: QuerySet[Product]) -> None:
    actor, seen = request.user.get_username(), request.POST["seen"]
    try:
        with transaction.atomic():  # no effect without its line in the log
            changed = pricing.reprice(rule, products, actor=actor, seen=seen)
            LogEntry.objects.log_actions(_user_id(request), changed, CHANGE, f"Repriced by the rule “{rule}”.")
    except DecisionRefused as err:
        page.message_user(request, f"{rule}: {err}", messages.ERROR)
    else:
        number = f"{len(changed)} prices are" if len(changed) > 1 else "1 price is"
        page.message_user(request, f"{rule}: {number} changed; orders that were placed keep theirs.", messages.SUCCESS)


def _user_id(request: HttpRequest) -> Any:
    return request.user.pk

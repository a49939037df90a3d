"""Decisions that take two: one member of staff asks for it, another one approves it, and then it is carried out.

A `Decision` takes part by its `needs_second`; its page is an `orders.admin.SecondedAdmin`, and a REST view calls
`decide` instead of the decision's own service.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.db.models.functions import Now

from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused, ReasonForm, demand
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Alert, Approval, Order

WAITS_ALREADY = "It is waiting for a second member of staff already. They find it on the home page."
WAITS = "a second member of staff has to approve it; it waits on the home page, and nothing has happened yet."


def is_large(amount: Decimal, *, total: Decimal) -> bool:
    """Whether so much money of an order of `total` takes a second member of staff."""
    return amount > settings.APPROVAL_LIMIT or amount > total * settings.APPROVAL_SHARE


def decide(decision: Decision[Any], row: Any, *, user: Any, fields: Mapping[str, Any], digest: str) -> str:
    """Carry the decision out, or let it wait for a second member of staff; return what happens next.

    The caller holds the order's lock and has read the row under it; `digest` is DecisionAdmin.digest of the row. What
    waits is stored as it was typed, so the fields must hold no key. Raises DecisionRefused.
    """
    if decision.needs_second is None or not decision.needs_second(row, fields):
        decision.carry_out(row, actor=user.get_username(), **fields)
        return decision.done
    # Refused now, not after a colleague has spent time on it; asked again at the approval, when things may differ.
    demand(decision.objection(row))
    _request(decision, row, user=user, fields=fields, digest=digest)
    return WAITS


def asked_for() -> frozenset[tuple[str, str, str]]:
    """Return what waits for a second member of staff: model, primary key and decision of each."""
    waiting = Approval.objects.filter(status=Approval.Status.WAITING)
    return frozenset(waiting.order_by().values_list("about_model", "about_pk", "decision"))


def _request(decision: Decision[Any], row: Any, *, user: Any, fields: Mapping[str, Any], digest: str) -> None:
    order = row if isinstance(row, Order) else row.order
    about = {**Alert.key_of(row), "decision": decision.name}
    # Safe under the order's lock, which the caller holds; `approval_waits_once` is the second line.
    if Approval.objects.filter(**about, status=Approval.Status.WAITING).exists():
        raise DecisionRefused(WAITS_ALREADY)
    approval = Approval.objects.create(
        **about, order=order, label=decision.label, fields=_as_typed(fields), digest=digest, requested_by=user
    )
    order.note("staff", f"Asked for “{decision.label}”: it waits for approval.", actor=user.get_username())
    message = f"{user.get_username()} asks for “{decision.label}” on {row}. Someone else has to approve or decline it."
    raise_alert(AlertKind.APPROVAL_WAITING, approval, message, order=order)


def _as_typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields as JSON holds them; the decision's form reads them again when it is approved."""
    encoder = DjangoJSONEncoder()
    plain = (str, int, bool, type(None))
    return {name: value if isinstance(value, plain) else encoder.default(value) for name, value in fields.items()}


def objection_to_approval(approval: Approval) -> str | None:
    if approval.status != Approval.Status.WAITING:
        return f"It was {approval.get_status_display().lower()} already."
    page, row = page_of(approval), approval.about
    if (objection := decision_of(approval).objection(row)) is not None:
        return f"{objection} Decline this request."
    # The approval covers what the requester saw and nothing else.
    if page.digest(row) != approval.digest:
        return "What was shown when this was asked for has changed. Decline it; they can ask again."
    return None


def approve(approval: Approval, *, actor: str) -> None:
    """Carry out what another member of staff asked for. Raises DecisionRefused."""
    user = get_user_model().objects.get_by_natural_key(actor)
    with transaction.atomic():
        # The order's lock first, as everywhere: what the objection looks at cannot change until all is written.
        approval.order.lock()
        approval = Approval.objects.select_for_update(of=("self",)).get(pk=approval.pk)
        demand(objection_to_approval(approval))
        demand(objection_to_approver(approval, user))
        message = f"Approved “{approval.label}”, which {approval.requested_by.get_username()} asked for."
        approval.move(Approval.Status.APPROVED, message=message, actor=actor, approved_by_id=user.pk, approved_at=Now())
        decision_of(approval).carry_out(approval.about, actor=actor, **_fields(approval))
    close_alert(AlertKind.APPROVAL_WAITING, approval, by=actor)


def objection_to_approver(approval: Approval, user: Any) -> str | None:
    if user.pk == approval.requested_by_id:
        return "You asked for it. Someone else has to approve it."
    allowed = user.has_perm(decision_of(approval).permission)
    return None if allowed else "Your permissions do not cover this decision."


def _fields(approval: Approval) -> dict[str, Any]:
    form_class = decision_of(approval).form
    form = form_class(approval.fields) if form_class else ConfirmForm({})
    if not form.is_valid():
        raise DecisionRefused("What was typed no longer fits the form. Decline it; they can ask again.")
    return form.cleaned_data


def objection_to_declining(approval: Approval) -> str | None:
    if approval.status != Approval.Status.WAITING:
        return f"It was {approval.get_status_display().lower()} already."
    return None


def decline(approval: Approval, *, actor: str, reason: str) -> None:
    """End a request without carrying it out; the one who asked may do so, too. Raises DecisionRefused."""
    with transaction.atomic():
        approval.order.lock()
        approval = Approval.objects.select_for_update(of=("self",)).get(pk=approval.pk)
        demand(objection_to_declining(approval))
        message = f"Declined “{approval.label}”, which {approval.requested_by.get_username()} asked for: {reason}"
        approval.move(Approval.Status.DECLINED, message=message, actor=actor)
    close_alert(AlertKind.APPROVAL_WAITING, approval, by=actor)


def page_of(approval: Approval) -> Any:
    """Return the admin page of the row, which names its decisions and what they show."""
    return admin.site.get_model_admin(apps.get_model(approval.about_model))


def decision_of(approval: Approval) -> Decision[Any]:
    return next(decision for decision in page_of(approval).decisions if decision.name == approval.decision)


APPROVE = Decision(
    name="approve",
    label="Approve",
    permission="orders.approve_decision",
    objection=objection_to_approval,
    carry_out=approve,
    form=ConfirmForm,
    consequence="It is carried out at once, in your name and in that of the member of staff who asked for it.",
    done="approved and carried out.",
)
DECLINE = Decision(
    name="decline",
    label="Decline",
    permission="orders.decline_decision",
    objection=objection_to_declining,
    carry_out=decline,
    form=ReasonForm,
    consequence="Nothing is carried out. It may be asked for again.",
    done="declined. Nothing was carried out.",
)

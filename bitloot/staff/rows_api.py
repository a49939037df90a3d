"""Single rows for staff, with what may be decided about them: the decisions of the admin's pages, over REST."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import Http404
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.api import json_body, may_answer
from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused
from bitloot.core.staff_api import StaffView
from bitloot.staff import serializers
from bitloot.staff.waits import waits_for
from fulfillment.exceptions import CodesRefused, NotDeliverable, PermitOpen
from fulfillment.models import Reservation
from orders.models import Alert, Approval, Email, Order
from payments.models import Payment, Refund
from storage.models import Key
from webhooks.models import ReplayRun, WebhookLog

MAX_WEBHOOKS = 100
EXAMPLE = OpenApiExample(
    "A reason", {"seen": "17.9f86d081884c7d65", "form": {"reason": "The customer asked for it."}}, request_only=True
)


class OneRow(StaffView):
    """A row as the admin's page of its model finds it, by the one id in the address."""

    model: ClassVar[type[Model]]

    @property
    def page(self) -> DecisionAdmin:
        page = admin.site.get_model_admin(self.model)
        assert isinstance(page, DecisionAdmin)
        return page

    def row(self, request: Request, key: Any) -> Any:
        found = self.page.get_object(request, str(key))
        if found is None:
            raise Http404
        return found


class RowView(OneRow):
    serializer_class: type[serializers.DecidableSerializer]

    def get(self, request: Request, **key: Any) -> Response:
        """Show the row, and what may be decided about it now."""
        (only,) = key.values()
        # Under any name: each route names its id differently, and the API document takes its words from that.
        row = self.row(request, only)
        context = {"page": self.page, "request": request, **self.more(request, row)}
        return Response(self.serializer_class(row, context=context).data)

    def more(self, request: Request, row: Any) -> dict[str, Any]:
        """Return what the serializer needs beside the row."""
        return {}


class DecisionView(OneRow):
    @may_answer(DecisionRefused, CodesRefused, NotDeliverable, PermitOpen)
    def post(self, request: Request, name: str, **key: Any) -> Response:
        (only,) = key.values()
        row, page = self.row(request, only), self.page
        decision = next((decision for decision in page.decisions if decision.name == name), None)
        if decision is None:
            raise Http404
        page.demand_permission(request, row, decision)
        asked = serializers.DecideSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        fields = _cleaned(page, row, decision, asked.validated_data["form"])
        try:
            done = page.decide(request, row, decision, fields, seen=asked.validated_data["seen"])
        except DecisionRefused as err:
            err.afterwards()
            raise
        row.refresh_from_db()
        # `decide` says something else if a second member of staff has to approve.
        waits = done != decision.done
        answer = {"waits_for_approval": waits, "detail": done, "status": getattr(row, "status", "")}
        return Response(serializers.DecidedSerializer(answer).data, status=202 if waits else 200)


def _cleaned(page: DecisionAdmin, row: Any, decision: Decision[Any], typed: dict[str, str]) -> dict[str, Any]:
    """Read what was typed as the admin's form reads it, its hidden fields being what it would begin with."""
    form_class = page.form_for(row, decision)
    known = (form_class or ConfirmForm).base_fields
    if unknown := set(typed) - set(known):
        names = ", ".join(sorted(known)) or "nothing"
        raise ValidationError({"form": [f"{len(unknown)} unknown field(s). It asks for: {names}."]})
    if form_class is None:
        return {}
    form: forms.Form = form_class({**(decision.initial(row) if decision.initial else {}), **typed})
    if not form.is_valid():
        raise ValidationError({"form": {name: [str(text) for text in texts] for name, texts in form.errors.items()}})
    return form.cleaned_data


def _decisions_of(detail: type[RowView]) -> type[DecisionView]:
    """Return the view that decides about the rows which `detail` shows; whoever may see one may name it here.

    The document says which decisions there are, and the permission that each needs besides.
    """
    names = {"model": detail.model, "required_permissions": detail.required_permissions}
    view = type(detail.__name__.replace("Detail", "Decision"), (DecisionView,), names)
    decisions = admin.site.get_model_admin(detail.model).decisions  # type: ignore[attr-defined]
    lines = [f"- `{each.name}`: {each.label} (`{each.permission}`)" for each in decisions]
    text = (
        "Decide about the row as the button of the admin does: same permission, objection, second person and line in"
        " the staff log.\n\n" + "\n".join(lines)
    )
    enum = [each.name for each in decisions]
    schema = extend_schema(
        description=text,
        parameters=[OpenApiParameter("name", str, OpenApiParameter.PATH, enum=enum)],
        request=serializers.DecideSerializer,
        responses={200: serializers.DecidedSerializer, 202: serializers.DecidedSerializer},
        examples=[EXAMPLE],
    )
    return extend_schema_view(post=schema)(view)


class OrderDetail(RowView):
    model = Order
    required_permissions = ("orders.view_order",)
    serializer_class = serializers.OrderDetailSerializer

    def more(self, request: Request, row: Order) -> dict[str, Any]:
        return {"waits": waits_for([row])}


OrderDecision = _decisions_of(OrderDetail)


class PaymentDetail(RowView):
    model = Payment
    required_permissions = ("payments.view_payment",)
    serializer_class = serializers.PaymentDetailSerializer

    def more(self, request: Request, row: Payment) -> dict[str, Any]:
        return {"webhooks": _webhooks_of(row) if request.user.has_perm("webhooks.view_webhooklog") else None}


PaymentDecision = _decisions_of(PaymentDetail)


class RefundDetail(RowView):
    model = Refund
    required_permissions = ("payments.view_refund",)
    serializer_class = serializers.RefundDetailSerializer


RefundDecision = _decisions_of(RefundDetail)


class ReservationDetail(RowView):
    model = Reservation
    required_permissions = ("fulfillment.view_reservation",)
    serializer_class = serializers.ReservationDetailSerializer


ReservationDecision = _decisions_of(ReservationDetail)


class KeyDetail(RowView):
    model = Key
    required_permissions = ("storage.view_key",)
    serializer_class = serializers.KeyDetailSerializer


KeyDecision = _decisions_of(KeyDetail)


class WebhookDetail(RowView):
    model = WebhookLog
    required_permissions = ("webhooks.view_webhooklog",)
    serializer_class = serializers.WebhookDetailSerializer


WebhookDecision = _decisions_of(WebhookDetail)


class ReplayRunDetail(RowView):
    model = ReplayRun
    required_permissions = ("webhooks.view_replayrun",)
    serializer_class = serializers.ReplayRunDetailSerializer


ReplayRunDecision = _decisions_of(ReplayRunDetail)


class AlertDetail(RowView):
    model = Alert
    required_permissions = ("orders.view_alert",)
    serializer_class = serializers.AlertDetailSerializer


AlertDecision = _decisions_of(AlertDetail)


class ApprovalDetail(RowView):
    model = Approval
    required_permissions = ("orders.view_approval",)
    serializer_class = serializers.ApprovalDetailSerializer


ApprovalDecision = _decisions_of(ApprovalDetail)


class MailDetail(RowView):
    model = Email
    required_permissions = ("orders.view_email",)
    serializer_class = serializers.MailDetailSerializer


MailDecision = _decisions_of(MailDetail)


def _webhooks_of(payment: Payment) -> list[WebhookLog]:
    if not payment.external_id:
        return []
    sent = WebhookLog.objects.filter(provider=WebhookLog.Provider.NOWPAYMENTS, external_id=payment.external_id)
    return list(sent.defer("body").order_by("-id")[:MAX_WEBHOOKS])

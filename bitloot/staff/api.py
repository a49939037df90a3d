"""The staff's API: lists with filters and pages, an order's fulfilment, replay."""

import unicodedata
import uuid
from datetime import UTC, datetime
from typing import Any, cast

from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ValidationError as InvalidValue
from django.db import transaction
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param

from bitloot.core import replica
from bitloot.core.admin.base import MAX_COUNTED
from bitloot.core.api import Pages, answers, json_body, may_answer, whole_number
from bitloot.core.decisions import DecisionRefused
from bitloot.core.staff_api import StaffView
from bitloot.staff import serializers
from bitloot.staff.waits import waits_for
from fulfillment.models import Reservation
from orders.models import Alert, Approval, Email, Order
from payments.models import Payment, Refund
from storage.admin import SEALED
from storage.models import Key
from webhooks import replays
from webhooks import services as webhooks
from webhooks.choosing import Chosen
from webhooks.models import ReplayRun, WebhookLog

answers(DecisionRefused, 409, "refused", str, example="It is delivered already; there is nothing to do.")
answers(webhooks.TamperedBody, 409, "tampered", "The stored body is not the one that was verified. It is not replayed.")

_DATES = [
    OpenApiParameter("created_after", datetime, description="With an offset, such as 2026-01-31T12:00:00Z."),
    OpenApiParameter("created_before", datetime, description="With an offset, such as 2026-01-31T12:00:00Z."),
]
_ORDER = OpenApiParameter("order", uuid.UUID)
_PAGE = OpenApiParameter("page", {"type": "integer", "minimum": 1})
_TIMES = {"created_after": "gte", "created_before": "lt"}


def _one_of(model: Any, name: str = "status") -> OpenApiParameter:
    return OpenApiParameter(name, str, enum=[value for value, _ in model._meta.get_field(name).choices])


class CappedPages(Pages):
    """Counts at most MAX_COUNTED rows, as the admin's lists do; `next` still leads to every row."""

    def get_count(self, queryset: Any) -> int:
        request = cast(Request, self.request)
        # Beyond the cap, only as far as this page and one row: whether there is a next page.
        reach = max(MAX_COUNTED, self.get_offset(request) + self.get_limit(request))
        return int(queryset[: reach + 1].count())

    def get_paginated_response(self, data: Any) -> Response:
        answer = super().get_paginated_response(data)
        counted = cast(int, self.count)
        return Response(answer.data | {"count": min(counted, MAX_COUNTED), "count_is_capped": counted > MAX_COUNTED})

    def get_paginated_response_schema(self, schema: Any) -> dict[str, Any]:
        page: dict[str, Any] = super().get_paginated_response_schema(schema)
        page["required"] = ["count", "count_is_capped", "results"]
        page["properties"]["count"]["description"] = f"At most {MAX_COUNTED}."
        words = "Whether there are more rows than `count` says; follow `next` to see all."
        page["properties"]["count_is_capped"] = {"type": "boolean", "example": False, "description": words}
        return page


class NumberedPages(CappedPages):
    """Takes `page` (from 1) as well as `offset`."""

    query_names = ("limit", "offset", "page")

    def get_offset(self, request: Request) -> int:
        if "page" not in request.query_params:
            return super().get_offset(request)
        return (whole_number(request, "page", least=1, default=1) - 1) * self.get_limit(request)

    def get_next_link(self) -> str | None:
        return _by_offset(super().get_next_link())

    def get_previous_link(self) -> str | None:
        return _by_offset(super().get_previous_link())


class FilteredList(StaffView, ListAPIView):
    """A list filtered by the exact values of `filters` and by time; an unknown value is an error."""

    pagination_class = CappedPages
    filters: dict[str, str] = {}
    time_field = "created_at"

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        params = self.request.query_params
        queryset = queryset.using(replica.for_lists())
        for name, field in self.filters.items():
            if given := params.get(name):
                value = unicodedata.normalize("NFC", given)  # as addresses are kept
                _require_known(name, value, queryset.model._meta.get_field(field.partition("__")[0]))
                queryset = _filtered(queryset, name, **{field: value})
        for name, lookup in _TIMES.items():
            if given := params.get(name):
                queryset = queryset.filter(**{f"{self.time_field}__{lookup}": _moment(name, given)})
        return queryset

    @property
    def query_names(self) -> tuple[str, ...]:
        return (*self.filters, *_TIMES)


@extend_schema(parameters=[_one_of(Order), *_DATES, OpenApiParameter("email", str), OpenApiParameter("reason", str)])
class OrderList(FilteredList):
    """List orders, newest first, with what each waits for."""

    required_permissions = ("orders.view_order",)
    serializer_class = serializers.OrderRowSerializer
    queryset = Order.objects.order_by("-created_at", "id")
    filters = {"status": "status", "reason": "reason", "email": "email__iexact"}

    def paginate_queryset(self, queryset: Any) -> list[Any] | None:
        page = super().paginate_queryset(queryset)
        self.waits = waits_for(page or [])
        return page

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "waits": self.waits}


@extend_schema(parameters=[_one_of(Payment), _ORDER, *_DATES, _PAGE])
class PaymentList(FilteredList):
    """List payments, newest first."""

    required_permissions = ("payments.view_payment",)
    serializer_class = serializers.PaymentRowSerializer
    pagination_class = NumberedPages
    queryset = Payment.objects.order_by("-created_at", "id")
    filters = {"status": "status", "order": "order"}


@extend_schema(parameters=[_one_of(Refund), _ORDER, OpenApiParameter("payment", uuid.UUID), *_DATES])
class RefundList(FilteredList):
    """List refunds, newest first."""

    required_permissions = ("payments.view_refund",)
    serializer_class = serializers.RefundRowSerializer
    queryset = Refund.objects.select_related("destination").order_by("-created_at", "id")
    filters = {"status": "status", "order": "order", "payment": "payment"}


class OrderFulfillment(StaffView):
    required_permissions = ("fulfillment.view_reservation",)

    @extend_schema(responses=serializers.OrderFulfillmentSerializer)
    def get(self, request: Request, order_id: uuid.UUID) -> Response:
        """Show how an order's items are bought and delivered, and who opened which key; never a key itself."""
        order = get_object_or_404(Order, pk=order_id)
        reservations = Reservation.objects.filter(item__order=order).select_related("item__product")
        keys = Key.objects.filter(item__order=order).select_related("item", "delivery").defer(*SEALED)
        body = {
            "order_id": order.id,
            "status": order.fulfillment_word,
            "error": order.customer_error,
            "reservations": reservations,
            "keys": keys.prefetch_related("accesses") if request.user.has_perm("storage.view_key") else None,
            "audit": order.events.all(),
        }
        return Response(serializers.OrderFulfillmentSerializer(body).data)


@extend_schema(parameters=[_one_of(Reservation), _ORDER, *_DATES, OpenApiParameter("reservation_id", str)])
class ReservationList(FilteredList):
    """List purchases, newest first."""

    required_permissions = ("fulfillment.view_reservation",)
    serializer_class = serializers.ReservationRowSerializer
    queryset = Reservation.objects.select_related("item__product").order_by("-created_at", "id")
    filters = {"status": "status", "reservation_id": "supplier_order_id", "order": "item__order"}


@extend_schema(parameters=[_one_of(Key), _ORDER, *_DATES])
class KeyList(FilteredList):
    """List keys, newest first; never a key itself."""

    required_permissions = ("storage.view_key",)
    serializer_class = serializers.KeyRowSerializer
    queryset = Key.objects.select_related("item").defer(*SEALED).order_by("-received_at", "id")
    filters = {"status": "status", "order": "item__order"}
    time_field = "received_at"


@extend_schema(
    parameters=[_one_of(WebhookLog), *_DATES, _one_of(WebhookLog, "provider"), OpenApiParameter("external_id", str)]
)
class WebhookList(FilteredList):
    """List webhooks, newest first, without their bodies."""

    required_permissions = ("webhooks.view_webhooklog",)
    serializer_class = serializers.WebhookRowSerializer
    queryset = WebhookLog.objects.defer("body").order_by("-id")
    filters = {"status": "status", "provider": "provider", "external_id": "external_id"}
    time_field = "received_at"


@extend_schema(parameters=[_one_of(Alert), _ORDER, _one_of(Alert, "kind"), *_DATES])
class AlertList(FilteredList):
    """List alerts, the latest first."""

    required_permissions = ("orders.view_alert",)
    serializer_class = serializers.AlertRowSerializer
    queryset = Alert.objects.order_by("-last_at", "-id")
    filters = {"status": "status", "kind": "kind", "order": "order"}
    time_field = "opened_at"


@extend_schema(parameters=[_one_of(Approval), _ORDER, *_DATES])
class ApprovalList(FilteredList):
    """List decisions that one member of staff asked for and another has to approve, newest first."""

    required_permissions = ("orders.view_approval",)
    serializer_class = serializers.ApprovalRowSerializer
    queryset = Approval.objects.select_related("requested_by", "approved_by").order_by("-requested_at", "id")
    filters = {"status": "status", "order": "order"}
    time_field = "requested_at"


@extend_schema(parameters=[_one_of(Email), _ORDER, _one_of(Email, "kind"), *_DATES])
class MailList(FilteredList):
    """List mails, newest first."""

    required_permissions = ("orders.view_email",)
    serializer_class = serializers.MailRowSerializer
    queryset = Email.objects.order_by("-id")
    filters = {"status": "status", "kind": "kind", "order": "order"}


class WebhookReplay(StaffView):
    required_permissions = ("webhooks.replay_webhook",)

    @may_answer(webhooks.TamperedBody, DecisionRefused)
    @extend_schema(request=None, responses={202: serializers.WebhookRowSerializer})
    def post(self, request: Request, log_id: int) -> Response:
        """Hand a stored webhook to its handler once more."""
        log = get_object_or_404(WebhookLog, pk=log_id)
        user: Any = request.user
        with transaction.atomic():
            webhooks.replay(log, actor=user.get_username())
            # The same line as the button in the admin leaves.
            LogEntry.objects.log_actions(user.pk, [log], CHANGE, webhooks.REPLAY.label)
        log.refresh_from_db()
        return Response(serializers.WebhookRowSerializer(log).data, status=202)


@extend_schema(parameters=[_one_of(ReplayRun), *_DATES], methods=["GET"])
class ReplayRunList(FilteredList):
    """List replays of many webhooks, newest first."""

    required_permissions = ("webhooks.view_replayrun",)
    serializer_class = serializers.ReplayRunRowSerializer
    queryset = ReplayRun.objects.order_by("-created_at", "id")
    filters = {"status": "status"}

    @may_answer(DecisionRefused)
    @extend_schema(
        request=serializers.StartReplaySerializer,
        responses={202: serializers.ReplayRunRowSerializer, 200: serializers.ReplayRunRowSerializer},
    )
    def post(self, request: Request) -> Response:
        """Replay all webhooks that match a filter, in the background, or say what that would change.

        202 begins a run. 200 answers with the run that the same request began, or that is at the same webhooks now.
        A dry run needs `webhooks.rehearse_webhook`, a replay `webhooks.replay_webhooks`.
        """
        asked = serializers.StartReplaySerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        is_dry = asked.validated_data["dry_run"]
        if not request.user.has_perm(replays.MAY_REHEARSE if is_dry else replays.MAY_REPLAY):
            raise PermissionDenied
        wanted = Chosen(**asked.validated_data["filter"])
        run, is_new = replays.begin(wanted, is_dry=is_dry, user=request.user, pk=asked.validated_data.get("id"))
        return Response(serializers.ReplayRunRowSerializer(run).data, status=202 if is_new else 200)


def _by_offset(url: str | None) -> str | None:
    """Drop `page` from a link: it wins over `offset`, so that the link would lead to the same page again."""
    return url and remove_query_param(url, "page")


def _require_known(name: str, value: str, field: Any) -> None:
    if "\x00" in value:
        raise ValidationError({name: ["This holds a character that no value can have."]})
    if field.choices and value not in (known := [choice for choice, _ in field.choices]):
        raise ValidationError({name: [f"Must be one of: {', '.join(known)}."]})


def _filtered(queryset: QuerySet[Any], name: str, **condition: str) -> QuerySet[Any]:
    try:
        return queryset.filter(**condition)
    except InvalidValue as err:
        raise ValidationError({name: ["Write an id as the lists show it."]}) from err


def _moment(name: str, value: str) -> datetime:
    try:
        moment = parse_datetime(value)
        if moment is not None and not is_naive(moment):
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # no such day, or one outside the years that there are
    raise ValidationError({name: ["Write the time as ISO 8601 with an offset, like 2026-01-31T12:00:00Z."]})

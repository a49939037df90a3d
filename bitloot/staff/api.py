"""The staff's API: lists with filters and pages, details with the audit trail, replay."""

import uuid
from datetime import UTC, datetime
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param

from bitloot.core.api import Pages, answers, answers_with, whole_number
from bitloot.core.decisions import DecisionRefused
from bitloot.core.staff_api import StaffView
from bitloot.staff import serializers
from fulfillment.models import Reservation
from orders.models import Order
from payments.models import Payment
from webhooks import services as webhooks
from webhooks.models import WebhookLog

answers_with(DecisionRefused, lambda err: (409, "refused", str(err), None))
answers(webhooks.TamperedBody, 409, "tampered", "The stored body is not the one that was verified. It is not replayed.")

_DATES = [
    OpenApiParameter("created_after", str, description="ISO 8601"),
    OpenApiParameter("created_before", str, description="ISO 8601"),
]
_STATUS = OpenApiParameter("status", str)
_TIMES = {"created_after": "gte", "created_before": "lt"}


class NumberedPages(Pages):
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

    pagination_class = Pages
    filters: dict[str, str] = {}
    time_field = "created_at"

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        params = self.request.query_params
        for name, field in self.filters.items():
            if value := params.get(name):
                _require_known(name, value, queryset.model._meta.get_field(field).choices)
                queryset = queryset.filter(**{field: value})
        for name, lookup in _TIMES.items():
            if value := params.get(name):
                queryset = queryset.filter(**{f"{self.time_field}__{lookup}": _moment(name, value)})
        return queryset

    @property
    def query_names(self) -> tuple[str, ...]:
        return (*self.filters, *_TIMES)


@extend_schema(parameters=[_STATUS, *_DATES, OpenApiParameter("page", int)])
class PaymentList(FilteredList):
    required_permissions = ("payments.view_payment",)
    serializer_class = serializers.PaymentRowSerializer
    pagination_class = NumberedPages
    queryset = Payment.objects.order_by("-created_at", "id")
    filters = {"status": "status"}


class PaymentDetail(StaffView):
    required_permissions = ("payments.view_payment",)

    @extend_schema(responses=serializers.PaymentDetailSerializer)
    def get(self, request: Request, payment_id: uuid.UUID) -> Response:
        """Show a payment with the evidence and the order's audit trail."""
        payment: Payment = get_object_or_404(Payment.objects.select_related("order"), pk=payment_id)
        return Response(serializers.PaymentDetailSerializer(payment).data)


class OrderFulfillment(StaffView):
    required_permissions = ("fulfillment.view_reservation",)

    @extend_schema(responses=serializers.OrderFulfillmentSerializer)
    def get(self, request: Request, order_id: uuid.UUID) -> Response:
        """Show how an order's items are bought and delivered."""
        order = get_object_or_404(Order, pk=order_id)
        reservations = Reservation.objects.filter(item__order=order).select_related("item__product")
        body = {
            "order_id": order.id,
            "status": order.fulfillment_word,
            "error": order.customer_error,
            "reservations": reservations,
            "audit": order.events.all(),
        }
        return Response(serializers.OrderFulfillmentSerializer(body).data)


@extend_schema(parameters=[_STATUS, *_DATES, OpenApiParameter("reservation_id", str)])
class ReservationList(FilteredList):
    required_permissions = ("fulfillment.view_reservation",)
    serializer_class = serializers.ReservationRowSerializer
    queryset = Reservation.objects.select_related("item__product").order_by("-created_at", "id")
    filters = {"status": "status", "reservation_id": "supplier_order_id"}


@extend_schema(parameters=[_STATUS, *_DATES, OpenApiParameter("provider", str), OpenApiParameter("external_id", str)])
class WebhookList(FilteredList):
    required_permissions = ("webhooks.view_webhooklog",)
    serializer_class = serializers.WebhookRowSerializer
    queryset = WebhookLog.objects.defer("body").order_by("-id")
    filters = {"status": "status", "provider": "provider", "external_id": "external_id"}
    time_field = "received_at"


class WebhookReplay(StaffView):
    required_permissions = ("webhooks.replay_webhook",)

    @extend_schema(request=None, responses={202: serializers.WebhookRowSerializer})
    def post(self, request: Request, log_id: int) -> Response:
        """Hand a stored webhook to its handler once more."""
        log = WebhookLog.objects.filter(pk=log_id).first() if log_id < 2**63 else None
        if log is None:
            raise Http404
        user: Any = request.user
        with transaction.atomic():
            webhooks.replay(log, actor=user.get_username())
            # The same line as the button in the admin leaves.
            LogEntry.objects.log_actions(user.pk, [log], CHANGE, webhooks.REPLAY.label)
        log.refresh_from_db()
        return Response(serializers.WebhookRowSerializer(log).data, status=202)


def _by_offset(url: str | None) -> str | None:
    """Drop `page` from a link: it wins over `offset`, so that the link would lead to the same page again."""
    return url and remove_query_param(url, "page")


def _require_known(name: str, value: str, choices: Any) -> None:
    if "\x00" in value:
        raise ValidationError({name: ["This holds a character that no value can have."]})
    if choices and value not in (known := [choice for choice, _ in choices]):
        raise ValidationError({name: [f"Must be one of: {', '.join(known)}."]})


def _moment(name: str, value: str) -> datetime:
    try:
        moment = parse_datetime(value)
        if moment is not None and not is_naive(moment):
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # no such day, or one outside the years that there are
    raise ValidationError({name: ["Write the time as ISO 8601 with an offset, like 2026-01-31T12:00:00Z."]})

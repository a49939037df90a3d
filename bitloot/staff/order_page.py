"""The page of an order: what all apps know of it."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from bitloot.core.admin.formatting import NOTHING
from orders.admin import OrderAdmin
from orders.models import Order


@admin.register(Order)
class OrderPage(OrderAdmin):
    list_display = ("reference", "product", "email", "amount", "coin", "state_and_why", "placed", "time_to_key")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        return super().get_queryset(request).prefetch_related("payments")

    def concern(self, order: Order) -> str:
        """Return why the order waits, what comes next and by when; an order that waits for nobody needs no sentence."""
        if order.status == Order.Status.FAILED:
            return "The purchase failed, and the customer's money is still here. Give it back, or deliver by hand."
        return ""

    @admin.display(description="coin")
    def coin(self, order: Any) -> str:
        """The coin of the payment that brought money, or of the newest."""
        payments = sorted(order.payments.all(), key=lambda payment: (payment.actually_paid > 0, payment.created_at))
        return payments[-1].pay_currency.upper() if payments else NOTHING

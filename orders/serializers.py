from datetime import datetime
from functools import lru_cache
from threading import get_ident
from typing import Any

from django.conf import settings
from django.utils.timezone import is_naive
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from orders.choices import OrderStatus
from orders.models import MAX_LINES, MAX_QUANTITY, Order
from orders.services import Line


class StrictSerializer(serializers.Serializer):
    """Refuses unknown members, so that a price or a status in the body is an error instead of being ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := set(data) - set(self.fields)):
            known = ", ".join(sorted(self.fields))
            sentence = _("%(number)s unknown field(s). Known here: %(known)s.") % {
                "number": len(unknown),
                "known": known,
            }
            raise serializers.ValidationError({"body": [sentence]})
        return super().to_internal_value(data)


class TextField(serializers.CharField):
    """Text that came as text: a number or true is refused instead of being written out."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field({"type": "string", "format": "uuid", "maxLength": 36})
class IdField(TextField):
    """An order's id as text: what is none is answered like an order that is not there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=36, **options)


@extend_schema_field({"type": "string", "format": "idn-email", "maxLength": 254})
class AddressField(TextField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=254, **options)


class WholeNumberField(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class LineSerializer(StrictSerializer):
    product = TextField(max_length=80, help_text="A product's id or slug.")
    quantity = WholeNumberField(min_value=1, max_value=MAX_QUANTITY)


class PlaceOrderSerializer(StrictSerializer):
    email = AddressField()
    items = serializers.ListField(child=LineSerializer(), min_length=1, max_length=4 * MAX_LINES)


def read_order(body: Any) -> tuple[str, list[Line]]:
    """Return the address and the lines of what is ordered. Raises ValidationError."""
    # Not is_valid(), which leaves what it read in the serializer.
    asked = _placing(get_ident(), get_language()).run_validation(body)
    return asked["email"], [Line(**line) for line in asked["items"]]


# Kept, because a new serializer copies all its fields: 0.15 of the 4 ms of CPU that creation takes. One for each thread
# and language: a field's sentence becomes text in the language in which it is said first, and then stays (lazy_format).
@lru_cache(maxsize=64)
def _placing(_thread: int, _language: str | None) -> PlaceOrderSerializer:
    return PlaceOrderSerializer()


class MomentField(serializers.DateTimeField):
    """A time with its offset: without one, a shop elsewhere would ask for other hours than it means."""

    default_error_messages = {
        "invalid": gettext_lazy("Write the time as ISO 8601 with an offset, like 2026-01-31T12:00:00Z.")
    }

    def enforce_timezone(self, value: datetime) -> datetime:
        if is_naive(value):
            self.fail("invalid")
        return super().enforce_timezone(value)


class OrderFilterSerializer(serializers.Serializer):
    """What a key's own list is filtered by."""

    status = serializers.ChoiceField(choices=OrderStatus.choices, required=False)
    since = MomentField(required=False, help_text="Placed at or after.")
    until = MomentField(required=False, help_text="Placed before.")

    def conditions(self) -> dict[str, Any]:
        columns = {"status": "status", "since": "created_at__gte", "until": "created_at__lt"}
        return {columns[name]: value for name, value in self.validated_data.items()}


class LookupSerializer(StrictSerializer):
    order_id = IdField(required=False, help_text="Without it: all orders of the address.")
    email = AddressField()


class OrderAndAddressSerializer(StrictSerializer):
    order_id = IdField()
    email = AddressField()


class RedeemSerializer(StrictSerializer):
    order_id = IdField()
    code = TextField(max_length=120, help_text="From the page's address after a checkout, or six digits from the mail.")


class OwnOrderSerializer(StrictSerializer):
    order_id = IdField()


class MailLanguageSerializer(serializers.Serializer):
    language = serializers.ChoiceField(choices=settings.LANGUAGES, help_text="What the order's mails are written in.")


class ChooseLanguageSerializer(StrictSerializer):
    order_id = IdField()
    language = serializers.ChoiceField(choices=settings.LANGUAGES)


class TokenSerializer(serializers.Serializer):
    access_token = serializers.CharField(help_text="Bearer token for everything about this order. Keep it safe.")


class MessageSerializer(serializers.Serializer):
    message = serializers.CharField()


class OrderItemSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    product = serializers.SlugField(source="product.slug")
    title = serializers.CharField()
    quantity = serializers.IntegerField()
    unit_price = serializers.DecimalField(max_digits=10, decimal_places=2)


class ListedOrderSerializer(serializers.ModelSerializer):
    fulfillment_status = serializers.ChoiceField(
        choices=["pending", "processing", "fulfilled", "failed"], source="fulfillment_word"
    )
    items = OrderItemSerializer(many=True)

    class Meta:
        model = Order
        fields = [
            "id", "status", "fulfillment_status", "total", "currency", "email", "created_at", "expires_at", "paid_at",
            "fulfilled_at", "items",
        ]  # fmt: skip


class PlacedOrderSerializer(serializers.ModelSerializer):
    items = OrderItemSerializer(many=True)
    access_token = serializers.CharField(
        required=False,
        help_text="Bearer token for everything about this order. Keep it safe. An API key gets none: it is its own.",
    )

    class Meta:
        model = Order
        fields = ["id", "status", "total", "currency", "items", "access_token"]

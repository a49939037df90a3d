from typing import Any

from rest_framework import serializers

from orders.models import MAX_LINES, MAX_QUANTITY, Order
from orders.services import Line


class StrictSerializer(serializers.Serializer):
    """Refuses unknown members, so that a price or a status in the body is an error instead of being ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := set(data) - set(self.fields)):
            known = ", ".join(sorted(self.fields))
            raise serializers.ValidationError({"body": [f"{len(unknown)} unknown field(s). Known here: {known}."]})
        return super().to_internal_value(data)


class TextField(serializers.CharField):
    """Text that came as text: a number or true is refused instead of being written out."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class WholeNumberField(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class LineSerializer(StrictSerializer):
    product = TextField(max_length=80, help_text="A product's id or slug.")
    quantity = WholeNumberField(min_value=1, max_value=MAX_QUANTITY)


class PlaceOrderSerializer(StrictSerializer):
    email = TextField(max_length=254)
    items = serializers.ListField(child=LineSerializer(), min_length=1, max_length=4 * MAX_LINES)

    def lines(self) -> list[Line]:
        return [Line(**line) for line in self.validated_data["items"]]


class LookupSerializer(StrictSerializer):
    order_id = TextField(max_length=36, required=False, help_text="Without it: all orders of the address.")
    email = TextField(max_length=254)


class OrderAndAddressSerializer(StrictSerializer):
    order_id = TextField(max_length=36)
    email = TextField(max_length=254)


class RedeemSerializer(StrictSerializer):
    order_id = TextField(max_length=36)
    code = TextField(max_length=120, help_text="From the page's address after a checkout, or six digits from the mail.")


class OwnOrderSerializer(StrictSerializer):
    order_id = TextField(max_length=36)


class TokenSerializer(serializers.Serializer):
    access_token = serializers.CharField(help_text="Bearer token for everything about this order. Keep it safe.")


class OrderItemSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    product = serializers.SlugField(source="product.slug")
    title = serializers.CharField()
    quantity = serializers.IntegerField()
    unit_price = serializers.DecimalField(max_digits=10, decimal_places=2)


class PlacedOrderSerializer(serializers.ModelSerializer):
    items = OrderItemSerializer(many=True)
    access_token = serializers.CharField(help_text="Bearer token for everything about this order. Keep it safe.")

    class Meta:
        model = Order
        fields = ["id", "status", "total", "currency", "items", "access_token"]

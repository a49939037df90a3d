from rest_framework import serializers

from orders.serializers import OrderItemSerializer, StrictSerializer, TextField


class PaymentRowSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    order = serializers.UUIDField(source="order_id")
    payment_id = serializers.CharField(source="external_id", allow_null=True)
    status = serializers.CharField()
    reason = serializers.CharField()
    price_amount = serializers.DecimalField(max_digits=10, decimal_places=2)
    price_currency = serializers.CharField()
    pay_amount = serializers.DecimalField(max_digits=40, decimal_places=18, allow_null=True)
    pay_currency = serializers.CharField()
    actually_paid = serializers.DecimalField(max_digits=40, decimal_places=18)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class EventSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    from_status = serializers.CharField()
    to_status = serializers.CharField()
    message = serializers.CharField()
    actor = serializers.CharField()


class PaymentDetailSerializer(PaymentRowSerializer):
    provider_status = serializers.CharField()
    evidence = serializers.JSONField()
    audit = EventSerializer(many=True, source="order.events")


class ReservationRowSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    order = serializers.UUIDField(source="item.order_id")
    item = OrderItemSerializer()
    reservation_id = serializers.CharField(source="supplier_order_id", allow_null=True)
    external_id = serializers.CharField()
    dialect = serializers.CharField()
    status = serializers.CharField()
    reason = serializers.CharField()
    last_error = serializers.CharField()
    attempts = serializers.IntegerField()
    cost = serializers.DecimalField(max_digits=10, decimal_places=2, allow_null=True)
    created_at = serializers.DateTimeField()
    delivered_at = serializers.DateTimeField(allow_null=True)


class OrderFulfillmentSerializer(serializers.Serializer):
    order_id = serializers.UUIDField()
    status = serializers.CharField()
    error = serializers.CharField(allow_null=True)
    reservations = ReservationRowSerializer(many=True)
    audit = EventSerializer(many=True)


class WebhookRowSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    provider = serializers.CharField()
    external_id = serializers.CharField()
    event_type = serializers.CharField()
    status = serializers.CharField()
    outcome = serializers.CharField()
    repeats = serializers.IntegerField()
    replays = serializers.IntegerField()
    attempts = serializers.IntegerField()
    received_at = serializers.DateTimeField()
    processed_at = serializers.DateTimeField(allow_null=True)


class LoginSerializer(StrictSerializer):
    name = TextField(max_length=150)
    password = TextField(max_length=256, trim_whitespace=False)
    code = TextField(max_length=20, required=False, help_text="From the authenticator, or a recovery code.")


class StaffTokenSerializer(serializers.Serializer):
    token = serializers.CharField(help_text="Send it as “Authorization: Token …”.")
    expires_at = serializers.DateTimeField()

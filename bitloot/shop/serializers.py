from rest_framework import serializers

from payments.serializers import PaymentSerializer, RefundSerializer


class TimelineSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    kind = serializers.CharField(help_text="What it is about: order, payment, reservation, key, refund or mail.")
    event = serializers.CharField()
    message = serializers.CharField()


class ItemProductSerializer(serializers.Serializer):
    slug = serializers.SlugField()
    title = serializers.CharField()
    cover = serializers.CharField()


class ItemSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    product = ItemProductSerializer()
    quantity = serializers.IntegerField()
    unit_price = serializers.DecimalField(max_digits=10, decimal_places=2)
    status = serializers.ChoiceField(choices=["pending", "processing", "fulfilled", "failed"])
    keys_ready = serializers.IntegerField()


class OrderSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    status = serializers.CharField()
    fulfillment_status = serializers.ChoiceField(choices=["pending", "processing", "fulfilled", "failed"])
    total = serializers.DecimalField(max_digits=10, decimal_places=2)
    currency = serializers.CharField()
    email = serializers.CharField(help_text="Masked.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    error = serializers.CharField(allow_null=True)
    items = ItemSerializer(many=True)
    amount_due = serializers.DecimalField(max_digits=10, decimal_places=2)
    payment = PaymentSerializer(allow_null=True)
    refunds = RefundSerializer(many=True)
    timeline = TimelineSerializer(many=True)

from rest_framework import serializers

from fulfillment.availability import is_sold_out
from orders.models import Product
from payments.serializers import CoinSerializer, ExtraPaymentSerializer, PaymentSerializer, RefundSerializer


class ProductSerializer(serializers.ModelSerializer):
    """Wants the request in its context, and products that were read with their `supplier_stock`."""

    genres = serializers.ListField(child=serializers.CharField())
    cover = serializers.CharField(
        source="cover_path", help_text="An address that begins with /, or a path under /static/."
    )
    cover_url = serializers.SerializerMethodField(help_text="The picture; none if there is no cover.")
    in_stock = serializers.SerializerMethodField(help_text="false if the supplier said so within the hour.")

    class Meta:
        model = Product
        fields = [
            "id", "slug", "title", "description", "platform", "region", "activation", "genres", "age_rating",
            "release_date", "cover", "cover_url", "price", "currency", "key_type", "in_stock",
        ]  # fmt: skip

    def get_cover_url(self, product: Product) -> str | None:
        return self.context["request"].build_absolute_uri(product.cover_url) if product.cover_path else None

    def get_in_stock(self, product: Product) -> bool:
        return not is_sold_out(product)


class TimelineSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    kind = serializers.CharField(help_text="What it is about: order, payment, reservation, key, refund or mail.")
    event = serializers.CharField()
    message = serializers.CharField()


class ItemProductSerializer(serializers.Serializer):
    slug = serializers.SlugField()
    title = serializers.CharField()
    cover = serializers.CharField()
    platform = serializers.CharField()
    region = serializers.CharField(help_text="Where it can be activated.")
    activation = serializers.CharField(help_text="The steps to redeem it.")


class ItemKeySerializer(serializers.Serializer):
    id = serializers.UUIDField(help_text="For `reveal`.")
    opened_at = serializers.DateTimeField(allow_null=True)


class ItemSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    product = ItemProductSerializer()
    quantity = serializers.IntegerField()
    unit_price = serializers.DecimalField(max_digits=10, decimal_places=2)
    status = serializers.ChoiceField(choices=["pending", "processing", "fulfilled", "failed"])
    keys_ready = serializers.IntegerField()
    keys = ItemKeySerializer(many=True)


class OutlookSerializer(serializers.Serializer):
    now = serializers.CharField(help_text="What happens next, in a sentence for the customer; empty if nothing waits.")
    late = serializers.CharField(help_text="The same for the time after `expected_by`.")


class OrderSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    status = serializers.CharField()
    fulfillment_status = serializers.ChoiceField(choices=["pending", "processing", "fulfilled", "failed"])
    total = serializers.DecimalField(max_digits=10, decimal_places=2)
    currency = serializers.CharField()
    email = serializers.CharField(help_text="Masked, unless the token came with the order itself.")
    can_change_email = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    error = serializers.CharField(allow_null=True)
    waits_for = serializers.ChoiceField(choices=["customer", "network", "supplier", "staff"], allow_null=True)
    expected_by = serializers.DateTimeField(
        allow_null=True, help_text="The end of the quote or the order, the usual time, or when the money goes back."
    )
    outlook = OutlookSerializer()
    can_have_money_back = serializers.BooleanField()
    items = ItemSerializer(many=True)
    amount_due = serializers.DecimalField(max_digits=10, decimal_places=2)
    payment = PaymentSerializer(allow_null=True)
    extra_payment = ExtraPaymentSerializer(
        allow_null=True, help_text="What came beside that payment and waits for staff, such as a second deposit."
    )
    refunds = RefundSerializer(many=True)
    timeline = TimelineSerializer(many=True)
    coins = CoinSerializer(
        many=True,
        required=False,
        help_text="As in /api/payments/currencies; with `include=coins` and while it is unpaid.",
    )

from hashlib import sha256
from typing import Any

import segno
from django.core.cache import cache
from rest_framework import serializers

from bitloot.core.money import plain
from orders.serializers import StrictSerializer, TextField
from payments.models import Coin, Payment, Refund

CUSTOMER_SENTENCES = {
    "no_answer": "The payment provider did not answer. Choose a coin again; nothing was charged.",
    "too_little": "Less than the asked amount arrived. Choose a coin to pay the rest, or write to us.",
}
QR_KEPT_SECONDS = 2 * 3600  # longer than a quote runs
REVIEW_SENTENCE = "Our staff are looking at this payment. You need not do anything."


class CoinSerializer(serializers.ModelSerializer):
    class Meta:
        model = Coin
        fields = ["code", "name", "network", "minimum"]


class CoinsSerializer(serializers.Serializer):
    currencies = CoinSerializer(many=True)


class StartPaymentSerializer(StrictSerializer):
    order_id = TextField(max_length=36)
    pay_currency = TextField(max_length=32)


class PaymentSerializer(serializers.ModelSerializer):
    payment_id = serializers.CharField(source="external_id", allow_null=True)
    pay_amount = serializers.SerializerMethodField()
    actually_paid = serializers.SerializerMethodField()
    payin_extra_id = serializers.SerializerMethodField()
    qr = serializers.SerializerMethodField()
    reason = serializers.SerializerMethodField()

    class Meta:
        model = Payment
        fields = [
            "id", "payment_id", "status", "pay_address", "pay_amount", "pay_currency", "payin_extra_id", "network",
            "actually_paid", "expires_at", "qr", "reason",
        ]  # fmt: skip

    def get_pay_amount(self, payment: Payment) -> str | None:
        return None if payment.pay_amount is None else plain(payment.pay_amount)

    def get_actually_paid(self, payment: Payment) -> str:
        return plain(payment.actually_paid)

    def get_payin_extra_id(self, payment: Payment) -> str | None:
        return payment.payin_extra_id or None

    def get_qr(self, payment: Payment) -> str | None:
        """Return the address as a picture while it can be paid; wallets differ too much over payment URIs for more."""
        return qr_picture(payment.pay_address) if payment.pay_address and payment.quote_runs else None

    def get_reason(self, payment: Payment) -> str | None:
        if payment.status == Payment.Status.REVIEW:
            return REVIEW_SENTENCE
        return CUSTOMER_SENTENCES.get(payment.reason)


class RefundSerializer(serializers.ModelSerializer):
    amount = serializers.SerializerMethodField()
    needs_memo = serializers.BooleanField(read_only=True)

    class Meta:
        model = Refund
        fields = ["id", "status", "amount", "currency", "address", "extra_id", "needs_memo", "transaction_id"]

    def get_amount(self, refund: Refund) -> str:
        return plain(refund.amount)


class RefundAddressSerializer(StrictSerializer):
    order_id = TextField(max_length=36)
    refund_id = serializers.UUIDField()
    address = TextField(max_length=200)
    extra_id = TextField(max_length=100, required=False, allow_blank=True)


class CreatingSerializer(serializers.Serializer):
    status = serializers.CharField(default="creating")


def qr_picture(text: str) -> str:
    """Return the picture, drawn once for all processes: drawing takes longer than all else of an order's answer."""
    key = f"qr:{sha256(text.encode()).hexdigest()}"
    # Not get_or_set, which would read it back.
    picture: str | None = cache.get(key)
    if picture is None:
        picture = segno.make(text, error="m", micro=False).svg_data_uri(scale=6, border=2, dark="#000", light="#fff")
        cache.set(key, picture, timeout=QR_KEPT_SECONDS)
    return picture


def payment_body(payment: Payment) -> dict[str, Any]:
    return dict(PaymentSerializer(payment).data)

from functools import lru_cache
from typing import Any

import segno
from rest_framework import serializers

from bitloot.core.money import plain
from orders.serializers import StrictSerializer, TextField
from payments.choices import ReviewReason
from payments.models import Coin, Payment, Refund

CUSTOMER_SENTENCES: dict[str, str] = {
    ReviewReason.NO_ANSWER: "The payment provider did not answer. Choose a coin again; nothing was charged.",
    ReviewReason.TOO_LITTLE: "Less than the asked amount arrived. Choose a coin to pay the rest, or write to us.",
}
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
        """Return the address as a picture; wallets differ too much over payment URIs to put more into it."""
        return qr_picture(payment.pay_address) if payment.pay_address else None

    def get_reason(self, payment: Payment) -> str | None:
        if payment.status == Payment.Status.REVIEW:
            return REVIEW_SENTENCE
        return CUSTOMER_SENTENCES.get(payment.reason)


class RefundSerializer(serializers.ModelSerializer):
    amount = serializers.SerializerMethodField()
    needs_memo = serializers.SerializerMethodField()

    class Meta:
        model = Refund
        fields = ["id", "status", "amount", "currency", "address", "extra_id", "needs_memo", "transaction_id"]

    def get_amount(self, refund: Refund) -> str:
        return plain(refund.amount)

    def get_needs_memo(self, refund: Refund) -> bool:
        return Coin.objects.filter(code=refund.currency, needs_memo=True).exists()


class RefundAddressSerializer(StrictSerializer):
    order_id = TextField(max_length=36)
    refund_id = serializers.UUIDField()
    address = TextField(max_length=200)
    extra_id = TextField(max_length=100, required=False, allow_blank=True)


class CreatingSerializer(serializers.Serializer):
    status = serializers.CharField(default="creating")


@lru_cache(maxsize=2048)
def qr_picture(text: str) -> str:
    return segno.make(text, error="m", micro=False).svg_data_uri(scale=6, border=2, dark="#000", light="#fff")


def payment_body(payment: Payment) -> dict[str, Any]:
    return dict(PaymentSerializer(payment).data)

from rest_framework import serializers

from fulfillment.kinguin.keys import MAX_TEXT_BYTES
from orders.serializers import IdField, StrictSerializer, TextField
from storage.downloads import DownloadResult


class DeliveryStatusSerializer(serializers.Serializer):
    order_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=["pending", "processing", "fulfilled", "failed"])
    error = serializers.CharField(required=False)


class StoredKeySerializer(serializers.Serializer):
    id = serializers.UUIDField()
    product = serializers.CharField()
    download_url = serializers.URLField()
    content_type = serializers.CharField()


class DownloadLinkSerializer(serializers.Serializer):
    order_id = serializers.UUIDField()
    download_url = serializers.URLField(help_text="The first key's ciphertext; `keys` has them all.")
    expires_at = serializers.DateTimeField()
    message = serializers.CharField()
    keys = StoredKeySerializer(many=True)


class OpenableKeySerializer(StoredKeySerializer):
    fallback_url = serializers.URLField(help_text="The same bytes from our own server, if download_url fails.")
    algorithm = serializers.CharField(help_text="A256GCM; the tag is the last 16 bytes of the ciphertext.")
    key = serializers.CharField(help_text="base64url")
    nonce = serializers.CharField(help_text="base64url")
    aad = serializers.CharField(help_text="base64url")


class RevealRequestSerializer(StrictSerializer):
    keys = serializers.ListField(
        child=IdField(),
        required=False,
        min_length=1,
        max_length=90,
        help_text="Without it: all.",
    )


class RevealSerializer(serializers.Serializer):
    order_id = serializers.UUIDField()
    expires_at = serializers.DateTimeField()
    keys = OpenableKeySerializer(many=True)


class DownloadReportSerializer(StrictSerializer):
    key = serializers.UUIDField()
    result = serializers.ChoiceField(choices=DownloadResult.choices)


class CodeSerializer(StrictSerializer):
    item = IdField()
    serial = TextField(max_length=MAX_TEXT_BYTES)


class DeliverSerializer(StrictSerializer):
    codes = serializers.ListField(child=CodeSerializer(), required=False, max_length=90)
    reason = TextField(max_length=200, required=False)

    def validate(self, attrs: dict[str, object]) -> dict[str, object]:
        if attrs.get("codes") and not attrs.get("reason"):
            raise serializers.ValidationError({"reason": ["Say why codes are delivered by hand."]})
        return attrs

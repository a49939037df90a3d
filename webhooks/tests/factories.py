import hashlib
import hmac
import json

from django.conf import settings

from webhooks.models import WebhookLog
from webhooks.services import Received, store

KINGUIN = {"X-Event-Name": "order.status"}


def sign(body, secret=None):
    return hmac.new((secret or settings.NOWPAYMENTS_IPN_SECRET[0]).encode(), body, hashlib.sha512).hexdigest()


def ipn(**members):
    return json.dumps({"payment_id": 5077125051, "payment_status": "finished", **members}).encode()


def supplier_event(**members):
    return json.dumps(
        {"orderId": "TSTORD1A2B3", "orderExternalId": "abc-def", "status": "completed", **members}
    ).encode()


def received(body=None, provider="nowpayments", event_type="finished", external_id="5077125051"):
    body = ipn() if body is None else body
    headers = {"x-nowpayments-sig": sign(body)} if provider == "nowpayments" else KINGUIN
    return Received(provider, body, headers, external_id, event_type)


def make_log(provider="nowpayments", body=None, event_type="finished", external_id="5077125051"):
    webhook = received(body, provider, event_type, external_id)
    store(webhook)
    return WebhookLog.objects.get(provider=provider, body_sha256=hashlib.sha256(webhook.body).digest())

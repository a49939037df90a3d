"""Providers call here: verify the raw bytes, store, answer. Plain Django views; DRF refuses Kinguin's content type."""

import logging
from collections.abc import Callable
from functools import cache
from json import JSONDecodeError

from anymail.exceptions import AnymailWebhookValidationFailure
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import Error as DatabaseFailure
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from prometheus_client import Counter

from bitloot.core.api import MAX_BODY_BYTES
from bitloot.core.faults import failpoint
from bitloot.core.strict_json import MalformedJson, UnstorableText, parse_object
from fulfillment import kinguin, sync
from payments.ipn import BadSignature, SignatureNotConfigured, event_type_and_id, verify_ipn
from webhooks import refusals
from webhooks.models import WebhookLog
from webhooks.services import Received, store

logger = logging.getLogger(__name__)

received = Counter("bitloot_webhooks", "Webhooks by provider and answer", ["provider", "answer"])


# No CSRF token: providers send no cookie, and their signature proves more.
@csrf_exempt
@require_POST
def nowpayments(request: HttpRequest) -> HttpResponse:
    body = _body(request, "nowpayments")
    if isinstance(body, HttpResponse):
        return body
    signature = request.META.get("HTTP_X_NOWPAYMENTS_SIG")
    try:
        # The signature first, over the bytes as they came: nothing in an unsigned body is read.
        verify_ipn(body, signature, settings.NOWPAYMENTS_IPN_SECRET)
        document = parse_object(body)
    except BadSignature:
        return _refuse(request, "nowpayments")
    except SignatureNotConfigured:
        # Our mistake, not a forgery: it counts against nobody, and the provider sends it again.
        return _answer("nowpayments", 503)
    except UnstorableText:
        document = {}  # authentic: kept as bytes for staff to look at
    except MalformedJson:
        return _answer("nowpayments", 400)
    event_type, external_id = event_type_and_id(document)
    kept = {"x-nowpayments-sig": str(signature).lower()}
    return _keep("nowpayments", body, kept, external_id, event_type, (200, b""))


@csrf_exempt
@require_POST
def kinguin_webhook(request: HttpRequest) -> HttpResponse:
    body = _body(request, "kinguin")
    if isinstance(body, HttpResponse):
        return body
    client = kinguin.client()
    try:
        client.verify_webhook(request.headers, body, settings.KINGUIN_WEBHOOK_SECRET)
    except kinguin.BadWebhook:
        return _refuse(request, "kinguin")
    except kinguin.WebhookNotConfigured:
        return _answer("kinguin", 503)
    event = client.parse_webhook(request.headers, body)
    if event.kind == "product":
        _expect_change(event.product_id)
    # Not stored: updates cover the supplier's whole catalogue. docs/architecture.md, Deliberate choices.
    if event.kind in ("product", "ping"):
        return _answer("kinguin", *client.webhook_answer)
    kept = {"X-Event-Name": request.headers.get("X-Event-Name", "")[:64]}
    external_id = event.external_id or event.order_id
    return _keep("kinguin", body, kept, external_id, event.event_type, client.webhook_answer)


@csrf_exempt
def mail_events(request: HttpRequest) -> HttpResponse:
    """Let anymail check and read what the mail provider says; orders.bounces records it before the answer."""
    if not settings.EMAIL_WEBHOOK_VIEW:
        return HttpResponse(status=404)
    body = _body(request, "mail")
    if isinstance(body, HttpResponse):
        return body
    try:
        answer = _anymail_view(settings.EMAIL_WEBHOOK_VIEW)(request)
    except AnymailWebhookValidationFailure:
        return _refuse(request, "mail")
    except (JSONDecodeError, UnicodeDecodeError):
        return _answer("mail", 400)
    except DatabaseFailure as err:
        logger.error("a webhook of the mail provider could not be recorded: %s", type(err).__name__)
        return _answer("mail", 503)
    return _answer("mail", answer.status_code)


@cache
def _anymail_view(path: str) -> Callable[[HttpRequest], HttpResponse]:
    view: Callable[[HttpRequest], HttpResponse] = import_string(path).as_view()
    return view


def _expect_change(product_id: str) -> None:
    try:
        sync.expect_change(product_id)
    except DatabaseFailure as err:
        # Nothing is lost: every product is looked at again within minutes, and a purchase asks for a fresh quote.
        logger.warning("an update of a product was passed over: %s", type(err).__name__)


def _refuse(request: HttpRequest, provider: str) -> HttpResponse:
    return _too_many(provider) if refusals.add(request, provider) else _answer(provider, 401)


def _too_many(provider: str) -> HttpResponse:
    response = _answer(provider, 429)
    response["Retry-After"] = str(refusals.WINDOW_SECONDS)
    return response


def _body(request: HttpRequest, provider: str) -> bytes | HttpResponse:
    """Return what may be verified, or the answer to what is not looked at."""
    # Before the body is read: a client that is refused that often costs one look into memory.
    if refusals.are_too_many(request, provider):
        return _too_many(provider)
    try:
        body = request.body
    except (RequestDataTooBig, UnreadablePostError):
        return HttpResponse(status=413)
    if len(body) > MAX_BODY_BYTES:
        return HttpResponse(status=413)
    return body or b""


def _keep(
    provider: str, body: bytes, headers: dict[str, str], external_id: str, event_type: str, answer: tuple[int, bytes]
) -> HttpResponse:
    failpoint("webhook.verified")
    try:
        store(Received(WebhookLog.Provider(provider).value, body, headers, external_id, event_type))
    except DatabaseFailure as err:
        # Not stored, so not acknowledged: a 200 would end the provider's retries.
        logger.error("a webhook of %s could not be stored: %s", provider, type(err).__name__)
        response = _answer(provider, 503)
        response["Retry-After"] = "5"
        return response
    failpoint("webhook.stored")
    return _answer(provider, *answer)


def _answer(provider: str, status: int, body: bytes = b"") -> HttpResponse:
    received.labels(provider, str(status)).inc()
    content_type = "application/json" if body else ""
    response = HttpResponse(body, status=status, content_type=content_type or None)
    if not body:
        del response["Content-Type"]
    response["Content-Length"] = str(len(body))
    return response

"""What the OpenAPI document says of every route beyond what drf-spectacular finds: names, tags, access, problems."""

import re
from http import HTTPStatus
from threading import Lock
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import override
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiExample

from bitloot.core.api import DOMAIN_ANSWERS, SENTENCES, Answer
from bitloot.core.clients import ScopeMissing
from bitloot.core.problems import PROBLEM_TYPE
from bitloot.core.staff_api import StaffView
from bitloot.ops.examples import EXAMPLES
from bitloot.partners.authentication import ApiKeyRefused
from bitloot.partners.events import Event
from orders.exceptions import LinkExpired, OwnOnly

FULFILLMENT_STATUSES = ["pending", "processing", "fulfilled", "failed"]
REQUEST_ID = "5f0c8d7e2b9a4c1d8e3f6a7b0c9d2e1f"
Endpoints = list[tuple[str, str, str, Any]]
_making = Lock()

# Names for generated clients, which become names of functions there.
_OPERATIONS = {
    "products_list": "list_products",
    "products_retrieve": "read_product",
    "orders_create": "place_order",
    "orders_list": "list_orders",
    "orders_retrieve": "read_order",
    "orders_lookup_create": "find_orders",
    "orders_code_create": "mail_code",
    "orders_redeem_create": "redeem_code",
    "orders_email_create": "change_email",
    "orders_language_create": "choose_language",
    "orders_close_links_create": "close_other_links",
    "payments_currencies_retrieve": "list_coins",
    "payments_create_create": "start_payment",
    "payments_refund_address_create": "give_refund_address",
    "payments_refund_surplus_create": "ask_for_surplus",
    "fulfillment_status_retrieve": "read_delivery",
    "fulfillment_download_link_retrieve": "list_sealed_keys",
    "fulfillment_reveal_create": "reveal_keys",
    "fulfillment_download_report_create": "report_download",
    "fulfillment_money_back_create": "ask_for_money_back",
    "fulfillment_deliver_create": "staff_deliver_order",
    "admin_login_create": "staff_sign_in",
    "admin_logout_create": "staff_sign_out",
    "admin_logoutall_create": "staff_sign_out_everywhere",
    "admin_payments_orders_fulfillment_retrieve": "staff_read_fulfillment",
    "admin_webhook_logs_replay_create": "staff_replay_webhook",
    "admin_replays_create": "staff_replay_webhooks",
}
_PARAMETERS = {
    "name": "The decision, as the row's `decisions` name it.",
    "status": "Only rows in this status.",
    "kind": "Only rows of this kind.",
    "order": "Only rows of this order.",
    "payment": "Only rows of this payment.",
    "page": "The page, from 1 on; instead of `offset`.",
    "slug": "The product's slug.",
    "min_price": "Only products that cost this much or more.",
    "max_price": "Only products that cost this much or less.",
}
_STAFF_VERBS = {"list": "list", "retrieve": "read", "decisions_create": "decide"}
_TAGS = {"products": "Products", "orders": "Orders", "payments": "Payments", "fulfillment": "Keys"}


def _framework(status: int, code: str, sentence: str = "") -> Answer:
    return Answer(status, code, sentence or SENTENCES[code], "")


# What every route may answer, and what follows from its method, its body, its query, its address and who may call it.
_ANYWHERE = (
    _framework(400, "bad_request", "The request cannot be read. Check it and send it again."),
    _framework(429, "throttled"),
    _framework(500, "error", "Something went wrong here. Nothing of yours is lost; try again."),
    _framework(503, "unavailable", "The shop is busy. Try again in a moment."),
)
_UNSAFE = (
    _framework(403, "cross_site", "Another site's page may not send this. Use the shop's own pages."),
    _framework(413, "too_large", "The body is larger than 64 KiB. Send less."),
    _framework(415, "unsupported_media_type"),
)
_READ = (
    _framework(400, "parse_error", "The body is empty. Send a JSON object."),
    _framework(422, "invalid", "Some fields need a change; see errors."),
)
_ADDRESSED = (_framework(404, "not_found"),)
_STAFF_ONLY = (
    _framework(401, "not_authenticated"),
    _framework(401, "authentication_failed"),
    _framework(403, "permission_denied"),
)


def _key_problems() -> list[Answer]:
    return [DOMAIN_ANSWERS[ApiKeyRefused], DOMAIN_ANSWERS[ScopeMissing]]


class Operation(AutoSchema):
    """Takes a route's own problems from `may_answer`, and adds those that every route like it has."""

    def get_operation(self, *where: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*where)
        if operation is None:
            return None
        operation.setdefault("security", [])  # anybody may call it
        parameters = operation.get("parameters", [])
        for parameter in parameters:
            parameter.setdefault("description", _parameter_words(parameter["name"]))
            if parameter["name"] == "order_id":  # text in some addresses: what is no id gets the usual 404
                parameter["schema"] = {"type": "string", "format": "uuid"}
        for status, body in operation["responses"].items():
            body["description"] = body["description"] or HTTPStatus(int(status)).phrase
        takes_query = any(parameter["in"] == "query" for parameter in parameters)
        operation["responses"] |= self._problem_responses(takes_query=takes_query)
        return operation

    def get_operation_id(self) -> str:
        made = super().get_operation_id()
        if made in _OPERATIONS or not self._is_staff():
            return _OPERATIONS.get(made, made)
        rows, verb = _staff_words(made)
        return f"staff_{verb}_{rows if verb == 'list' else rows.removesuffix('s')}"

    def get_summary(self) -> str:
        return re.split(r"[.:;](?:\s|$)", super().get_description(), maxsplit=1)[0]

    def get_description(self) -> str:  # type: ignore[override]  # drf-spectacular's own differs from REST framework's
        text, scope = super().get_description(), self._scope()
        return f"{text}\n\nAn API key needs the scope `{scope}`." if scope else text

    def get_tags(self) -> list[str]:
        return ["Staff"] if self._is_staff() else [_TAGS.get(self.path.split("/")[2], "Orders")]

    def get_auth(self) -> list[dict[str, Any]]:
        known: list[dict[str, Any]] = super().get_auth()  # which also describes the schemes
        if self._is_staff():
            return [scheme for scheme in known if "knoxApiToken" in scheme]
        key: list[dict[str, Any]] = [{"apiKey": []}] if self._scope() else []
        if LinkExpired in self._may_answer():
            return [{"orderBearer": []}, *key]
        return [*key, {}] if key and OwnOnly not in self._may_answer() else key

    def get_examples(self) -> list[OpenApiExample]:
        return super().get_examples() or EXAMPLES.get(self.get_operation_id(), [])

    def _problem_responses(self, *, takes_query: bool) -> dict[str, Any]:
        by_status: dict[int, dict[str, Answer]] = {}
        for answer in sorted(self._answers(takes_query=takes_query), key=lambda answer: answer.status):
            by_status.setdefault(answer.status, {}).setdefault(answer.code, answer)
        return {str(status): self._problem_response(status, list(them.values())) for status, them in by_status.items()}

    def _problem_response(self, status: int, answers: list[Answer]) -> dict[str, Any]:
        refs = {answer.code: self._component(answer).ref for answer in answers}
        codes = ", ".join(f"`{answer.code}`" for answer in answers)
        response: dict[str, Any] = {
            "description": f"{HTTPStatus(status).phrase}: {codes}",
            "content": {PROBLEM_TYPE: {"schema": _one_of(refs)}},
        }
        if status in (429, 503) or "in_progress" in refs:
            response["headers"] = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer"}}}
        return response

    def _component(self, answer: Answer) -> ResolvedComponent:
        component = ResolvedComponent(
            name=problem_name(answer.code), type=ResolvedComponent.SCHEMA, object=answer.code, schema=_shape(answer)
        )
        self.registry.register_on_missing(component)
        return component

    def _answers(self, *, takes_query: bool) -> list[Answer]:
        is_unsafe = self.method != "GET"
        is_read = self.get_request_serializer() is not None if is_unsafe else takes_query
        return [
            *_ANYWHERE,
            *(_UNSAFE if is_unsafe else ()),
            *(_READ if is_read else ()),
            *(_ADDRESSED if "{" in self.path else ()),
            *(_STAFF_ONLY if isinstance(self.view, StaffView) else _key_problems()),
            *(DOMAIN_ANSWERS[error] for error in self._may_answer()),
        ]

    def _may_answer(self) -> tuple[type[Exception], ...]:
        errors: tuple[type[Exception], ...] = getattr(getattr(self.view, self.method.lower()), "may_answer", ())
        return (*errors, *(getattr(self.view, "also_answers", ()) if self.method == "POST" else ()))

    def _scope(self) -> str | None:
        return getattr(self.view, "key_scopes", {}).get(self.method)

    def _is_staff(self) -> bool:
        return isinstance(self.view, StaffView) or self.path.startswith("/api/admin/")


class StaffTokenScheme(KnoxTokenScheme):
    target_class = "bitloot.core.staff_api.StaffToken"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "“Token …” with a token of /api/admin/login.",
        }


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "bitloot.partners.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        said = "An API key of the shop, `blk_…`, which opens the orders that it placed. Each route names its scope."
        return {"type": "http", "scheme": "bearer", "bearerFormat": "blk_…", "description": said}


class StrictBody(OpenApiSerializerExtension):
    target_class = "orders.serializers.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        return {
            **auto_schema._map_serializer(self.target, direction, bypass_extensions=True),
            "additionalProperties": False,
        }


def make_document() -> dict[str, Any]:
    """Return the whole document, in English and for nobody in particular."""
    # drf-spectacular loads its extensions on the way, and crashes where two threads do so at once.
    with _making, override("en"):
        document: dict[str, Any] = SchemaGenerator(urlconf="bitloot.urls").get_schema(request=None, public=True)
    return document


def only_api(endpoints: Endpoints, **_: Any) -> Endpoints:
    """Keep the OpenAPI document to the REST routes."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/") and endpoint[0] != "/api/schema"]


def add_shared_parts(result: dict[str, Any], request: HttpRequest | None, **_: Any) -> dict[str, Any]:
    """Add the shape that every problem has, the order's bearer, and whom to write to."""
    contact = {"name": settings.STORE_NAME, "url": settings.SITE_URL, "email": settings.SUPPORT_EMAIL}
    result["info"]["contact"] = contact
    components = result["components"]
    components["securitySchemes"]["orderBearer"] = {
        "type": "http",
        "scheme": "bearer",
        "description": "The order's access_token.",
    }
    components["schemas"]["Problem"] = _PROBLEM
    components["schemas"] = dict(sorted(components["schemas"].items()))
    for schema in components["schemas"].values():
        for field in schema.get("properties", {}).values():
            if field.pop("nullable", False):  # DRF's own pages still say it in the words of OpenAPI 3.0
                field["type"] = [field["type"], "null"]
    return result


_WEBHOOK_EVENT = {
    "type": "object",
    "description": "Signed as Standard Webhooks. It says what happened and holds no key, token or link.",
    "required": ["type", "timestamp", "data"],
    "properties": {
        "type": {"type": "string", "enum": Event.values},
        "timestamp": {"type": "string", "format": "date-time"},
        "data": {
            "type": "object",
            "required": ["order_id", "status", "fulfillment_status", "total", "currency"],
            "properties": {
                "order_id": {"type": "string", "format": "uuid"},
                "status": {"$ref": "#/components/schemas/OrderStatusEnum"},
                "fulfillment_status": {"$ref": "#/components/schemas/FulfillmentStatusEnum"},
                "total": {"type": "string", "format": "decimal"},
                "currency": {"type": "string"},
            },
        },
    },
}


def add_webhooks(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Describe what is sent to a shop that is built on the API."""
    result["components"]["schemas"]["WebhookEvent"] = _WEBHOOK_EVENT
    headers = ("webhook-id", "webhook-timestamp", "webhook-signature")
    post = {
        "operationId": "order_moved",
        "summary": "An order that your API key placed has moved",
        "description": "Sent to the endpoints of the key. Answer 2xx at once; the order has the truth.",
        "tags": ["Orders"],
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in headers
        ],
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/WebhookEvent"}}}},
        "responses": {"2XX": {"description": "You have it. Anything else is tried again, for three days."}},
    }
    result["webhooks"] = {"order": {"post": post}}
    return result


def problem_name(code: str) -> str:
    return "".join(word.capitalize() for word in code.split("_")) + "Problem"


_PROBLEM = {
    "type": "object",
    "description": "An error, as RFC 9457 has it. Branch on `code`, which is stable.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string", "description": "What happened and what to do next."},
        "request_id": {"type": "string", "description": "Name it when you write to us."},
        "errors": {
            "type": "object",
            "description": "Only with `invalid`: what is wrong, by field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}


def _parameter_words(name: str) -> str:
    if name.endswith("_id") and name not in ("external_id", "reservation_id"):
        return f"The {name.removesuffix('_id')}'s id."
    return _PARAMETERS.get(name, f"Only rows with this {name.replace('_', ' ')}.")


def _one_of(refs: dict[str, dict[str, str]]) -> dict[str, Any]:
    first, *others = refs.values()
    if not others:
        return first
    mapping = {code: ref["$ref"] for code, ref in refs.items()}
    return {"oneOf": [first, *others], "discriminator": {"propertyName": "code", "mapping": mapping}}


def _shape(answer: Answer) -> dict[str, Any]:
    sentence = answer.example or str(answer.detail)
    example = {
        "type": "about:blank",
        "title": HTTPStatus(answer.status).phrase,
        "status": answer.status,
        "code": answer.code,
        "detail": sentence,
        "request_id": REQUEST_ID,
    }
    if answer.code == "invalid":
        example["errors"] = {"email": ["This is not an e-mail address."]}
    return {
        "description": sentence,
        "allOf": [
            {"$ref": "#/components/schemas/Problem"},
            {
                "type": "object",
                "required": ["code"],
                "properties": {"code": {"type": "string", "enum": [answer.code]}},
            },
        ],
        "example": example,
    }


def _staff_words(made: str) -> tuple[str, str]:
    """Split admin_webhook_logs_decisions_create into rows and verb."""
    words = made.removeprefix("admin_")
    for ending, verb in _STAFF_VERBS.items():
        if words.endswith(f"_{ending}"):
            return words.removesuffix(f"_{ending}"), verb
    return words, "use"

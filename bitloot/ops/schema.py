import re
from typing import Any

from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from bitloot.partners.events import Event

FULFILLMENT_STATUSES = ["pending", "processing", "fulfilled", "failed"]
Endpoints = list[tuple[str, str, str, Any]]


class StaffTokenScheme(KnoxTokenScheme):
    target_class = "bitloot.core.staff_api.StaffToken"


class Described(AutoSchema):
    """Names the scope that an API key needs, where one may."""

    def get_description(self) -> str:  # type: ignore[override]  # drf-spectacular's own differs from REST framework's
        text, scope = super().get_description(), getattr(self.view, "key_scopes", {}).get(self.method)
        return f"{text}\n\nAn API key needs the scope `{scope}`." if scope else text


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "bitloot.partners.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        said = "An API key of the shop, `blk_…`, which opens the orders that it placed. Each route names its scope."
        return {"type": "http", "scheme": "bearer", "bearerFormat": "blk_…", "description": said}


# Names for generated clients, which become names of functions there; the staff's routes keep the generated ones.
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
    "fulfillment_deliver_create": "deliver_order",
}
_BY_ORDER = (
    "/api/orders/{", "/api/orders/close-links", "/api/orders/email", "/api/fulfillment", "/api/payments/create",
    "/api/payments/refund",
)  # fmt: skip
_WITHOUT_KEY = ("/api/orders/close-links", "/api/orders/email")
_BY_ANYBODY = ("/api/orders", "/api/products", "/api/payments/currencies")
_LIST = ("/api/orders", "get")
_TAGS = {"products": "Products", "orders": "Orders", "payments": "Payments", "fulfillment": "Keys"}


def only_api(endpoints: Endpoints, **_: Any) -> Endpoints:
    """Keep the OpenAPI document to the REST routes."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/") and endpoint[0] != "/api/schema"]


def add_problem(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Document the one shape of every error, and the order's bearer."""
    components = result.setdefault("components", {})
    components.setdefault("securitySchemes", {})["orderBearer"] = {
        "type": "http",
        "scheme": "bearer",
        "description": "The order's access_token. Staff routes take a staff token as “Token …”.",
    }
    components.setdefault("schemas", {})["Problem"] = {
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string", "description": "Stable; branch on this."},
            "detail": {"type": "string", "description": "What happened and what to do next."},
            "request_id": {"type": "string"},
            "errors": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
        },
    }
    answer = {
        "description": "An error (RFC 9457)",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path, methods in result.get("paths", {}).items():
        for operation in methods.values():
            operation["responses"].setdefault("default", answer)
            if path.startswith("/api/admin/"):
                operation["tags"] = ["Staff"]
        if path.startswith(_BY_ORDER) and not path.endswith("/deliver"):
            key: list[dict[str, Any]] = [] if path in _WITHOUT_KEY else [{"apiKey": []}]
            for operation in methods.values():
                operation["security"] = [{"orderBearer": []}, *key]
        elif path in _BY_ANYBODY:
            for method, operation in methods.items():
                operation["security"] = [{"apiKey": []}, *([] if (path, method) == _LIST else [{}])]
    return result


def add_webhooks(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Describe what is sent to a shop; OpenAPI 3.0 has no word of its own for that."""
    components = result["components"]["schemas"]
    components["WebhookEvent"] = {
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
    headers = ("webhook-id", "webhook-timestamp", "webhook-signature")
    result["x-webhooks"] = {
        "order": {
            "post": {
                "summary": "An order that your API key placed has moved",
                "parameters": [
                    {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in headers
                ],
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/WebhookEvent"}}}
                },
                "responses": {"2XX": {"description": "You have it. Anything else is tried again, for three days."}},
            }
        }
    }
    return result


def polish(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Give every operation a summary, a tag for people and a name for generated clients."""
    for path, methods in result.get("paths", {}).items():
        for operation in methods.values():
            operation["summary"] = re.split(r"[.:;](?:\s|$)", operation["description"], maxsplit=1)[0]
            operation["operationId"] = _OPERATIONS.get(operation["operationId"], operation["operationId"])
            tag = _TAGS.get(path.split("/")[2], "Staff")
            operation["tags"] = ["Staff" if path.endswith("/deliver") else tag]
    return result

from typing import Any

from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme

FULFILLMENT_STATUSES = ["pending", "processing", "fulfilled", "failed"]
Endpoints = list[tuple[str, str, str, Any]]


class StaffTokenScheme(KnoxTokenScheme):
    target_class = "bitloot.core.staff_api.StaffToken"


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
            by_order = path.startswith(
                (
                    "/api/orders/{",
                    "/api/orders/close-links",
                    "/api/fulfillment",
                    "/api/payments/create",
                    "/api/payments/refund",
                )
            )
            if by_order and not path.endswith("/deliver"):
                operation["security"] = [{"orderBearer": []}]
    return result

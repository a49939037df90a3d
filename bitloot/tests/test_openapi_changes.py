"""What changed for callers of the API is found, and breaking changes have to be named in the changelog."""

import copy

import pytest
import yaml

from tools.dev.openapi import DOCUMENT, Change, changes_between, unnamed

pytestmark = pytest.mark.once
KEPT = ("/api/orders", "/api/orders/code", "/api/orders/{order_id}", "/api/products")


@pytest.fixture(scope="module")
def released():
    document = yaml.safe_load(DOCUMENT.read_text("utf-8"))
    return {**document, "paths": {path: document["paths"][path] for path in KEPT}}


@pytest.mark.npm
def test_breaking_changes_are_told_from_others(released):
    now = copy.deepcopy(released)
    schemas = now["components"]["schemas"]
    del now["paths"]["/api/orders/code"]
    del schemas["Order"]["properties"]["total"]
    schemas["PlaceOrderRequest"]["properties"]["phone"] = {"type": "string"}
    schemas["PlaceOrderRequest"]["required"].append("phone")
    schemas["PlacedOrder"]["properties"]["hint"] = {"type": "string"}
    now["paths"]["/api/products"]["get"]["parameters"].append(
        {"name": "q", "in": "query", "schema": {"type": "string"}}
    )
    changes = changes_between(released, now)
    assert {change.route for change in changes if change.breaking} == {
        "POST /api/orders/code", "GET /api/orders/{order_id}", "POST /api/orders",
    }  # fmt: skip
    others = {(change.route, change.what) for change in changes if not change.breaking}
    assert ("GET /api/products", "[Added] query parameter `q`") in others
    assert any(route == "POST /api/orders" and "hint" in what for route, what in others)
    assert changes_between(released, released) == []


def test_a_breaking_change_is_named_in_the_newest_part_of_the_changelog():
    changes = [Change(True, "POST /api/orders", "…"), Change(True, "GET /a", "…"), Change(False, "GET /b", "…")]
    newest = "# Changelog\n\n## 1.1\n\n### API changes\n\n- `POST /api/orders` wants a phone.\n"
    assert unnamed(changes, f"{newest}\n### Other\n\n`GET /a`\n\n## 1.0\n\n### API changes\n\n`GET /a`\n") == ["GET /a"]
    assert unnamed(changes, f"{newest}- `GET /a` has gone.\n") == []

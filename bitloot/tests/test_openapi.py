"""The OpenAPI document is true: it has every route, every route answers as documented, and no input breaks one."""

import json
import re
import time
import uuid
from itertools import cycle

import jsonschema
import pytest
import schemathesis
import yaml
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client
from django.urls import get_resolver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from knox.models import AuthToken
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bitloot.core.api import DOMAIN_ANSWERS, Pages
from bitloot.ops import documentation, schema
from bitloot.ops.schema import make_document, problem_name
from bitloot.partners.events import Event, order_facts, payload
from bitloot.partners.tests.factories import make_key as make_api_key
from bitloot.tests.documented import documented_codes
from bitloot.tests.parallel import at_once
from orders.access import make_token
from orders.models import Order
from orders.tests.factories import make_paid_order
from storage.tests.factories import make_key
from tools.dev.testenv import PROFILE
from webhooks.tests.factories import make_log

pytestmark = [pytest.mark.django_db, pytest.mark.once]
CASES = 6 if PROFILE == "ci" else 1000
DOCUMENT = make_document()
SCHEMA = schemathesis.openapi.from_dict(json.loads(json.dumps(DOCUMENT)))
SCHEMA.app = get_wsgi_application()  # bitloot.wsgi would start the watchdog, which writes into the tests' database
OPERATIONS = {operation.ok().label: operation.ok() for operation in SCHEMA.get_all_operations()}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ANYBODY = [{"apiKey": []}, {}]
# What is neither for staff nor for whoever may open the order.
SECURITY = {
    "GET /api/orders": [{"apiKey": []}],
    "POST /api/orders": ANYBODY,
    "GET /api/products": ANYBODY,
    "GET /api/products/{slug}": ANYBODY,
    "GET /api/payments/currencies": ANYBODY,
    "POST /api/orders/close-links": [{"orderBearer": []}],
    "POST /api/orders/email": [{"orderBearer": []}],
    "POST /api/orders/language": [{"orderBearer": []}],
}
# What providers call is told in their own documents.
UNDOCUMENTED = {
    "api/payments/ipn",
    "api/webhooks/nowpayments",
    "api/webhooks/kinguin",
    "api/webhooks/mail",
    "api/kinguin/webhook",
    "api/docs",
}


def test_the_document_has_no_warnings(tmp_path):
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))


def test_no_two_threads_make_the_document_at_once(monkeypatch):
    """Fails without the lock: drf-spectacular, half loaded by one thread, crashes in the other."""
    running, most = [], []

    class Generator:
        def __init__(self, urlconf):
            pass

        def get_schema(self, **_):
            running.append(1)
            most.append(len(running))
            time.sleep(0.05)
            return {"made": running.pop()}

    monkeypatch.setattr(schema, "SchemaGenerator", Generator)
    assert at_once(*[make_document] * 4) == [{"made": 1}] * 4
    assert most == [1] * 4


def test_every_route_is_documented():
    routes = {
        f"{part.pattern}{pattern.pattern}" if hasattr(part, "url_patterns") else str(part.pattern)
        for part in get_resolver().url_patterns
        for pattern in getattr(part, "url_patterns", [part])
    }
    ours = {route for route in routes if route.startswith("api/")} - UNDOCUMENTED - {"api/schema"}
    documented = {path.removeprefix("/") for path in DOCUMENT["paths"]}
    for kind in ("str", "uuid", "int", "slug"):
        ours = {route.replace(f"<{kind}:", "{").replace(">", "}") for route in ours}
    assert documented == ours


def test_every_operation_documents_its_errors_and_who_may():
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            assert "default" not in operation["responses"]
            for status, answer in operation["responses"].items():
                if (schema := answer.get("content", {}).get("application/problem+json", {}).get("schema")) is not None:
                    refs = [one["$ref"].rpartition("/")[2] for one in schema.get("oneOf", [schema])]
                    assert refs == [problem_name(code) for code in documented_codes(operation, status)]
            assert operation["description"], (method, path)
            staff = (path.startswith("/api/admin/") and path != "/api/admin/login") or path.endswith("/deliver")
            expected = [{"knoxApiToken": []}] if staff else SECURITY.get(f"{method.upper()} {path}")
            if expected is None and path.startswith(("/api/orders/{", "/api/fulfillment/", "/api/payments/")):
                expected = [{"orderBearer": []}, {"apiKey": []}]
            assert operation["security"] == (expected or []), (method, path)


def test_the_document_forbids_what_is_refused():
    """So a generated client, or a program that validates, notices before the shop does."""
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            if body := operation.get("requestBody"):
                shape = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                assert DOCUMENT["components"]["schemas"][shape]["additionalProperties"] is False, shape
            bounds = {"limit": {"minimum": 1}, "offset": {"minimum": 0}, "page": {"minimum": 1}}
            bounds["Idempotency-Key"] = {"pattern": "^[!-~]{16,255}$"}
            for parameter in operation.get("parameters", []):
                assert bounds.get(parameter["name"], {}).items() <= parameter["schema"].items(), parameter


def test_every_declared_problem_stands_at_a_route():
    assert {problem_name(answer.code) for answer in DOMAIN_ANSWERS.values()} <= set(DOCUMENT["components"]["schemas"])


def test_each_operation_that_takes_an_api_key_names_the_scope():
    operations = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    takes = [operation for operation in operations if {"apiKey": []} in operation.get("security", [])]
    named = [operation for operation in operations if "An API key needs the scope `" in operation["description"]]
    assert takes == named
    assert len(takes) == 14


def test_each_scheme_and_what_we_send_is_described():
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"orderBearer", "apiKey", "knoxApiToken"}
    sent = DOCUMENT["webhooks"]["order"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    event = DOCUMENT["components"]["schemas"][sent.rpartition("/")[2]]
    body = payload(Event.PAID, **order_facts(Order(total="9.99", currency="EUR"), "paid"))
    jsonschema.validate(body, {**event, "components": DOCUMENT["components"]})
    for missing in body["data"]:
        less = {**body, "data": {name: value for name, value in body["data"].items() if name != missing}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(less, {**event, "components": DOCUMENT["components"]})


def test_every_operation_has_a_summary_a_known_tag_and_a_name_of_its_own():
    operations = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert {tag for operation in operations for tag in operation["tags"]} == tags
    for operation in operations:
        assert 5 < len(operation["summary"]) < 120, operation["summary"]
    assert not [name for name in names if name.endswith(("_create", "_retrieve")) or "_use_" in name]


@pytest.mark.parametrize("path", ["/api/schema", "/api/docs"])
def test_the_document_and_its_page_are_served_offline(client, path):
    answer = client.get(path)
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "https://cdn" not in text
    assert "//unpkg" not in text


def test_document_is_made_once_and_known_again(client, monkeypatch):
    first = client.get("/api/schema")
    monkeypatch.setattr(documentation, "make_document", lambda: pytest.fail("made again"))
    assert client.get("/api/schema").content == first.content
    again = client.get("/api/schema", headers={"If-None-Match": first["ETag"]})
    assert [again.status_code, again.content, again["ETag"]] == [304, b"", first["ETag"]]
    assert first["Cache-Control"] == again["Cache-Control"] == "public, max-age=300"


@pytest.mark.parametrize(
    ("query", "accept", "content_type"),
    [
        ("", "*/*", "application/vnd.oai.openapi"),
        ("", "application/json", "application/json"),
        ("", "text/html,*/*;q=0.8", "application/vnd.oai.openapi"),
        ("", "application/xml", "application/vnd.oai.openapi"),
        ("?format=json", "*/*", "application/vnd.oai.openapi+json"),
    ],
)
def test_document_says_what_the_generator_says_in_yaml_and_in_json(client, query, accept, content_type):
    answer = client.get(f"/api/schema{query}", headers={"Accept": accept})
    assert answer["Content-Type"] == content_type
    assert "Accept" in answer["Vary"].split(", ")
    read = json.loads if "json" in content_type else yaml.safe_load
    assert read(answer.content) == json.loads(json.dumps(DOCUMENT))


class Shop:
    def __init__(self):
        self.order = make_paid_order()
        make_key(self.order.items.get())
        self.bearer = f"Bearer {make_token(self.order, 'api')}"
        self.key = f"Bearer {make_api_key()[1]}"
        staff = get_user_model().objects.create(username="grace", is_staff=True, is_superuser=True)
        self.staff = f"Token {AuthToken.objects.create(staff)[1]}"
        self.log = make_log()

    def authorization(self, path):
        if path == "/api/orders":
            return self.key
        return self.staff if path.startswith("/api/admin/") or path.endswith("/deliver") else self.bearer

    def real(self, name):
        return {"order_id": str(self.order.id), "log_id": self.log.pk}.get(name)


@pytest.fixture
def shop():
    """A shop whose requests leave this test's connection open, as Django's own test client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield Shop()
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_documented_operation_answers(shop, label):
    method, _, path = label.partition(" ")
    for name in re.findall(r"{(\w+)}", path):
        other = {"name": "hold", "alert_id": 7, "mail_id": 7}.get(name, uuid.UUID(int=7))
        path = path.replace(f"{{{name}}}", str(shop.real(name) or other))
    client = Client(raise_request_exception=False)
    answer = client.generic(
        method, path, b"{}", "application/json", headers={"Authorization": shop.authorization(path)}
    )
    ends_the_token = path.startswith("/api/admin/logout")
    assert answer.status_code in (200, 202, 204, 404, 409, 422), answer.content
    # A route that is not there says so in the same words; one that is there names no other method.
    assert client.generic("FOO", path, headers={"Authorization": shop.authorization(path)}).status_code == (
        401 if ends_the_token else 405
    )


@pytest.mark.parametrize("label", OPERATIONS)
def test_no_input_breaks_an_operation(shop, label):
    operation = OPERATIONS[label]
    with_real_ids = cycle([True, False])
    modes = [operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]

    @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=st.one_of(modes))
    def run(case):
        if next(with_real_ids):
            for name in case.path_parameters or {}:
                case.path_parameters[name] = shop.real(name) or case.path_parameters[name]
        case.headers["Authorization"] = shop.authorization(case.path)
        case.validate_response(case.call(), checks=CHECKS)

    run()


@pytest.mark.parametrize("method", ["OPTIONS", "POST", "DELETE"])
def test_the_documentation_takes_no_other_method(client, method):
    answer = client.generic(method, "/api/docs")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_every_parameter_is_described_in_words_of_its_own():
    operations = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    words = {each["name"]: each["description"] for one in operations for each in one.get("parameters", [])}
    assert f"at most {Pages.max_limit}; {Pages.default_limit} by default" in words["limit"]
    assert words["offset"] == "How many rows to skip."
    assert words["min_price"] == "Only products that cost this much or more."
    assert not [name for name, text in words.items() if text.startswith("Only rows with this m")]

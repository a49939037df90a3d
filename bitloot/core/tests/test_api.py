import io
import json
from types import SimpleNamespace

import pytest
from django.core.exceptions import PermissionDenied
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404
from django.test import RequestFactory
from rest_framework import exceptions, serializers
from rest_framework.request import Request

from bitloot.core import api
from bitloot.core.api import (
    MAX_BODY_BYTES,
    PayloadTooLarge,
    ScaledThrottle,
    StrictJSONParser,
    answers,
    client_address,
    json_body,
    problem_handler,
    whole_number,
)


def handled(error):
    answer = problem_handler(error, {"request": SimpleNamespace(request_id="r1")})
    return None if answer is None else (answer.status_code, json.loads(answer.content), answer)


@pytest.mark.parametrize(
    ("error", "status", "code", "detail"),
    [
        (Http404("CANARY"), 404, "not_found", "There is nothing at this address for you."),
        (PermissionDenied("CANARY"), 403, "permission_denied", "Your account may not do this."),
        (exceptions.NotAuthenticated(), 401, "not_authenticated", "Sign in: this needs a staff token."),
        (exceptions.MethodNotAllowed("CANARY"), 405, "method_not_allowed", "This address does not take this method."),
        (exceptions.UnsupportedMediaType("CANARY"), 415, "unsupported_media_type", "Send the body as application/json"),
        (exceptions.Throttled(wait=7), 429, "throttled", "Too many requests."),
        (exceptions.ParseError("Why."), 400, "parse_error", "Why."),
        (PayloadTooLarge(), 413, "too_large", "The body is larger than 64 KiB."),
        (OperationalError("CANARY"), 503, "unavailable", "The shop is busy."),
        (InterfaceError("CANARY"), 503, "unavailable", "The shop is busy."),
    ],
)
def test_every_error_is_a_problem_with_a_stable_code(error, status, code, detail):
    answered, problem, response = handled(error)
    assert [answered, problem["code"], problem["status"]] == [status, code, status]
    assert problem["detail"].startswith(detail)
    assert [problem["type"], problem["request_id"]] == ["about:blank", "r1"]
    assert "CANARY" not in response.content.decode()
    assert [response["Content-Type"], response["Cache-Control"]] == ["application/problem+json", "no-store"]


def test_when_to_come_back_is_a_header():
    assert handled(exceptions.Throttled(wait=7.2))[2]["Retry-After"] == "8"
    assert handled(OperationalError())[2]["Retry-After"] == "5"
    assert "Retry-After" not in handled(Http404())[2]


@pytest.mark.parametrize("error", [ValueError("a bug"), DataError("a bug"), KeyError("a bug")])
def test_a_bug_stays_a_bug(error):
    assert handled(error) is None


def test_a_domain_error_answers_as_its_app_declared_it(monkeypatch):
    monkeypatch.setattr(api, "DOMAIN_ANSWERS", {})

    class Refused(Exception):
        pass

    class MoreRefused(Refused):
        pass

    answers(Refused, 409, "refused", "Refused.")
    assert handled(MoreRefused("CANARY"))[:2] == (
        409,
        {
            "type": "about:blank",
            "title": "Conflict",
            "status": 409,
            "code": "refused",
            "detail": "Refused.",
            "request_id": "r1",
        },
    )
    answers(MoreRefused, 422, "more", lambda err: f"{len(err.args)} reasons.")
    several = MoreRefused(1, 2)
    several.errors = {"a": ["b"]}
    assert [handled(several)[1][name] for name in ("detail", "errors")] == ["2 reasons.", {"a": ["b"]}]
    assert handled(Refused())[0] == 409


@pytest.mark.parametrize(
    ("detail", "errors"),
    [
        ({"email": ["No."]}, {"email": ["No."]}),
        (["No."], {"body": ["No."]}),
        ("No.", {"body": ["No."]}),
        ({"non_field_errors": ["No."]}, {"body": ["No."]}),
        ({"items": [{}, {"product": ["No."]}]}, {"items.1.product": ["No."]}),
        ({"items": {2: {"quantity": ["No."]}}}, {"items.2.quantity": ["No."]}),
        ({"a": {"b": {"c": ["No.", "Never."]}}, "d": "Nor this."}, {"a.b.c": ["No.", "Never."], "d": ["Nor this."]}),
    ],
)
def test_errors_are_named_by_the_path_to_their_field(detail, errors):
    status, problem, _ = handled(serializers.ValidationError(detail))
    assert [status, problem["code"], problem["errors"]] == [422, "invalid", errors]


def parse(raw, media_type="application/json"):
    return StrictJSONParser().parse(io.BytesIO(raw), media_type)


def test_the_parser_reads_strictly():
    assert parse(b'{"a":1.10}')["a"].as_tuple().digits == (1, 1, 0)
    assert parse(b"{}", 'application/json; charset="UTF-8"') == {}
    with pytest.raises(exceptions.ParseError, match="not JSON"):
        parse(b'{"a":NaN}')
    with pytest.raises(exceptions.UnsupportedMediaType):
        parse(b"{}", "application/json; charset=utf-16")
    with pytest.raises(PayloadTooLarge):
        parse(b" " * (MAX_BODY_BYTES + 1))
    with pytest.raises(exceptions.ParseError):
        parse(b" " * MAX_BODY_BYTES)


def drf(path="/", **meta):
    return Request(RequestFactory().post(path, b"", content_type="application/json", **meta))


@pytest.mark.parametrize("length", ["", "0", "00", None])
def test_an_empty_body_is_no_object(length):
    with pytest.raises(exceptions.ParseError, match="empty"):
        json_body(drf(CONTENT_LENGTH=length))


@pytest.mark.parametrize(
    ("query", "number"), [("", 5), ("n=", 5), ("n=1", 1), ("n=007", 7), ("n=999999999", 999_999_999)]
)
def test_a_whole_number_of_the_query(query, number):
    assert whole_number(drf(f"/?{query}"), "n", least=1, default=5) == number


@pytest.mark.parametrize("text", ["0", "-1", "+1", "1.0", "1e3", "x", "%D9%A1", "1000000000", "1%00", " 1", "1_0"])
def test_what_is_no_whole_number(text):
    with pytest.raises(exceptions.ValidationError):
        whole_number(drf(f"/?n={text}"), "n", least=1, default=5)


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (0, None, "10.0.0.1"),
        (0, "203.0.113.9", "10.0.0.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "1.2.3.4, 203.0.113.9", "203.0.113.9"),
        (1, "spoofed, , 203.0.113.9 ", "203.0.113.9"),
        (2, "1.2.3.4, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        (2, "203.0.113.9", "10.0.0.1"),
        (1, "", "10.0.0.1"),
        (1, "x" * 500, "x" * 45),
    ],
)
def test_the_client_is_who_our_own_proxy_saw(settings, hops, forwarded, address):
    settings.TRUSTED_PROXIES = hops
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    assert client_address(RequestFactory().get("/", REMOTE_ADDR="10.0.0.1", **headers)) == address


def test_a_client_without_an_address_has_one_name():
    assert client_address(RequestFactory().get("/", REMOTE_ADDR="")) == "local"


@pytest.mark.django_db
@pytest.mark.parametrize(("scale", "allowed"), [(0, 100), (1 / 6, 10), (0.001, 1), (1, 60)])
def test_the_throttle_scales(settings, scale, allowed):
    settings.THROTTLE_SCALE = scale
    view = SimpleNamespace(throttle_scope="orders")
    asked = [ScaledThrottle().allow_request(drf(REMOTE_ADDR="10.0.0.1"), view) for _ in range(100)]
    assert asked == [True] * allowed + [False] * (100 - allowed)
    assert ScaledThrottle().allow_request(drf(REMOTE_ADDR="10.0.0.2"), view) is True


def test_a_view_without_a_scope_is_not_throttled(settings):
    settings.THROTTLE_SCALE = 0.001
    assert all(ScaledThrottle().allow_request(drf(), SimpleNamespace()) for _ in range(10))

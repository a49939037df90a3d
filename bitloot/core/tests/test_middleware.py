import json
import re

import pytest
from django.db import InterfaceError, OperationalError
from django.http import HttpResponse
from django.test import RequestFactory

from bitloot.core.middleware import RequestMiddleware

factory = RequestFactory()


def answer(request, response=None):
    return RequestMiddleware(lambda _: response or HttpResponse("inside"))(request)


@pytest.mark.parametrize(
    ("path", "is_indexed", "is_kept"),
    [
        ("/", True, False), ("/products/x", True, False), ("/api/products", False, False), ("/orders/1", False, False),
        ("/objects/x", False, False), ("/admin/", False, False), ("/static/x.css", True, True),
    ],
)  # fmt: skip
def test_headers_by_path(path, is_indexed, is_kept):
    response = answer(factory.get(path))
    assert response.content == b"inside"
    assert len(response["X-Request-Id"]) == 32
    assert "camera=()" in response["Permissions-Policy"]
    assert response["Cross-Origin-Resource-Policy"] == "same-origin"
    assert ("X-Robots-Tag" not in response) is is_indexed
    assert ("Cache-Control" not in response) is is_kept


def test_a_static_file_that_is_missing_is_not_kept():
    response = answer(factory.get("/static/new.css"), HttpResponse(status=404))
    assert response["Cache-Control"] == "no-store"


def test_a_view_may_say_itself_how_long_it_is_kept():
    response = answer(factory.get("/"), HttpResponse(headers={"Cache-Control": "max-age=60"}))
    assert response["Cache-Control"] == "max-age=60"


def test_each_request_has_an_id_of_its_own():
    assert answer(factory.get("/"))["X-Request-Id"] != answer(factory.get("/"))["X-Request-Id"]


@pytest.mark.parametrize("error", [OperationalError("CANARY"), InterfaceError("CANARY")])
def test_a_database_that_is_away_is_503(error):
    response = RequestMiddleware(lambda _: HttpResponse()).process_exception(factory.get("/"), error)
    assert [response.status_code, response["Retry-After"]] == [503, "5"]
    assert json.loads(response.content)["code"] == "unavailable"
    assert b"CANARY" not in response.content


def test_people_get_a_page_while_the_database_is_away(settings):
    settings.ROOT_URLCONF = "bitloot.urls"
    request = factory.get("/", HTTP_ACCEPT="text/html,application/xhtml+xml")
    page = RequestMiddleware(lambda _: HttpResponse()).process_exception(request, OperationalError("CANARY"))
    assert [page.status_code, page["Retry-After"]] == [503, "5"]
    assert b"<h1>We will be right back</h1>" in page.content
    assert b"CANARY" not in page.content


def test_another_exception_is_none_of_its_business():
    assert RequestMiddleware(lambda _: HttpResponse()).process_exception(factory.get("/"), ValueError()) is None


def test_the_limits_are_those_of_the_api_only():
    large = {"content_type": "text/plain", "CONTENT_LENGTH": "70000"}
    assert answer(factory.post("/checkout", b"x" * 70_000, **large)).content == b"inside"
    assert answer(factory.post("/api/orders", b"x" * 70_000, **large)).status_code == 413


@pytest.mark.parametrize("length", ["65537", "000000000000065537", "9" * 4000])
def test_a_length_is_judged_before_the_body_is_read(length):
    response = answer(factory.post("/api/orders", b"", content_type="application/json", CONTENT_LENGTH=length))
    assert response.status_code == 413 if not length.startswith("0") else 200


@pytest.mark.parametrize(
    ("proxies", "given", "is_taken"),
    [(1, "0123456789abcdef" * 2, True), (0, "0123456789abcdef" * 2, False), (1, "x\ny", False)],
)
def test_the_request_id_of_our_proxy_is_taken_and_nobody_elses(client, settings, proxies, given, is_taken):
    settings.TRUSTED_PROXIES = proxies
    answer = client.get("/livez", headers={"x-request-id": given})
    assert (answer["X-Request-Id"] == given) is is_taken
    assert re.fullmatch("[0-9a-f]{32}", answer["X-Request-Id"])

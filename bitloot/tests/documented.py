"""A middleware of every test run: a problem that the OpenAPI document does not name for its route is a failure.

So is one that says “later” and not when.
"""

import json
from collections.abc import Callable
from functools import cache

from django.http import HttpRequest, HttpResponse

from bitloot.ops.schema import make_document

# What stands before every route and has little to do with it.
BEFORE_ROUTES = {"method_not_allowed", "too_large", "unsupported_media_type", "cross_site", "bad_request"}


class Documented:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        is_problem = response.headers.get("Content-Type") == "application/problem+json"
        if is_problem and request.resolver_match and request.path.startswith("/api/"):
            check(request, response)
        if is_problem and says_later(response):
            assert response.headers.get("Retry-After", "").isdigit(), f"{request.path}: no Retry-After"
        return response


def says_later(response: HttpResponse) -> bool:
    return response.status_code in (429, 503) or json.loads(response.content)["code"] == "in_progress"


def check(request: HttpRequest, response: HttpResponse) -> None:
    route = "/" + request.resolver_match.route.replace("<uuid:", "{").replace("<str:", "{").replace(">", "}")
    route = route.replace("<int:", "{").replace("<slug:", "{")
    operation = make_known().get(route, {}).get(request.method.lower())
    code = json.loads(response.content)["code"]
    if operation is not None and code not in BEFORE_ROUTES:
        known = documented_codes(operation, response.status_code)
        assert code in known, f"{request.method} {route} answers {response.status_code} {code}, documented are {known}"


@cache
def make_known() -> dict:
    return make_document()["paths"]


def documented_codes(operation: dict, status: int) -> list[str]:
    """Read what "Conflict: `sold_out`, `not_payable`" says; test_openapi.py holds these words against the schemas."""
    words = operation["responses"].get(str(status), {}).get("description", "")
    return [word.strip("`, ") for word in words.partition(": ")[2].split()]

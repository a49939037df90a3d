"""Errors as RFC 9457 problem documents: a stable code, a sentence for people, never the input."""

import json
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse

from bitloot.core.sentences import Words

PROBLEM_TYPE = "application/problem+json"


def problem(
    status: int,
    code: str,
    detail: Words,
    *,
    request: HttpRequest | None = None,
    errors: dict[str, Any] | None = None,
    retry_after: int | None = None,
) -> HttpResponse:
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": str(detail),
    }
    if request is not None:
        document["request_id"] = getattr(request, "request_id", "")
    if errors:
        document["errors"] = errors
    response = HttpResponse(json.dumps(document), status=status, content_type=PROBLEM_TYPE)
    response["Cache-Control"] = "no-store"
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    return response

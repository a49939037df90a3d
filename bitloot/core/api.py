"""What our REST routes share: strict JSON in, problem documents out, throttles by the true client address."""

import logging
from collections.abc import Callable, Mapping
from hashlib import sha256
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import condition
from prometheus_client import Counter
from rest_framework import exceptions
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.parsers import JSONParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from bitloot.core.clients import ScopeMissing, client_of
from bitloot.core.limits import client_bucket, count, count_here, network_of
from bitloot.core.problems import problem
from bitloot.core.sentences import Words
from bitloot.core.strict_json import MalformedJson, parse_object

if TYPE_CHECKING:  # DRF loads this module while it loads its own views
    from rest_framework.views import APIView

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
BODY_TOO_LARGE = gettext_lazy("The body is larger than 64 KiB. Send less.")
BUSY = gettext_lazy("The shop is busy. Try again in a moment.")
# Scopes of requests that write nothing: where there is no Redis, counting them in the database would cost more than
# answering them.
CHEAP_SCOPES = frozenset({"read", "staff"})


class Answer(NamedTuple):
    """Which problem an exception is for our API."""

    status: int
    code: str
    detail: "Words | Callable[[Any], Words]"
    example: str


# Filled by the apps above.
DOMAIN_ANSWERS: dict[type[Exception], Answer] = {}
Handler = TypeVar("Handler", bound=Callable[..., Any])


def answers(
    error: type[Exception], status: int, code: str, detail: "Words | Callable[[Any], Words]", *, example: str = ""
) -> None:
    """Declare which problem an exception of the domain is: `detail` is its sentence, or makes it of the exception.

    An exception may have `retry_after` (seconds) and `errors` (by field). `example` is for the OpenAPI document.
    """
    DOMAIN_ANSWERS[error] = Answer(status, code, detail, example)


def may_answer(*errors: type[Exception]) -> Callable[[Handler], Handler]:
    """Document which problems of the domain a route has; those that every route like it has are documented anyway."""

    def mark(handler: Handler) -> Handler:
        handler.may_answer = errors  # type: ignore[attr-defined]
        return handler

    return mark


answers(
    ScopeMissing,
    403,
    "scope_missing",
    str,
    example="This API key may not do this: it lacks the scope orders:read.",
)


class PreconditionFailed(Exception):
    """What `If-Match` names is not what is there."""


answers(
    PreconditionFailed,
    412,
    "precondition_failed",
    gettext_lazy("This has changed since the version that If-Match names. Read it again without that header."),
)


class PayloadTooLarge(exceptions.APIException):
    status_code = 413
    default_detail = BODY_TOO_LARGE
    default_code = "too_large"


class StrictJSONParser(JSONParser):
    """JSON as bitloot.core.strict_json reads it; numbers stay Decimal."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        charset = "utf-8"
        for part in (media_type or "").split(";")[1:]:
            name, _equals, value = part.strip().partition("=")
            charset = value.strip('"').lower() if name.lower() == "charset" else charset
        if charset not in ("utf-8", "utf8"):
            raise exceptions.UnsupportedMediaType(media_type or "", detail=_("Send JSON in UTF-8."))
        raw = stream.read(MAX_BODY_BYTES + 1)
        if len(raw) > MAX_BODY_BYTES:
            raise PayloadTooLarge
        try:
            return parse_object(raw)
        except MalformedJson as err:
            raise exceptions.ParseError(str(err)) from err


def public_answer(
    request: Request | HttpRequest, body: bytes, *, seconds: int, content_type: str = "application/json"
) -> HttpResponse:
    """Return what is the same for everybody, with its ETag, or 304 to a client that has it."""
    # Not cache_page with conditional_page: the latter never answers 304 for what the former has rendered already.
    etag = f'"{sha256(body).hexdigest()[:32]}"'
    answer = versioned(request, etag, lambda: HttpResponse(body, content_type=content_type))
    if answer.status_code < 400:
        patch_cache_control(answer, public=True, max_age=seconds)
    return answer


def versioned(request: Request | HttpRequest, etag: str, make: Callable[[], HttpResponse]) -> HttpResponse:
    """Return the answer with its ETag, 304 to a client that has it, or a problem to one that wants only another."""
    answer: HttpResponse = condition(etag_func=lambda _request: etag)(lambda _request: make())(request)
    if answer.status_code != HTTPStatus.PRECONDITION_FAILED:
        return answer
    # Django's own answer has the type of a page.
    return _domain_problem(PreconditionFailed(), DOMAIN_ANSWERS[PreconditionFailed], request)


def has_body(request: Request) -> bool:
    return bool((request.META.get("CONTENT_LENGTH") or "").strip("0"))


def json_body(request: Request) -> Any:
    """Return the parsed body. Raises ParseError for an empty one, which DRF would take for an empty object."""
    if not has_body(request):
        raise exceptions.ParseError(_("The body is empty. Send a JSON object."))
    return request.data


class Pages(LimitOffsetPagination):
    """Pages by `limit` and `offset`; an unknown or malformed parameter is an error."""

    default_limit = 50
    max_limit = 100
    limit_query_description = (
        f"How many rows to return, at least 1 and at most {max_limit}; {default_limit} by default."
    )
    offset_query_description = "How many rows to skip."
    query_names: tuple[str, ...] = ("limit", "offset")

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        _check_query(request, {*self.query_names, *getattr(view, "query_names", ())})
        return super().paginate_queryset(queryset, request, view)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        parameters = super().get_schema_operation_parameters(view)
        least = {"limit": 1, "offset": 0}
        return [
            parameter | {"schema": {"type": "integer", "minimum": least[parameter["name"]]}} for parameter in parameters
        ]

    def get_limit(self, request: Request) -> int:
        return min(whole_number(request, "limit", least=1, default=self.default_limit), self.max_limit)

    def get_offset(self, request: Request) -> int:
        return whole_number(request, "offset", least=0, default=0)


def whole_number(request: Request, name: str, *, least: int, default: int) -> int:
    value = request.query_params.get(name)
    if not value:  # `limit=` sets none
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) >= least):
        raise exceptions.ValidationError({name: [_("Write a whole number from %(least)s on.") % {"least": least}]})
    return int(value)


def _check_query(request: Request, known: set[str]) -> None:
    for name, values in request.query_params.lists():
        if name not in known:
            sentence = _("Unknown parameter. Known: %(names)s.") % {"names": ", ".join(sorted(known))}
            raise exceptions.ValidationError({"query": [sentence]})
        if len(values) > 1:
            raise exceptions.ParseError(_("The parameter %(name)s comes twice.") % {"name": name})


class JsonOnlyNegotiation(DefaultContentNegotiation):
    """Answer in JSON, even to a client that prefers another type."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


throttled = Counter("bitloot_throttled", "Requests that a limit refused, by what they were for", ["scope"])


class ScaledThrottle(SimpleRateThrottle):
    """Counts per view's `throttle_scope` and client address; THROTTLE_SCALE widens it, 0 turns it off.

    An API key has one limit for all that it does, from wherever it does it.
    """

    def __init__(self) -> None:
        """Leave the rate to allow_request: it depends on the view."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        scope = getattr(view, "throttle_scope", None)
        if scope is None or not settings.THROTTLE_SCALE:
            return True
        self.scope = scope
        self.rate = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"][scope]
        requests, self.duration = self.parse_rate(self.rate)
        name = f"throttle:{scope}:{self.get_ident(request)}"
        if (client := client_of(request)) is not None:
            requests, self.duration, name = client.requests_per_minute, 60, f"throttle:key:{client.id}"
        self.num_requests = max(1, round((requests or 1) * settings.THROTTLE_SCALE))
        counted = count_here if scope in CHEAP_SCOPES else count
        is_allowed = counted(name, seconds=self.duration or 60) <= self.num_requests
        if not is_allowed:
            throttled.labels(scope).inc()
        return is_allowed

    def wait(self) -> float:
        return float(self.duration or 60)

    def get_ident(self, request: Request) -> str:
        """Return what is limited together with the client's address; see `client_address` for whom we believe."""
        return client_bucket(client_address(request))


def client_address(request: Any) -> str:
    """Return the address that the outermost of TRUSTED_PROXIES saw; X-Forwarded-For from strangers is ignored."""
    hops = settings.TRUSTED_PROXIES
    forwarded = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
    # From the right: all that stands left of our own proxies' entries was written by the client.
    if hops and len(forwarded) >= hops:
        return str(forwarded[-hops])[:45]
    return str(request.META.get("REMOTE_ADDR") or "local")


def client_network(request: Any) -> str:
    return network_of(client_address(request))


def problem_handler(err: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    request = context.get("request")
    # Along its bases: an error may be declared by its parent.
    for kind in type(err).__mro__:
        if answer := DOMAIN_ANSWERS.get(kind):
            return _domain_problem(err, answer, request)
    if isinstance(err, OperationalError | InterfaceError):
        logger.error("the database did not answer: %s", type(err).__name__)
        return problem(503, "unavailable", BUSY, request=request, retry_after=5)
    # A bug of ours, not a database that is away: Django answers 500 and reports it.
    if isinstance(err, DatabaseError):
        return None
    if isinstance(err, Http404):
        err = exceptions.NotFound()
    elif isinstance(err, PermissionDenied):
        err = exceptions.PermissionDenied()
    return _api_problem(err, request) if isinstance(err, exceptions.APIException) else None


def _domain_problem(err: Exception, answer: Answer, request: Any) -> HttpResponse:
    detail = answer.detail(err) if callable(answer.detail) else answer.detail
    errors, wait = getattr(err, "errors", None), getattr(err, "retry_after", None)
    made = problem(answer.status, answer.code, str(detail), errors=errors, request=request, retry_after=wait)
    return _with_challenge(err, made)


SENTENCES: dict[str, Words] = {
    "not_found": gettext_lazy("There is nothing at this address for you."),
    "throttled": gettext_lazy("Too many requests. Wait a little, then try again."),
    "method_not_allowed": gettext_lazy("This address does not take this method."),
    "unsupported_media_type": gettext_lazy("Send the body as application/json in UTF-8."),
    # Of staff only.
    "not_authenticated": "Sign in: this needs a staff token.",
    "authentication_failed": "The staff token is not valid or has expired. Get a new one.",
    "permission_denied": "Your account may not do this. Ask an administrator for the permission.",
}


def _api_problem(err: exceptions.APIException, request: Any) -> HttpResponse:
    if isinstance(err, exceptions.ValidationError):
        return problem(
            422, "invalid", _("Some fields need a change; see errors."), errors=_flat(err.detail), request=request
        )
    codes = err.get_codes()
    code = codes if isinstance(codes, str) else err.default_code
    detail = SENTENCES.get(code) or str(err.detail)
    wait = getattr(err, "wait", None)  # whole seconds, rounded up
    response = problem(
        err.status_code, code, detail, request=request, retry_after=None if wait is None else max(int(wait), 1)
    )
    return _with_challenge(err, response)


def _with_challenge(err: Exception, response: HttpResponse) -> HttpResponse:
    if header := getattr(err, "auth_header", None):
        response["WWW-Authenticate"] = header
    return response


def _flat(detail: Any, path: str = "") -> dict[str, list[str]]:
    if isinstance(detail, Mapping):
        nested = [_flat(value, f"{path}.{key}" if path else str(key)) for key, value in detail.items()]
    elif isinstance(detail, list) and any(isinstance(value, Mapping) for value in detail):
        nested = [_flat(value, f"{path}.{number}") for number, value in enumerate(detail) if value]
    else:
        texts = detail if isinstance(detail, list) else [detail]
        return {path.removeprefix("non_field_errors") or "body": [str(text) for text in texts]}
    return {key: texts for part in nested for key, texts in part.items()}

"""The project's handlers: a problem document for programs under /api/, a page for people."""

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from bitloot.core.problems import problem
from bitloot.core.stop import (
    BROKEN,
    FORBIDDEN,
    FORM_REFUSED,
    NOT_FOUND,
    STAFF_BROKEN,
    STAFF_FORBIDDEN,
    STAFF_FORM_REFUSED,
    stop_page,
)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return problem(400, "bad_request", _("The request cannot be read. Check it and send it again."), request=request)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if _is_program(request):
        return problem(403, "forbidden", _("You may not do this."), request=request)
    return stop_page(STAFF_FORBIDDEN if _is_staffs(request) else FORBIDDEN)


def form_refused(request: HttpRequest, reason: str = "") -> HttpResponse:
    return stop_page(STAFF_FORM_REFUSED if _is_staffs(request) else FORM_REFUSED)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if _is_program(request):
        return problem(404, "not_found", _("There is nothing at this address for you."), request=request)
    return stop_page(NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    if _is_program(request):
        return problem(
            500, "error", _("Something went wrong here. Nothing of yours is lost; try again."), request=request
        )
    stop = STAFF_BROKEN if _is_staffs(request) else BROKEN
    return stop_page(stop, reference=getattr(request, "request_id", ""))


def _is_program(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def _is_staffs(request: HttpRequest) -> bool:
    return request.path.startswith("/admin/")

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from bitloot.core.problems import problem


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if request.path.startswith("/api/"):
        return problem(404, "not_found", "There is nothing at this address for you.", request=request)
    return render(request, "404.html", status=404)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return problem(400, "bad_request", "The request cannot be read. Check it and send it again.", request=request)


def server_error(request: HttpRequest) -> HttpResponse:
    if request.path.startswith("/api/"):
        return problem(500, "error", "Something went wrong here. Nothing of yours is lost; try again.", request=request)
    return render(request, "500.html", status=500)

"""Which language an answer is in: that of the address (`?language=de`), then the chosen one, then the browser's."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.utils.cache import patch_vary_headers

PARAMETER = "language"
_STAFF = ("/admin", "/api/admin/")


class LanguageMiddleware:
    """Like Django's LocaleMiddleware, with a switch that is a plain link: it needs no script and no form's token.

    Django's leaves the last request's language on its thread, where webhooks, which pass it by, would be handled in it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        language = request.LANGUAGE_CODE = language_of(request)
        with translation.override(language):
            response = self.get_response(request)
        if not _is_for_staff(request):
            patch_vary_headers(response, ("Accept-Language", "Cookie"))
            response.headers.setdefault("Content-Language", language)
        if _chosen(request):
            _remember(response, language)
        return response


def language_of(request: HttpRequest) -> str:
    # The admin is written in English, and half of it in another language would be harder to read.
    if _is_for_staff(request):
        return settings.LANGUAGE_CODE
    return _chosen(request) or translation.get_language_from_request(request)


def switch(request: HttpRequest) -> dict[str, object]:
    """A context processor: this page's address in each language."""
    return {"languages": [(code, name, _address(request, code)) for code, name in settings.LANGUAGES]}


def _is_for_staff(request: HttpRequest) -> bool:
    return request.path_info.startswith(_STAFF)


def _chosen(request: HttpRequest) -> str | None:
    """Return the language that a page's address asks for; the API goes by the header."""
    if request.path_info.startswith("/api/") or _is_for_staff(request):
        return None
    asked = request.GET.get(PARAMETER)
    return asked if asked in dict(settings.LANGUAGES) else None


def _address(request: HttpRequest, code: str) -> str:
    # Without the path: the order's page is the same bytes for every order.
    query = request.GET.copy()
    query[PARAMETER] = code
    return f"?{query.urlencode()}"


def _remember(response: HttpResponse, language: str) -> None:
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        language,
        max_age=settings.LANGUAGE_COOKIE_AGE,
        secure=settings.LANGUAGE_COOKIE_SECURE,
        httponly=settings.LANGUAGE_COOKIE_HTTPONLY,
        samesite="Lax",
    )

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from bitloot.core.problems import problem
from storage import links, services
from storage.exceptions import KeyUnreadable
from storage.objects import CONTENT_TYPE, ObjectMissing


@require_GET
def serve_object(request: HttpRequest, name: str) -> HttpResponse:
    try:
        if not links.is_valid(name, request.GET.get("expires", ""), request.GET.get("signature", "")):
            raise ObjectMissing("no valid link")
        ciphertext = services.read_ciphertext(name)
    except ObjectMissing:
        sentence = _("This link has ended or never was. Open the page of your order and reveal the key again.")
        return problem(404, "not_found", sentence, request=request)
    except KeyUnreadable as err:
        sentence = _("We cannot hand out this key right now; our staff are told. Try again in a few minutes.")
        return problem(503, "unavailable", sentence, request=request, retry_after=err.retry_after)
    return _download(ciphertext)


def _download(ciphertext: bytes) -> HttpResponse:
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return HttpResponse(ciphertext, content_type=CONTENT_TYPE, headers=headers)

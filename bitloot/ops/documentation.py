"""The OpenAPI document: made once by each process, because all of it comes from the code."""

from functools import cache
from typing import Any

from django.http import HttpResponse
from django.utils.cache import patch_vary_headers
from drf_spectacular.views import SpectacularAPIView
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from bitloot.core.api import public_answer
from bitloot.ops.schema import make_document

KEPT_SECONDS = 300


class YamlOrJson(DefaultContentNegotiation):
    """As the client asks; YAML for one that takes neither, since every route of ours answers whatever is accepted."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            return renderers[0], renderers[0].media_type


class Schema(SpectacularAPIView):
    """YAML, or JSON for who asks for it by `Accept` or by `?format=json`."""

    throttle_scope = "read"
    content_negotiation_class = YamlOrJson

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        media_type = request.accepted_renderer.media_type
        answer = public_answer(request, _document(media_type), seconds=KEPT_SECONDS, content_type=media_type)
        patch_vary_headers(answer, ["Accept"])
        answer["Content-Language"] = "en"
        return answer


@cache
def _document(media_type: str) -> bytes:
    renderer: Any = next(each for each in Schema.renderer_classes if each.media_type == media_type)()
    rendered: bytes = renderer.render(make_document(), renderer_context={})
    return rendered

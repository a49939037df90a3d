"""The OpenAPI document: made once by each process, because all of it comes from the code."""

from functools import cache
from typing import Any

from django.http import HttpResponse
from django.utils import translation
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request

from bitloot.core.api import public_answer

KEPT_SECONDS = 300


class Schema(SpectacularAPIView):
    throttle_scope = "read"

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        answer = public_answer(request, _document(), seconds=KEPT_SECONDS, content_type=OpenApiYamlRenderer.media_type)
        answer["Content-Language"] = "en"
        return answer


@cache
def _document() -> bytes:
    with translation.override("en"):  # it is kept for everybody, and DRF translates words of its own
        document = SchemaGenerator().get_schema(request=None, public=True)
    return bytes(OpenApiYamlRenderer().render(document, renderer_context={}))

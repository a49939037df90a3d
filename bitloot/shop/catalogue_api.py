"""What is for sale, over REST. The same for everybody, so each process keeps an answer for a few seconds."""

from collections.abc import Callable
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from bitloot.core.api import Pages, PreconditionFailed, may_answer, public_answer
from bitloot.core.clients import Scope
from bitloot.shop.catalogue import KEPT_SECONDS, ORDERINGS, ProductFilter, for_sale, kept_page, read
from bitloot.shop.serializers import ProductSerializer

_TYPES: dict[str, Any] = {"min_price": float, "max_price": float, "in_stock": bool}
_PARAMETERS = [
    OpenApiParameter(
        name,
        _TYPES.get(name, str),
        description=field.help_text,
        enum=list(ORDERINGS) if name == "ordering" else None,
    )
    for name, field in ProductFilter.base_fields.items()
]


class ProductList(GenericAPIView):
    throttle_scope = "read"
    key_scopes = {"GET": Scope.PRODUCTS}
    serializer_class = ProductSerializer
    pagination_class = Pages
    query_names = tuple(ProductFilter.base_fields)

    @may_answer(PreconditionFailed)
    @extend_schema(operation_id="products_list", parameters=_PARAMETERS, responses=ProductSerializer(many=True))
    def get(self, request: Request) -> HttpResponse:
        """List what is for sale: searched, filtered, sorted, in pages."""
        return _kept(request, self._list)

    def _list(self) -> Any:
        asked = ProductFilter(self.request.query_params)
        if asked.errors:
            raise ValidationError({name: [str(error) for error in errors] for name, errors in asked.errors.items()})
        page = self.paginate_queryset(asked.products().values_list("pk", flat=True))
        return self.get_paginated_response(self.get_serializer(read(page or ()), many=True).data).data


class ProductRead(GenericAPIView):
    throttle_scope = "read"
    key_scopes = {"GET": Scope.PRODUCTS}
    serializer_class = ProductSerializer

    @may_answer(PreconditionFailed)
    def get(self, request: Request, slug: str) -> HttpResponse:
        """Show one product that is for sale."""
        return _kept(request, lambda: self.get_serializer(get_object_or_404(for_sale(), slug=slug)).data)


def _kept(request: Request, make: Callable[[], Any]) -> HttpResponse:
    # The address with its host, which the links to other pages and to pictures repeat, and with every parameter.
    body = kept_page(request.build_absolute_uri(), lambda: JSONRenderer().render(make()))
    return public_answer(request, body, seconds=KEPT_SECONDS)

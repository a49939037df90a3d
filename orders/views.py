import uuid
from hashlib import sha256
from typing import Any

from django.core.cache import caches
from django.http import HttpResponse
from django.utils.translation import get_language_from_request
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bitloot.core.api import Pages, answers, json_body, may_answer, public_answer
from orders import codes, exceptions, idempotency, services
from orders.access import TOKEN_PROBLEMS, make_token, order_and_token_for, order_for
from orders.addresses import change_address
from orders.models import Product
from orders.serializers import (
    LookupSerializer,
    MessageSerializer,
    OrderAndAddressSerializer,
    OwnOrderSerializer,
    PlacedOrderSerializer,
    PlaceOrderSerializer,
    ProductSerializer,
    RedeemSerializer,
    TokenSerializer,
)

answers(exceptions.OrderNotFound, 404, "not_found", "There is nothing at this address for you.")
answers(exceptions.LinkReplaced, 410, "link_replaced", "A newer link was mailed. Use that one, or ask for another.")
answers(exceptions.LinkExpired, 410, "link_expired", "This link is too old. Ask for another one; nothing is lost.")
answers(
    exceptions.CodeRefused,
    422,
    "code_refused",
    "This code does not open the order, or no longer does. Check it, or ask for a new one.",
)
answers(
    exceptions.KeySpent,
    409,
    "order_is_placed",
    "The order behind this Idempotency-Key is paid, or its links were closed. Open it with the link that we mailed.",
)
answers(
    exceptions.KeyReused,
    422,
    "idempotency_key_reused",
    "This Idempotency-Key was already used with another body. Use a new one.",
)
answers(exceptions.StillRunning, 409, "in_progress", "The first request with this Idempotency-Key is still running.")
answers(idempotency.BadKey, 400, "bad_idempotency_key", "An Idempotency-Key has 16 to 255 visible ASCII characters.")
answers(exceptions.OrderRefused, 422, "invalid", "The order cannot be placed like this; see errors.")
answers(
    exceptions.AddressStays,
    409,
    "address_stays",
    str,
    example="This order's address can no longer be changed here. Write to us if it is wrong.",
)

IDEMPOTENT_REPLAYED = OpenApiParameter(
    "Idempotent-Replayed",
    str,
    OpenApiParameter.HEADER,
    description="`true` on an answer that an earlier request with this key got first.",
    response=[201],
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="16 to 255 visible ASCII characters. The same key and body get the first answer again, for 72 hours.",
)


# How old a list may be: prices are read again when an order is placed.
PRODUCTS_KEPT_SECONDS = 5


class ProductList(ListAPIView):
    """What is for sale: the same for everybody, so each process keeps a page for a few seconds."""

    throttle_scope = "read"
    serializer_class = ProductSerializer
    pagination_class = Pages
    queryset = Product.objects.filter(is_active=True).order_by("title", "id")

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        # The address with its host, which the links to other pages repeat.
        key = sha256(request.build_absolute_uri().encode()).hexdigest()
        body: bytes | None = caches["pages"].get(key)
        if body is None:
            body = JSONRenderer().render(super().get(request, *args, **kwargs).data)
            caches["pages"].set(key, body, PRODUCTS_KEPT_SECONDS)
        return public_answer(request, body, seconds=PRODUCTS_KEPT_SECONDS)


class OrderCreate(APIView):
    throttle_scope = "orders"

    @may_answer(*idempotency.ONCE_PROBLEMS, exceptions.KeySpent)
    @extend_schema(
        request=PlaceOrderSerializer,
        responses={201: PlacedOrderSerializer},
        parameters=[IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED],
        auth=[],
    )
    def post(self, request: Request) -> Response:
        """Place an order. The answer holds the bearer token for everything about it."""
        asked = PlaceOrderSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        placed = services.place_order(
            email=asked.validated_data["email"],
            lines=asked.lines(),
            language=get_language_from_request(request),
            idempotency_key=request.headers.get("Idempotency-Key", ""),
        )
        headers = {"Idempotent-Replayed": "true"} if placed.replayed else None
        return Response(_placed_body(placed), status=201, headers=headers)


def _placed_body(placed: services.Placed) -> dict[str, Any]:
    """Return what PlacedOrderSerializer describes; rendering through it took a seventh of a request."""
    order = placed.order
    return {
        "id": order.id,
        "status": order.status,
        "total": str(order.total),
        "currency": order.currency,
        "items": [
            {
                "id": item.id,
                "product": item.product.slug,
                "title": item.title,
                "quantity": item.quantity,
                "unit_price": str(item.unit_price),
            }
            for item in placed.items
        ],
        "access_token": make_token(order, "api", issued_at=order.created_at.timestamp()),
    }


class OrderLookup(APIView):
    throttle_scope = "lookup"

    @extend_schema(request=LookupSerializer, responses={202: MessageSerializer}, auth=[])
    def post(self, request: Request) -> Response:
        """Mail a fresh link to the order's own address; without `order_id`, one mail with all orders of the address.

        The answer is the same whether something was found or not.
        """
        asked = LookupSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        number = asked.validated_data.get("order_id")
        services.look_up(order_id=None if number is None else _order_id(number), email=asked.validated_data["email"])
        return Response({"message": "If this is your order, a fresh link is on its way to its address."}, status=202)


class CodeByMail(APIView):
    throttle_scope = "lookup"

    @extend_schema(request=OrderAndAddressSerializer, responses={202: MessageSerializer}, auth=[])
    def post(self, request: Request) -> Response:
        """Mail six digits to the order's own address, for a link that was cut off. The answer is always the same."""
        asked = OrderAndAddressSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        codes.mail_code(order_id=_order_id(asked.validated_data["order_id"]), email=asked.validated_data["email"])
        return Response({"message": "If this is your order, a code is on its way to its address."}, status=202)


class CodeRedeem(APIView):
    throttle_scope = "lookup"

    @may_answer(exceptions.CodeRefused)
    @extend_schema(request=RedeemSerializer, responses=TokenSerializer, auth=[])
    def post(self, request: Request) -> Response:
        """Exchange a one-time code for the order's bearer."""
        asked = RedeemSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        order_id = _order_id(asked.validated_data["order_id"])
        return Response({"access_token": codes.redeem(order_id=order_id, text=asked.validated_data["code"])})


class ChangeAddress(APIView):
    throttle_scope = "lookup"

    @may_answer(*TOKEN_PROBLEMS, exceptions.AddressStays)
    @extend_schema(request=OrderAndAddressSerializer, responses=TokenSerializer)
    def post(self, request: Request) -> Response:
        """Correct the address of an unpaid order. Every link and token ends but the one in this answer."""
        asked = OrderAndAddressSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        order, token = order_and_token_for(request, asked.validated_data["order_id"])
        change_address(order, email=asked.validated_data["email"], purpose=token.purpose)
        return Response({"access_token": make_token(order, "api")})


class CloseOtherLinks(APIView):
    throttle_scope = "lookup"

    @may_answer(*TOKEN_PROBLEMS)
    @extend_schema(request=OwnOrderSerializer, responses=TokenSerializer)
    def post(self, request: Request) -> Response:
        """End every link and token of the order but the one in this answer."""
        asked = OwnOrderSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        order = order_for(request, asked.validated_data["order_id"])
        services.close_other_links(order)
        return Response({"access_token": make_token(order, "api")})


def _order_id(text: str) -> uuid.UUID:
    """Return an id that no order has for what is not an id at all."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.UUID(int=0)

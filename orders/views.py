import uuid

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bitloot.core.api import Pages, answers, answers_with, json_body
from orders import exceptions, idempotency, services
from orders.access import make_token
from orders.models import Product
from orders.serializers import LookupSerializer, PlacedOrderSerializer, PlaceOrderSerializer, ProductSerializer

answers(exceptions.OrderNotFound, 404, "not_found", "There is nothing at this address for you.")
answers(exceptions.LinkReplaced, 410, "link_replaced", "A newer link was mailed. Use that one, or ask for another.")
answers(
    exceptions.KeyReused, 422, "idempotency_key_reused", "This Idempotency-Key came with another body. Use another."
)
answers(exceptions.StillRunning, 409, "in_progress", "The first request with this Idempotency-Key is still running.")
answers(idempotency.BadKey, 400, "bad_idempotency_key", "An Idempotency-Key has 16 to 255 visible ASCII characters.")
answers_with(
    exceptions.OrderRefused,
    lambda err: (422, "invalid", "The order cannot be placed like this; see errors.", err.errors),
)

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="16 to 255 visible ASCII characters. The same key and body get the first answer again, for 72 hours.",
)


class ProductList(ListAPIView):
    """What is for sale."""

    throttle_scope = "read"
    serializer_class = ProductSerializer
    pagination_class = Pages
    queryset = Product.objects.filter(is_active=True).order_by("title", "id")


class OrderCreate(APIView):
    throttle_scope = "orders"

    @extend_schema(
        request=PlaceOrderSerializer, responses={201: PlacedOrderSerializer}, parameters=[IDEMPOTENCY_KEY], auth=[]
    )
    def post(self, request: Request) -> Response:
        """Place an order. The answer holds the bearer for everything about it."""
        asked = PlaceOrderSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        placed = services.place_order(
            email=asked.validated_data["email"],
            lines=asked.lines(),
            idempotency_key=request.headers.get("Idempotency-Key", ""),
        )
        order = placed.order
        order.access_token = make_token(order, "api")  # type: ignore[attr-defined]
        headers = {"Idempotent-Replayed": "true"} if placed.replayed else None
        return Response(PlacedOrderSerializer(order).data, status=201, headers=headers)


class OrderLookup(APIView):
    throttle_scope = "lookup"

    @extend_schema(request=LookupSerializer, responses={202: None}, auth=[])
    def post(self, request: Request) -> Response:
        """Mail a fresh link to the order's own address. The answer is the same whether it matched or not."""
        asked = LookupSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        try:
            order_id = uuid.UUID(asked.validated_data["order_id"])
        except ValueError:
            order_id = uuid.UUID(int=0)
        services.send_fresh_link(order_id=order_id, email=asked.validated_data["email"])
        return Response({"message": "If this is your order, a fresh link is on its way to its address."}, status=202)

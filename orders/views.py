import uuid
from typing import Any

from django.core.cache import caches
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bitloot.core.api import Pages, answers, client_address, json_body, may_answer, throttled
from bitloot.core.clients import Scope, client_of
from bitloot.core.limits import Refusals, client_bucket, count_here
from bitloot.core.stop import TOO_OFTEN, stop_page
from orders import codes, covers, exceptions, idempotency, services
from orders.access import TOKEN_PROBLEMS, make_token, order_and_way_for, order_for
from orders.addresses import change_address
from orders.models import Order, Product
from orders.serializers import (
    ChooseLanguageSerializer,
    ListedOrderSerializer,
    LookupSerializer,
    MailLanguageSerializer,
    MessageSerializer,
    OrderAndAddressSerializer,
    OrderFilterSerializer,
    OwnOrderSerializer,
    PlacedOrderSerializer,
    PlaceOrderSerializer,
    RedeemSerializer,
    TokenSerializer,
    read_order,
)

answers(exceptions.OrderNotFound, 404, "not_found", _("There is nothing at this address for you."))
answers(exceptions.LinkReplaced, 410, "link_replaced", _("A newer link was mailed. Use that one, or ask for another."))
answers(exceptions.LinkExpired, 410, "link_expired", _("This link is too old. Ask for another one; nothing is lost."))
answers(
    exceptions.CodeRefused,
    422,
    "code_refused",
    _("This code does not open the order, or no longer does. Check it, or ask for a new one."),
)
answers(
    exceptions.KeySpent,
    409,
    "order_is_placed",
    _("The order behind this Idempotency-Key is paid, or its links were closed. Open it with the link that we mailed."),
)
answers(
    exceptions.KeyReused,
    422,
    "idempotency_key_reused",
    _("This Idempotency-Key was already used with another body. Use a new one."),
)
answers(
    exceptions.TooManyUnpaid,
    429,
    "too_many_unpaid",
    _("This API key has too many unpaid orders of the last hour. Pay some, or wait until one is older."),
)
answers(
    exceptions.OwnOnly,
    401,
    "api_key_needed",
    _("This list is for API keys. An order's own token opens that order."),
)
answers(
    exceptions.StillRunning,
    409,
    "in_progress",
    _("The first request with this Idempotency-Key is still running. Send this one again in a few seconds."),
)
answers(idempotency.BadKey, 400, "bad_idempotency_key", _("An Idempotency-Key has 16 to 255 visible ASCII characters."))
answers(exceptions.OrderRefused, 422, "invalid", _("The order cannot be placed like this; see errors."))
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
    {"type": "string", "pattern": "^[!-~]{16,255}$"},
    OpenApiParameter.HEADER,
    description="16 to 255 visible ASCII characters. The same key and body get the first answer again, for 72 hours.",
)

_YEAR = 31_536_000
_MISSING, _MISSING_SECONDS = b"", 60
_unknown_covers = Refusals("covers", most=60, counted=count_here)


@require_safe
def cover(request: HttpRequest, digest: str, side: str) -> HttpResponse:
    """Answer with what never changes: another picture has another name."""
    kept, name = caches["covers"], f"{digest}-{side}"
    body = kept.get(name)
    if body is None:
        client = client_bucket(client_address(request))
        if _unknown_covers.are_too_many(client):
            throttled.labels("covers").inc()
            return stop_page(TOO_OFTEN, headers={"Retry-After": str(_unknown_covers.seconds)})
        try:
            body = _stored_cover(digest, int(side), client)
        except OSError:
            return HttpResponse(status=503, headers={"Retry-After": "30", "Cache-Control": "no-store"})
        # What is there never changes, and stays. What is missing is looked for again in a minute.
        kept.set(name, body, None if body else _MISSING_SECONDS)
    if not body:
        raise Http404
    headers = {"Cache-Control": f"public, max-age={_YEAR}, immutable", "X-Content-Type-Options": "nosniff"}
    return HttpResponse(body, content_type="image/webp", headers=headers)


def _stored_cover(digest: str, side: int, client: str) -> bytes:
    # The object store is asked for what is ours only: made-up names would cost a call each.
    if not Product.objects.filter(picture=digest).exists():
        _unknown_covers.add(client)
        raise Http404
    try:
        return covers.read(digest, side)
    except FileNotFoundError:
        return _MISSING


class Orders(ListAPIView):
    """What an API key placed; and where everybody places an order."""

    # Whether what is ordered can be had; an app above knows, and gives this to `as_view`.
    check: services.Check = staticmethod(lambda _lines: None)
    also_answers: tuple[type[Exception], ...] = ()  # what `check` raises

    throttle_scope = "orders"
    key_scopes = {"GET": Scope.READ, "POST": Scope.PLACE}
    pagination_class = Pages
    serializer_class = ListedOrderSerializer
    query_names = ("status", "since", "until")

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.throttle_scope = "orders" if request.method == "POST" else "read"
        super().initial(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Order]:
        client = client_of(self.request)
        if client is None:
            raise exceptions.OwnOnly
        # An empty one filters nothing, as in the list of products.
        asked = OrderFilterSerializer(data={name: text for name, text in self.request.query_params.items() if text})
        asked.is_valid(raise_exception=True)
        own = Order.objects.filter(placed_with=client.id, **asked.conditions())
        return own.prefetch_related("items__product").order_by("-created_at", "-id")

    @may_answer(exceptions.OwnOnly)
    @extend_schema(responses=ListedOrderSerializer(many=True), parameters=[OrderFilterSerializer])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the orders that were placed with this API key, the newest first."""
        return super().get(request, *args, **kwargs)

    @may_answer(*idempotency.ONCE_PROBLEMS, exceptions.KeySpent, exceptions.TooManyUnpaid)
    @extend_schema(
        request=PlaceOrderSerializer,
        responses={201: PlacedOrderSerializer},
        parameters=[IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED],
    )
    def post(self, request: Request) -> Response:
        """Place an order. The answer holds the bearer token for everything about it, unless an API key placed it."""
        email, lines = read_order(json_body(request))
        client = client_of(request)
        placed = services.place_order(
            email=email,
            lines=lines,
            language=get_language(),
            # An empty one is refused as well: granian hands one over that way if it is not ASCII.
            idempotency_key=request.headers.get("Idempotency-Key"),
            client=client,
            check=self.check,
        )
        body = _placed_body(placed)
        if client is None:  # an API key opens its orders itself, with the scopes it has; a token would open all of it
            body["access_token"] = make_token(placed.order, "api", issued_at=placed.order.created_at.timestamp())
        headers = {"Idempotent-Replayed": "true"} if placed.replayed else None
        return Response(body, status=201, headers=headers)


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
    }


class OrderLookup(APIView):
    throttle_scope = "lookup"

    @extend_schema(request=LookupSerializer, responses={202: MessageSerializer})
    def post(self, request: Request) -> Response:
        """Mail a fresh link to the order's own address; without `order_id`, one mail with all orders of the address.

        The answer is the same whether something was found or not.
        """
        asked = LookupSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        number = asked.validated_data.get("order_id")
        services.look_up(order_id=None if number is None else _order_id(number), email=asked.validated_data["email"])
        return Response({"message": _("If this is your order, a fresh link is on its way to its address.")}, status=202)


class CodeByMail(APIView):
    throttle_scope = "lookup"

    @extend_schema(request=OrderAndAddressSerializer, responses={202: MessageSerializer})
    def post(self, request: Request) -> Response:
        """Mail six digits to the order's own address, for a link that was cut off. The answer is always the same."""
        asked = OrderAndAddressSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        codes.mail_code(order_id=_order_id(asked.validated_data["order_id"]), email=asked.validated_data["email"])
        return Response({"message": _("If this is your order, a code is on its way to its address.")}, status=202)


class CodeRedeem(APIView):
    throttle_scope = "lookup"

    @may_answer(exceptions.CodeRefused)
    @extend_schema(request=RedeemSerializer, responses=TokenSerializer)
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
        order, way = order_and_way_for(request, asked.validated_data["order_id"])
        change_address(order, email=asked.validated_data["email"], purpose=way.purpose)
        return Response({"access_token": make_token(order, "api")})


class ChooseLanguage(APIView):
    throttle_scope = "lookup"

    @may_answer(*TOKEN_PROBLEMS)
    @extend_schema(request=ChooseLanguageSerializer, responses=MailLanguageSerializer)
    def post(self, request: Request) -> Response:
        """Choose the language of the order's mails from now on. What the header says changes none."""
        asked = ChooseLanguageSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        order = order_for(request, asked.validated_data["order_id"])
        language = asked.validated_data["language"]
        services.choose_language(order, language)
        return Response({"language": language})


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

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bitloot.core.api import answers, client_network, json_body, may_answer
from bitloot.core.clients import Scope
from bitloot.core.money import money
from orders.access import TOKEN_PROBLEMS, order_and_way_for, order_for
from payments import coins, exceptions, refunds
from payments.models import Refund
from payments.refund_addresses import give_address
from payments.serializers import (
    CoinSerializer,
    CoinsSerializer,
    RefundAddressSerializer,
    RefundSerializer,
    SurplusSerializer,
)

answers(
    exceptions.NotPayable,
    409,
    "not_payable",
    gettext_lazy("This order cannot be paid now. See the order for the reason."),
)
answers(
    exceptions.UnknownCoin,
    422,
    "unknown_coin",
    gettext_lazy("This coin is not on offer. See /api/payments/currencies."),
)
answers(
    exceptions.NoAnswer,
    503,
    "provider_unavailable",
    gettext_lazy("The payment provider did not answer. Nothing was charged; try again."),
)
answers(
    exceptions.ProviderBusy,
    503,
    "provider_busy",
    lambda err: (
        _("Many customers are choosing a coin right now. Nothing was charged; try again in %(seconds)s seconds.")
        % {"seconds": err.retry_after}
    ),
    example="Many customers are choosing a coin right now. Nothing was charged; try again in 5 seconds.",
)
answers(
    exceptions.TooManyQuotes,
    429,
    "too_many_quotes",
    lambda err: _quotes_sentence(err),  # noqa: PLW0108  (defined below)
    example="This order has enough open payments. Choose one of their coins, or another one in 12 minutes.",
)
answers(
    exceptions.NoSurplus,
    409,
    "no_surplus",
    gettext_lazy("There is no surplus to send back, or it is going back already."),
)
answers(
    exceptions.AddressRefused,
    422,
    "address_refused",
    str,
    example="This is not an address for Bitcoin. Copy it from your wallet as it is.",
)
answers(
    exceptions.TooSmall,
    422,
    "below_minimum",
    lambda err: _minimum_sentence(err),  # noqa: PLW0108  (defined below)
    example="This order is below the minimum of BTC, 19.00 EUR. Choose another coin or order more.",
)


class CoinList(APIView):
    throttle_scope = "read"
    key_scopes = {"GET": Scope.PRODUCTS}

    @extend_schema(responses=CoinsSerializer)
    def get(self, request: Request) -> Response:
        """List the coins on offer, the most used first, with minimum and price where the provider says them."""
        return Response({"currencies": CoinSerializer(coins.offered(), many=True).data})


class RefundAddress(APIView):
    throttle_scope = "payments"
    key_scopes = {"POST": Scope.REFUNDS}

    @may_answer(*TOKEN_PROBLEMS, exceptions.AddressRefused)
    @extend_schema(request=RefundAddressSerializer, responses=RefundSerializer)
    def post(self, request: Request) -> Response:
        """Give the address that the coins of a refund go to; one that replaces another rests before it is paid."""
        asked = RefundAddressSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        wanted = asked.validated_data
        order, way = order_and_way_for(request, wanted["order_id"])
        refund = give_address(
            order=order,
            refund_id=wanted["refund"],
            address=wanted["address"],
            extra_id=wanted.get("extra_id", ""),
            link=(way.purpose, way.generation),
            client=client_network(request),
        )
        return Response(RefundSerializer(refund).data)


class RefundSurplus(APIView):
    throttle_scope = "payments"
    key_scopes = {"POST": Scope.REFUNDS}

    @may_answer(*TOKEN_PROBLEMS, exceptions.NoSurplus)
    @extend_schema(request=SurplusSerializer, responses={201: RefundSerializer})
    def post(self, request: Request) -> Response:
        """Ask for what came beyond the price; its refund then waits for an address."""
        asked = SurplusSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        refund = refunds.ask_for_surplus(order_for(request, asked.validated_data["order_id"]))
        return Response(RefundSerializer(Refund.objects.to_show().get(pk=refund.pk)).data, status=201)


def _minimum_sentence(err: exceptions.TooSmall) -> str:
    if err.minimum is None:
        return _("This order is below the minimum of %(coin)s. Choose another coin.") % {"coin": err.coin.upper()}
    sentence = _("This order is below the minimum of %(coin)s, %(minimum)s. Choose another coin or order more.")
    return sentence % {"coin": err.coin.upper(), "minimum": money(err.minimum)}


def _quotes_sentence(err: exceptions.TooManyQuotes) -> str:
    if not err.of_order:
        return _(
            "Too many payments were started from your network. Pay one that is open, or try again within the hour."
        )
    minutes = -(-err.retry_after // 60)
    sentence = _(
        "This order has enough open payments. Choose one of their coins, or another one in %(minutes)s minutes."
    )
    return sentence % {"minutes": minutes}

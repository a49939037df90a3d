"""From an order to an address to pay to: payments and the supplier's stock, looked at together."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bitloot.core.api import answers, client_address, json_body, may_answer
from bitloot.core.clients import Scope, client_of
from bitloot.core.limits import client_bucket
from fulfillment import availability
from fulfillment.exceptions import SoldOut
from orders.access import TOKEN_PROBLEMS, order_for
from orders.idempotency import ONCE_PROBLEMS
from orders.views import IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED
from payments import creation, exceptions
from payments.models import Payment
from payments.serializers import CreatingSerializer, PaymentSerializer, StartPaymentSerializer, payment_body

answers(
    SoldOut,
    409,
    "sold_out",
    str,
    example="“Ember Drift” is sold out at the moment. Nothing was charged. Try again later, or choose another game.",
)


class PaymentCreate(APIView):
    throttle_scope = "payments"
    key_scopes = {"POST": Scope.PLACE}

    @may_answer(
        *TOKEN_PROBLEMS,
        *ONCE_PROBLEMS,
        exceptions.NotPayable,
        exceptions.UnknownCoin,
        exceptions.TooSmall,
        exceptions.TooManyQuotes,
        exceptions.NoAnswer,
        exceptions.ProviderBusy,
        SoldOut,
    )
    @extend_schema(
        request=StartPaymentSerializer,
        responses={201: PaymentSerializer, 202: CreatingSerializer},
        parameters=[IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED],
    )
    def post(self, request: Request) -> Response:
        """Start paying an order in a coin; an open quote in the same coin is returned again.

        What could not be bought now is refused with `sold_out` (409), before anybody pays.
        """
        asked = StartPaymentSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        order = order_for(request, asked.validated_data["order_id"])
        once = creation.start_payment_once(
            order=order,
            coin=asked.validated_data["pay_currency"],
            idempotency_key=request.headers.get("Idempotency-Key"),
            # An API key's own limit of unpaid orders bounds these: all of them come from one address.
            client="" if client_of(request) else client_bucket(client_address(request)),
            check=availability.demand,
        )
        payment = Payment.objects.get(pk=once.object_id)
        headers = {"Idempotent-Replayed": "true"} if once.replayed else None
        if payment.status == Payment.Status.CREATING:
            return Response({"status": "creating"}, status=202, headers=headers)
        return Response(payment_body(payment), status=201, headers=headers)

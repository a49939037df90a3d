"""How staff get a token for the API, and end it."""

from typing import Any

from django.contrib.auth import authenticate
from drf_spectacular.utils import extend_schema
from knox.models import AuthToken
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bitloot.core.api import answers, json_body, may_answer
from bitloot.core.staff_api import StaffView
from bitloot.staff.serializers import LoginSerializer, StaffTokenSerializer
from bitloot.staff.sign_in import TooManyTries, attempt, passes_second_factor


class SignInFailed(Exception):
    """Name, password or code is wrong, or the account is not a staff account; the answer is the same for each."""


answers(SignInFailed, 401, "sign_in_failed", "Name, password or code is wrong. Check all three, then try again.")
answers(
    TooManyTries,
    429,
    "too_many_tries",
    lambda err: f"Too many wrong passwords. {err}",
    example="Too many wrong passwords. Wait 15 minutes, then try again.",
)


class Login(APIView):
    throttle_scope = "lookup"

    @may_answer(SignInFailed, TooManyTries)
    @extend_schema(request=LoginSerializer, responses=StaffTokenSerializer, auth=[])
    def post(self, request: Request) -> Response:
        """Exchange name, password and one-time code for a token that ends after ten hours."""
        asked = LoginSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        fields = asked.validated_data
        with attempt(request, name=fields["name"], way="api"):
            user = _signed_in(request, fields)
        row, token = AuthToken.objects.create(user=user)
        return Response({"token": token, "expires_at": row.expiry})


class Logout(StaffView):
    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request) -> Response:
        """End the token of this request."""
        request.auth.delete()
        return Response(status=204)


class LogoutAll(StaffView):
    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request) -> Response:
        """End every token of this account."""
        AuthToken.objects.filter(user=request.user).delete()
        return Response(status=204)


def _signed_in(request: Request, fields: dict[str, Any]) -> Any:
    user = authenticate(request, username=fields["name"], password=fields["password"])
    if user is None or not user.is_staff or not passes_second_factor(user, fields.get("code", "")):
        raise SignInFailed
    return user

"""How staff sign in over REST: a knox token, hashed at rest and expiring, and a Django permission per route."""

from typing import Any

from django.http import HttpRequest, HttpResponseBase
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from bitloot.core import logs
from bitloot.core.database import planned_by_values


class StaffToken(TokenAuthentication):
    def authenticate_credentials(self, token: bytes) -> Any:
        if not token.isalnum():
            raise AuthenticationFailed  # knox would crash over bytes that are not UTF-8, PostgreSQL over NUL
        user, key = super().authenticate_credentials(token)
        logs.note(staff=user.get_username())
        return user, key


class StaffMay(BasePermission):
    """Lets in active staff who hold every permission of the view's `required_permissions`."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        user = request.user
        needed = getattr(view, "required_permissions", ())
        return bool(user and user.is_authenticated and user.is_active and user.is_staff and user.has_perms(needed))


class StaffView(APIView):
    """What every staff view shares."""

    authentication_classes = (StaffToken,)
    permission_classes = (StaffMay,)
    throttle_scope = "staff"
    required_permissions: tuple[str, ...] = ()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # As the admin's pages: what staff list and count has values that are anything but alike.
        with planned_by_values():
            return super().dispatch(request, *args, **kwargs)

"""`Authorization: Bearer blk_…` beside the tokens of orders."""

import re
from hmac import compare_digest

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import Throttled
from rest_framework.request import Request

from bitloot.core import logs
from bitloot.core.api import answers, client_address, throttled
from bitloot.core.clients import ApiClient
from bitloot.core.limits import Refusals, client_bucket
from bitloot.partners.credentials import digest_of, read_key
from bitloot.partners.exceptions import ApiKeyRefused
from bitloot.partners.models import ApiKey
from orders.access import bearer

answers(
    ApiKeyRefused,
    401,
    "api_key_refused",
    _(
        "This API key is wrong, has expired or was ended; ask the shop for another. It has to come once, as"
        " “Authorization: Bearer blk_…”."
    ),
)

_SHOWN = re.compile(r"(?:^|[\s,])blk_")
_refusals = Refusals("api-keys", most=30)  # a minute, of one address


class ApiKeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[None, ApiClient] | None:
        """Return whose API key it is; None for another bearer, which the view looks at itself.

        Raises ApiKeyRefused, and Throttled for the address of too many refused ones: then no key is looked up.
        """
        text = bearer(request)
        if not text.startswith("blk_"):
            # Without “Bearer”, or twice. As a stranger's, orders would be placed that this API key never sees.
            if _SHOWN.search(request.META.get("HTTP_AUTHORIZATION", "")):
                raise ApiKeyRefused
            return None
        key = _find(text, client_bucket(client_address(request)))
        logs.note(key=f"blk_{key.prefix}")
        ApiKey.objects.note_use(key)
        return None, key.client

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


def _find(text: str, client: str) -> ApiKey:
    # Only what is refused is counted: a right key asks Redis nothing.
    if _refusals.are_too_many(client):
        throttled.labels("api-keys").inc()
        raise Throttled(_refusals.seconds)
    try:
        return _live_key(text)
    except ApiKeyRefused:
        _refusals.add(client)
        raise


def _live_key(text: str) -> ApiKey:
    # By a prefix that is no secret: lists and log lines show it. What opens is compared below.
    read = read_key(text)
    key = None if read is None else ApiKey.objects.live().filter(prefix=read.prefix).first()
    if read is None or key is None:
        raise ApiKeyRefused
    digest = digest_of(read)
    is_earlier = key.earlier_until is not None and key.earlier_until > timezone.now()
    if not (compare_digest(digest, key.digest) or (is_earlier and compare_digest(digest, key.earlier_digest))):
        raise ApiKeyRefused
    return key

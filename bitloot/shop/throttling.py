"""Forms of the shop's pages count with the API's requests of the same kind."""

from math import ceil
from types import SimpleNamespace
from typing import Any, cast

from django.http import HttpRequest, HttpResponse

from bitloot.core.api import ScaledThrottle
from bitloot.core.stop import TOO_OFTEN, stop_page


def too_often(request: HttpRequest, scope: str) -> HttpResponse | None:
    """Count a sent form; return the page that refuses it once there were too many."""
    throttle = ScaledThrottle()
    if throttle.allow_request(cast(Any, request), cast(Any, SimpleNamespace(throttle_scope=scope))):
        return None
    return stop_page(TOO_OFTEN, headers={"Retry-After": str(ceil(throttle.wait() or 60))})

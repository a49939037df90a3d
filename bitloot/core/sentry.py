"""What Sentry is told of an error: where, and with which order. Of a request it gets what is listed here, no more."""

from typing import TYPE_CHECKING, Any

from bitloot.core.logs import Redactor, known_facts

if TYPE_CHECKING:
    from sentry_sdk.types import Breadcrumb, Event, Hint

HEADERS = frozenset({"Accept", "Content-Type", "Content-Length", "Host", "User-Agent", "X-Forwarded-Proto"})
# Anyone can cause them, as often as they like: a wrong Host, too many fields, a forged cookie.
STRANGERS = "django.security.*"
_CRUMB = ("method", "status_code", "reason")


class Scrubber:
    """The `before_send` and `before_breadcrumb` of our events."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._redacted = Redactor(secrets)

    def event(self, event: "Event", hint: "Hint") -> "Event | None":
        shown: Any = event
        if request := shown.get("request"):
            shown["request"] = _request(request)
        shown.pop("user", None)
        shown["extra"] = {}  # the command line, and what log records carry besides their text
        shown.get("logentry", {}).pop("params", None)  # the formatted text has them, in a shape that can be recognised
        for frame in _frames(shown):
            frame.pop("vars", None)
        shown["tags"] = {**shown.get("tags", {}), **known_facts()}
        scrubbed: Event = self._scrub(shown)
        return scrubbed

    def breadcrumb(self, crumb: "Breadcrumb", hint: "Hint") -> "Breadcrumb | None":
        # The events before the error: other requests' addresses have queries, and SQL its values.
        shown: Any = crumb
        shown["data"] = {name: shown["data"][name] for name in _CRUMB if name in shown.get("data", {})}
        scrubbed: Breadcrumb = self._scrub(shown)
        return scrubbed

    def _scrub(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._redacted(value)
        if isinstance(value, dict):
            return {name: self._scrub(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._scrub(inner) for inner in value]
        return value


def start(dsn: str, *, secrets: tuple[str, ...]) -> None:
    import sentry_sdk
    from sentry_sdk.integrations.logging import ignore_logger

    ignore_logger(STRANGERS)
    scrubber = Scrubber(secrets)
    sentry_sdk.init(
        dsn=dsn,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        before_send=scrubber.event,
        before_breadcrumb=scrubber.breadcrumb,
    )


def _request(request: dict[str, Any]) -> dict[str, Any]:
    headers = request.get("headers", {})
    return {
        "method": request.get("method", ""),
        "url": str(request.get("url", "")).partition("?")[0],
        "headers": {name: value for name, value in headers.items() if name in HEADERS},
    }


def _frames(event: dict[str, Any]) -> list[dict[str, Any]]:
    places = [*event.get("exception", {}).get("values", []), *event.get("threads", {}).get("values", [])]
    return [frame for place in places for frame in (place.get("stacktrace") or {}).get("frames", [])]

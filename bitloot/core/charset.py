"""The charset that a request names, judged before Django reads the request with it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.utils.http import parse_header_parameters

from bitloot.core.problems import problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SENTENCE = "The charset in Content-Type is not one for text. Send UTF-8."


def readable_only(application: "WSGIApplication") -> "WSGIApplication":
    """Answer 415 where a Content-Type names what no text can be read with.

    Python knows “hex” and “undefined” as codecs, and Django would read address and form with them: it would crash, over
    an address before any middleware or handler of errors.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if _is_readable(environ.get("CONTENT_TYPE", "")):
            return application(environ, start_response)
        refusal = problem(415, "unsupported_media_type", _SENTENCE)
        length = str(len(refusal.content))
        start_response("415 Unsupported Media Type", [*refusal.items(), ("Content-Length", length)])
        return [refusal.content]

    return answer


def _is_readable(content_type: str) -> bool:
    if ";" not in content_type:
        return True
    try:
        _, parameters = parse_header_parameters(content_type)
        b"x".decode(parameters.get("charset", "utf-8"), "replace")
    except (LookupError, ValueError):
        return False
    return True

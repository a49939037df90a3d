"""`/metrics` of processes that serve no pages: worker and beat, each at a port of its own, with web's token."""

import hmac
import logging
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.conf import settings
from prometheus_client import make_wsgi_app

logger = logging.getLogger(__name__)

_metrics = make_wsgi_app()


def has_token(authorization: str) -> bool:
    given = authorization.removeprefix("Bearer ").encode("utf-8", "replace")
    return bool(settings.METRICS_TOKEN) and hmac.compare_digest(given, settings.METRICS_TOKEN.encode())


def start(port: int) -> int | None:
    """Serve this process's own metrics until it ends; return the port, or None if another process has it."""
    try:
        server = make_server("", port, _answer, server_class=_Server, handler_class=_Quiet)
    except OSError as err:
        # A second worker on one machine still works; what its rows say is in everybody's /metrics.
        logger.warning("No metrics of this process at port %s: %s", port, err.strerror)
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds for a request that does not come

    def log_message(self, *_: Any) -> None:
        """Log nothing: it is asked every half minute."""


def _answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/metrics" or not has_token(environ.get("HTTP_AUTHORIZATION", "")):
        start_response("404 Not Found", [("Content-Length", "0")])
        return [b""]
    return _metrics(environ, start_response)

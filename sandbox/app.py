"""The sandbox as a WSGI application."""

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.wrappers import Response

from sandbox import control, ecommerce, nowpayments, partners, payments, purchases
from sandbox.calls import Call, answer, respond
from sandbox.config import Config
from sandbox.dispatcher import Dispatcher
from sandbox.world import World

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

URLS = Map([*ecommerce.RULES, *partners.RULES, *nowpayments.RULES, *control.RULES], strict_slashes=False)
JOBS = {
    "deliver": purchases.deliver_job,
    "cancel": purchases.cancel_job,
    "place": purchases.place_job,
    "payment_step": payments.step_job,
}


class Sandbox:
    def __init__(self, config: Config) -> None:
        self.world = World(config)
        self._dispatcher = Dispatcher(self.world, JOBS)
        self._dispatcher.start()
        if config.mail_port:
            self.world.mailbox.listen(config.host, config.mail_port)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        return self._respond(environ)(environ, start_response)

    def close(self) -> None:
        self._dispatcher.stop()
        self.world.mailbox.close()
        self.world.store.close()

    def _respond(self, environ: "WSGIEnvironment") -> Any:
        call = Call(environ)
        call.world = self.world
        try:
            endpoint, args = URLS.bind_to_environ(environ).match()
            if endpoint.family is not control.FAMILY:
                call.world.calls.append((time.time(), call.method, call.path))
            return answer(call, endpoint, args)
        except HTTPException as err:
            return respond({"error": err.description or err.name}, err.code or 500)
        except Exception:
            logger.exception("The sandbox failed on %s %s", call.method, call.path)
            return _broken()


def create_app(config: Config) -> Sandbox:
    return Sandbox(config)


def _broken() -> Response:
    return respond({"error": "The sandbox itself failed; its log says why."}, 500)

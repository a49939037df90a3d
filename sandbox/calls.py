"""One incoming call: who may make it, what fault it meets, how its answer is printed."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox import javascript
from sandbox.faults import BEFORE, NONE, SILENT, Fault
from sandbox.store import Refused
from sandbox.world import World

UNKNOWN_STATUS = "in_review"


class Call(Request):
    max_content_length = 1024 * 1024
    world: World
    fault: Fault = NONE

    @cached_property
    def body(self) -> dict[str, Any]:
        """The JSON object, money as Decimal; empty for anything else."""
        try:
            parsed = json.loads(self.get_data() or b"{}", parse_float=Decimal)
        except (ValueError, RecursionError):
            return {}
        return parsed if isinstance(parsed, dict) else {}

    @property
    def is_cut_off(self) -> bool:
        """Whether the caller went away, or was killed, before all of the body was sent."""
        return len(self.get_data()) < (self.content_length or 0)


View = Callable[..., Response]


@dataclass(frozen=True)
class Family:
    """What the endpoints of one API have in common."""

    authorize: Callable[[Call], None]
    # The body of an error that a fault asks for: (call, fault's name or kind) -> what the API would raise.
    refusal: Callable[[Call, str], Refused]
    delayed: bool = False
    too_many: Callable[[Call], Response] | None = None


@dataclass(frozen=True)
class Endpoint:
    family: Family
    view: View
    op: str = ""
    subject: Callable[..., str] = lambda call, **args: "-"
    # Called with the reason when an order's request ends before the view sees it: the ledger counts every request.
    note: Callable[[Call, str], None] = lambda call, reason: None


def respond(body: Any, status: int = 200) -> Response:
    return Response(javascript.stringify(body), status, content_type="application/json; charset=utf-8")


def html(status: int, title: str, server: str = "nginx") -> Response:
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        f"<hr><center>{server}</center>\r\n</body>\r\n</html>\r\n"
    )
    return Response(page, status, content_type="text/html")


def answer(call: Call, endpoint: Endpoint, args: Mapping[str, Any]) -> Response:
    if call.is_cut_off:  # the proxy of a real provider passes no such request on: nothing was asked for
        return respond({}, 400)
    try:
        _authorize(call, endpoint)
        if endpoint.op:
            call.fault = call.world.fault(endpoint.op, lambda: endpoint.subject(call, **args))
        _wait(call, endpoint)
        if call.fault.name in BEFORE:
            endpoint.note(call, call.fault.name)
            return _instead(call, endpoint)
        response = endpoint.view(call, **args)
    except Refused as refused:
        response = respond(refused.body, refused.status)
    return _spoil(call, endpoint, response)


def _authorize(call: Call, endpoint: Endpoint) -> None:
    try:
        endpoint.family.authorize(call)
    except Refused as refused:
        endpoint.note(call, f"refused with {refused.status}")
        raise


def _wait(call: Call, endpoint: Endpoint) -> None:
    seconds = call.world.config.delay_ms / 1000 if endpoint.family.delayed else 0.0
    if call.fault.name == "slow":
        seconds += call.fault.number("seconds", 1)
    if seconds:
        time.sleep(seconds)


def _instead(call: Call, endpoint: Endpoint) -> Response:
    """Answer in place of the view, so that nothing happens."""
    name = call.fault.name
    if name == "redirect_307":
        return _redirect(call)
    if name == "429" and endpoint.family.too_many is not None:
        return endpoint.family.too_many(call)
    refused = endpoint.family.refusal(call, str(call.fault.args.get("kind", name)))
    return respond(refused.body, refused.status)


def _redirect(call: Call) -> Response:
    # To this server under its other name: a client that follows leaves a line in the ledger.
    return Response(status=307, headers={"Location": f"http://localhost:{call.world.config.port}/elsewhere"})


def _spoil(call: Call, endpoint: Endpoint, response: Response) -> Response:
    name = call.fault.name
    if name in SILENT:
        time.sleep(call.fault.number("hold_s", call.world.config.hold_s))
        return html(504, "504 Gateway Time-out")
    if name == "5xx_after":
        refused = endpoint.family.refusal(call, "5xx_after")
        return respond(refused.body, refused.status)
    if name == "garbage":
        return html(200, "Scheduled maintenance")
    if name == "truncated":
        response.set_data(response.get_data()[: len(response.get_data()) // 2])
    if name == "unknown_status":
        _rename_status(response, str(call.fault.args.get("status", UNKNOWN_STATUS)))
    return response


def _rename_status(response: Response, status: str) -> None:
    body = json.loads(response.get_data(), parse_float=Decimal)
    for name in ("status", "payment_status"):
        if response.status_code == 200 and isinstance(body, dict) and name in body:
            body[name] = status
    response.set_data(javascript.stringify(body))

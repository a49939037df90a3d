"""Failpoints on the wire of the purchase itself, between our bytes: set from outside, the shop knows nothing of it."""

import http.client
from collections.abc import Callable
from typing import Any

from bitloot.core.faults import ACTIONS

WIRE_NAMES = ("wire.connected", "wire.half_sent", "wire.sent")
PURCHASE = b"POST /kinguin/esa/api/v2/order "


def arm(name: str, action: str, log: str) -> None:
    """Act once, on the connection that carries the next purchase."""
    left = [name]

    def act() -> None:
        left.clear()
        with open(log, "a") as file:
            file.write(f"{name}:{action}\n")
        ACTIONS[action]()

    _wrap_send(left, act)
    _wrap_getresponse(left, act)


def _wrap_send(left: list[str], act: Callable[[], None]) -> None:
    really = http.client.HTTPConnection.send

    def send(self: Any, data: Any) -> None:
        if left and isinstance(data, bytes) and data.startswith(PURCHASE):
            self.carries_purchase = True
            if left[0] == "wire.connected":
                if self.sock is None:
                    self.connect()
                act()
            elif left[0] == "wire.half_sent":
                half = len(data) // 2
                really(self, data[:half])
                act()
                return really(self, data[half:])
        return really(self, data)

    http.client.HTTPConnection.send = send  # type: ignore[method-assign]


def _wrap_getresponse(left: list[str], act: Callable[[], None]) -> None:
    really = http.client.HTTPConnection.getresponse

    def getresponse(self: Any) -> Any:
        if left == ["wire.sent"] and getattr(self, "carries_purchase", False):
            act()
        return really(self)

    http.client.HTTPConnection.getresponse = getresponse  # type: ignore[method-assign]

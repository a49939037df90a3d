"""The sandbox's control interface, and its ledger: the only witness of what was really bought."""

import json
import urllib.request
from typing import Any

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Control:
    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, path: str, body: Any = None) -> Any:
        """GET /control/{path}, or POST it if there is a body; return the JSON of the answer."""
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/control/{path}", data=sent, headers=headers)
        with DIRECT.open(request, timeout=30) as answer:
            return json.load(answer)

    def fault(self, op: str, fault: str, **options: Any) -> None:
        self.call("faults", {"op": op, "fault": fault, **options})

    def ledger(self, *, after: int = 0, **match: str) -> list[dict[str, Any]]:
        """Return every line after this id that matches, oldest first."""
        lines: list[dict[str, Any]] = []
        query = "".join(f"&{name}={value}" for name, value in match.items())
        while page := self.call(f"ledger?after={lines[-1]['id'] if lines else after}{query}")["ledger"]:
            lines += page
        return lines

    def idle(self) -> bool:
        """Return whether nothing is still to happen at the providers: no late order, no key on its way."""
        return bool(self.call("state?limit=1")["jobs"] == 0)

"""What a sandbox is started with, and what its control page may change while it runs."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCRIPT_NAMES = ("calm", "rough", "storm")
DELIVERY_MODES = ("auto", "manual", "never")
# Kinguin does not document what a repeated orderExternalId gets; integrators report these three.
DUPLICATE_STATUSES = (400, 409, 422)


@dataclass(frozen=True, kw_only=True)
class Config:
    kinguin_api_key: str
    kinguin_client_id: str
    kinguin_client_secret: str
    kinguin_webhook_secret: str
    nowpayments_api_key: str
    nowpayments_ipn_secret: str
    host: str = "127.0.0.1"
    port: int = 8001
    mail_port: int = 0
    db: str = "var/sandbox.sqlite3"
    store_url: str = "http://127.0.0.1:8000"
    script: str = "calm"
    seed: int = 1
    delay_ms: int = 0
    deliver: str = "auto"
    deliver_after_ms: int = 300
    step_ms: int = 50
    retry_ms: int = 1000
    hold_s: float = 40.0
    late_s: float = 120.0
    enforce_external_id: bool = True
    duplicate_status: int = 422

    def __post_init__(self) -> None:
        _require(self.script in SCRIPT_NAMES, f"script must be one of {', '.join(SCRIPT_NAMES)}")
        _require(self.deliver in DELIVERY_MODES, f"deliver must be one of {', '.join(DELIVERY_MODES)}")
        _require(self.duplicate_status in DUPLICATE_STATUSES, "duplicate_status must be 400, 409 or 422")
        for name in ("delay_ms", "deliver_after_ms", "step_ms", "retry_ms", "hold_s", "late_s"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative")

    @classmethod
    def from_json(cls, text: str) -> "Config":
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def fingerprint(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def tunables(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in TUNABLE}

    def changed(self, changes: Mapping[str, Any]) -> "Config":
        """Return a copy with these tunables changed; raise ValueError for anything else."""
        unknown = sorted(set(changes) - set(TUNABLE))
        _require(not unknown, f"{', '.join(unknown)} cannot be changed; choose from {', '.join(TUNABLE)}")
        return dataclasses.replace(self, **{name: _as(TUNABLE[name], name, value) for name, value in changes.items()})


TUNABLE: dict[str, type] = {
    "store_url": str,
    "script": str,
    "seed": int,
    "delay_ms": int,
    "deliver": str,
    "deliver_after_ms": int,
    "step_ms": int,
    "retry_ms": int,
    "hold_s": float,
    "late_s": float,
    "enforce_external_id": bool,
    "duplicate_status": int,
}


def _as(kind: type, name: str, value: Any) -> Any:
    if kind is bool:
        return value in (True, 1, "1", "true", "on")
    try:
        return kind(value)
    except (TypeError, ValueError) as err:
        raise ValueError(f"{name} must be of type {kind.__name__}, not {value!r}") from err


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)

"""`python -m sandbox`: stand-ins for Kinguin and NOWPayments, with a page to steer them.

The secrets are those of the shop it stands in for: from the environment, or from the file that BITLOOT_ENV_FILE names.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.config import DELIVERY_MODES, SCRIPT_NAMES, Config
from sandbox.server import run

_SECRETS = (
    "KINGUIN_API_KEY",
    "KINGUIN_CLIENT_ID",
    "KINGUIN_CLIENT_SECRET",
    "KINGUIN_WEBHOOK_SECRET",
    "NOWPAYMENTS_API_KEY",
    "NOWPAYMENTS_IPN_SECRET",
)


def main(arguments: list[str] | None = None) -> None:
    config = read_config(arguments)
    print(f"Sandbox: http://{config.host}:{config.port}/ (its state is in {config.db})", flush=True)  # noqa: T201
    try:
        run(config)
    except RuntimeError as err:
        sys.exit(f"The sandbox did not start. {err}")


def read_config(arguments: list[str] | None = None) -> Config:
    """Return what the command line and the environment ask for; leaves with a sentence if that does not fit."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    text = options.pop("config_json")
    try:
        return Config.from_json(text) if text else Config(**options, **_secrets(parser))
    except (TypeError, ValueError) as err:
        parser.error(f"the configuration does not fit: {err}")


def _parser() -> argparse.ArgumentParser:
    default = {name: field.default for name, field in Config.__dataclass_fields__.items()}
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument(
        "--config-json", default=os.environ.get("BITLOOT_SANDBOX_CONFIG"), help="a whole Config; other options are void"
    )
    parser.add_argument("--host", default=default["host"])
    parser.add_argument("--port", type=int, default=default["port"])
    parser.add_argument(
        "--mail-port", type=int, default=default["mail_port"], help="also be a mail server, at this port"
    )
    parser.add_argument("--db", default=default["db"], help="the file that holds everything (delete it to start anew)")
    parser.add_argument("--store-url", default=default["store_url"], help="where webhooks go")
    parser.add_argument("--script", choices=SCRIPT_NAMES, default=default["script"], help="what goes wrong")
    parser.add_argument("--seed", type=int, default=default["seed"], help="the same seed fails the same calls")
    parser.add_argument("--delay-ms", type=int, default=default["delay_ms"], help="added to every supplier call")
    parser.add_argument("--deliver", choices=DELIVERY_MODES, default=default["deliver"])
    parser.add_argument("--deliver-after-ms", type=int, default=default["deliver_after_ms"])
    parser.add_argument("--step-ms", type=int, default=default["step_ms"], help="between a payment's statuses")
    parser.add_argument("--retry-ms", type=int, default=default["retry_ms"], help="before a webhook's next try")
    parser.add_argument(
        "--enforce-external-id", action=argparse.BooleanOptionalAction, default=default["enforce_external_id"]
    )
    return parser


def _secrets(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the first value of each secret; of two, the first is the one that providers use already."""
    file = os.environ.get("BITLOOT_ENV_FILE", "")
    values = {**(_read(Path(file)) if file else {}), **os.environ}
    secrets = {name.lower(): values.get(name, "").split(",")[0] for name in _SECRETS}
    missing = [name for name in ("KINGUIN_API_KEY", "NOWPAYMENTS_API_KEY") if not secrets[name.lower()]]
    if missing:
        parser.error(f"set {' and '.join(missing)}, or BITLOOT_ENV_FILE to a file that does, or give --config-json")
    return secrets


def _read(path: Path) -> Mapping[str, str]:
    lines = (line.partition("=") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in lines}


if __name__ == "__main__":
    main()

"""python -m bitloot.sandbox --config-json '{...}': the sandbox without Django."""

import argparse
import os
import sys

from bitloot.sandbox.config import Config
from bitloot.sandbox.server import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bitloot.sandbox")
    parser.add_argument("--config-json", default=os.environ.get("BITLOOT_SANDBOX_CONFIG"), help="a Config as JSON")
    text = parser.parse_args().config_json
    if not text:
        parser.error("give --config-json, or set BITLOOT_SANDBOX_CONFIG to the same")
    try:
        config = Config.from_json(text)
    except (TypeError, ValueError) as err:
        parser.error(f"the configuration does not fit: {err}")
    try:
        run(config)
    except RuntimeError as err:
        sys.exit(f"The sandbox did not start. {err}")


if __name__ == "__main__":
    main()

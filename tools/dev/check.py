"""`make check`: style, types, translations, layers, migrations, production settings, API document, list of settings."""

import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tools.dev import node
from tools.dev.devenv import ROOT, contract_variables, process_environment
from tools.dev.supply import check_supply_chain

BIN = Path(sys.executable).parent
MANAGE = [sys.executable, "manage.py"]
AT_ONCE = 4


class Step(NamedTuple):
    name: str
    command: list[str]
    environment: Mapping[str, str]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bitloot-check-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        steps = pool.map(_run, _steps(Path(folder)))
        ok = [_settings_explained(), check_supply_chain(), *steps]
    print("Everything is in order." if all(ok) else "Something is wrong; see FAILED above.")
    sys.exit(0 if all(ok) else 1)


def _settings_explained() -> bool:
    """Compare .env.example with what the settings read: neither may know a variable that the other does not."""
    source = (ROOT / "bitloot" / "settings.py").read_text()
    read = set(re.findall(r'(?:env\.\w+|_required|_secrets)\(\s*"([A-Z][A-Z0-9_]+)"', source))
    different = sorted(read ^ set(contract_variables()))
    print(
        f"FAILED  settings: only in one of settings.py and .env.example: {different}" if different else "ok  settings"
    )
    return not different


def _steps(folder: Path) -> Iterator[Step]:
    """Yield what can run side by side, the longest first."""
    development = process_environment(folder / "development", port=8000, sandbox_port=8001)
    migrated = process_environment(folder / "migrated", port=8000, sandbox_port=8001)  # has a database of its own
    production = process_environment(folder / "production", port=8000, sandbox_port=8001, **_production_settings())
    yield Step("types", [sys.executable, "-m", "mypy", "."], development)
    yield Step("migrations go forwards and back", [sys.executable, "-m", "tools.dev.migrations"], migrated)
    yield Step("API document", [sys.executable, "-m", "tools.dev.openapi", "--check"], development)
    yield Step("documents", [sys.executable, "-m", "tools.dev.docs"], development)
    yield Step("translations", [sys.executable, "-m", "tools.dev.messages", "--check"], development)
    yield Step("migrations are complete", [*MANAGE, "makemigrations", "--check", "--dry-run"], development)
    yield Step("layers", [str(BIN / "lint-imports"), "--no-cache"], development)
    yield Step("production settings", [*MANAGE, "check", "--deploy", "--fail-level", "WARNING"], production)
    yield Step("style", [str(BIN / "ruff"), "check", "."], development)
    yield Step("format", [str(BIN / "ruff"), "format", "--check", "."], development)
    if why := node.missing():
        # Not a failure in CI: unlike all else that is installed there, these come from a registry of their own.
        print(f"SKIPPED  API linters: {why}")
    else:
        yield Step("API linters", ["npm", "run", "--silent", "lint:api"], os.environ)


def _production_settings() -> dict[str, str]:
    return {
        "DEBUG": "0",
        "ALLOWED_HOSTS": "shop.example",
        "SITE_URL": "https://shop.example",
        "DATABASE_URL": "postgres://bitloot@127.0.0.1:1/bitloot",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "EMAIL_URL": "smtp+tls://shop:word@127.0.0.1:587",
        "TRUSTED_PROXIES": "1",
        "NOWPAYMENTS_BASE_URL": "https://nowpayments.example/v1",
        "KINGUIN_BASE_URL": "https://kinguin.example/esa/api",
        "R2_ENDPOINT": "https://r2.example",
        "R2_ACCESS_KEY_ID": secrets.token_hex(8),
        "R2_SECRET_ACCESS_KEY": secrets.token_hex(16),
        "R2_BUCKET": "keys",
        "KEY_ENVIRONMENT": "production",
    }


def _run(step: Step) -> bool:
    started = time.monotonic()
    done = subprocess.run(
        step.command, cwd=ROOT, env=dict(step.environment), capture_output=True, text=True, check=False
    )
    ok = done.returncode == 0
    print(f"{'ok' if ok else 'FAILED'}  {step.name} ({time.monotonic() - started:.1f} s)", flush=True)
    if not ok:
        print(done.stdout + done.stderr, flush=True)
    return ok


if __name__ == "__main__":
    main()

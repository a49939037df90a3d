"""Write the environment of a development store (random secrets, embedded defaults) unless it is there already."""

import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SANDBOX_BASES = {"ecommerce": "/kinguin/esa/api", "reservations": "/kinguin/reservations", "orders": "/kinguin/orders"}
# What you may choose for a demo from outside; every other setting is the demo's own.
KEPT = ("DATABASE_URL", "REDIS_URL", "KINGUIN_API", "LOG_LEVEL")


def write_environment(var: Path, *, port: int = 8000, sandbox_port: int = 8001) -> Path:
    """Return the path of `dev.env` under `var`, made with secrets of its own, readable by its owner only.

    A file of an older BitLoot keeps its values, and gets those that have become necessary since.
    """
    path = var / "dev.env"
    var.mkdir(parents=True, exist_ok=True)
    there = set(re.findall(r"^(\w+)=", path.read_text(), re.MULTILINE)) if path.exists() else set()
    values = _values(var) | _urls(port, sandbox_port, "ecommerce")
    if missing := {name: value for name, value in values.items() if name not in there}:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a") as file:
            file.write("".join(f"{name}={value}\n" for name, value in missing.items()))
    return path


def process_environment(var: Path, *, port: int, sandbox_port: int, **overrides: str) -> dict[str, str]:
    """Return the environment of a store's processes: its dev.env, these ports, and no other setting from outside."""
    settings = contract_variables()
    inherited = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in settings}
    chosen = {name: os.environ[name] for name in KEPT if os.environ.get(name)} | overrides
    return {
        **inherited,
        **_urls(port, sandbox_port, chosen.get("KINGUIN_API", "ecommerce")),
        **chosen,
        "BITLOOT_VAR": str(var.resolve()),
        "BITLOOT_ENV_FILE": str(write_environment(var, port=port, sandbox_port=sandbox_port).resolve()),
        "DJANGO_SETTINGS_MODULE": "bitloot.settings",
        "PYTHONUNBUFFERED": "1",
    }


def contract_variables() -> list[str]:
    """Return every variable that .env.example explains, in its order."""
    return re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)


def _values(var: Path) -> dict[str, str]:
    return {
        "SECRET_KEY": secrets.token_urlsafe(50),
        "DEBUG": "1",
        "ALLOWED_HOSTS": "127.0.0.1,localhost,testserver",
        "EMAIL_URL": f"filemail:///{(var / 'mail').resolve()}",
        "DEFAULT_FROM_EMAIL": "BitLoot <shop@shop.example>",
        "STAFF_EMAIL": "staff@shop.example",
        "NOWPAYMENTS_API_KEY": secrets.token_hex(16),
        "NOWPAYMENTS_IPN_SECRET": secrets.token_hex(24),
        "KINGUIN_API_KEY": secrets.token_hex(16),
        "KINGUIN_CLIENT_ID": secrets.token_hex(8),
        "KINGUIN_CLIENT_SECRET": secrets.token_hex(16),
        "KINGUIN_WEBHOOK_SECRET": secrets.token_hex(16),
        "KEY_ENCRYPTION_SECRET": secrets.token_urlsafe(32),
        "KEY_ENVIRONMENT": "development",
        "STORE_NAME": "BitLoot",
        "SUPPORT_EMAIL": "support@shop.example",
        "ORDER_TOKEN_SECRET": secrets.token_urlsafe(32),
        "LOG_LEVEL": "INFO",
        "CHECK_BREACHED_PASSWORDS": "0",  # nobody outside is asked
        # The sandbox has no limits; tests of ours set their own.
        "NOWPAYMENTS_CALLS_PER_SECOND": "0",
        "KINGUIN_CALLS_PER_SECOND": "0",
    }


def _urls(port: int, sandbox_port: int, dialect: str) -> dict[str, str]:
    sandbox = f"http://127.0.0.1:{sandbox_port}"
    return {
        "SITE_URL": f"http://127.0.0.1:{port}",
        "NOWPAYMENTS_BASE_URL": f"{sandbox}/nowpayments/v1",
        "KINGUIN_BASE_URL": f"{sandbox}{SANDBOX_BASES[dialect]}",
    }


if __name__ == "__main__":
    print(write_environment(Path(sys.argv[1] if len(sys.argv) > 1 else "var")))

import os
import secrets
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from getpass import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from bitloot.management import env_file
from bitloot.management.env_file import ROOT, Variable
from bitloot.management.operator import OperatorCommand, UsageError

# Nobody has to think these up.
GENERATED: dict[str, Callable[[], str]] = {
    **dict.fromkeys(
        ("SECRET_KEY", "KEY_ENCRYPTION_SECRET", "ORDER_TOKEN_SECRET", "METRICS_TOKEN", "BACKUP_SECRET"),
        lambda: secrets.token_urlsafe(48),
    ),
    "KINGUIN_WEBHOOK_SECRET": lambda: secrets.token_hex(16),  # their form takes no more than 32 characters
}
# Asked although a shop starts without them.
ASKED_TOO = ("DATABASE_URL", "REDIS_URL", "TRUSTED_PROXIES", "R2_ENDPOINT", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY",
             "R2_BUCKET", "ALERT_URL")  # fmt: skip
# With docker compose these are files of secrets/, made by deploy/make-secrets.sh.
AS_FILES = (
    "SECRET_KEY", "KEY_ENCRYPTION_SECRET", "ORDER_TOKEN_SECRET", "DATABASE_URL", "REDIS_URL", "EMAIL_URL",
    "NOWPAYMENTS_API_KEY", "NOWPAYMENTS_IPN_SECRET", "KINGUIN_API_KEY", "KINGUIN_WEBHOOK_SECRET",
    "R2_SECRET_ACCESS_KEY", "BACKUP_SECRET", "EMAIL_WEBHOOK_SECRET",
)  # fmt: skip
HIDDEN = ("NOWPAYMENTS_API_KEY", "NOWPAYMENTS_IPN_SECRET", "KINGUIN_API_KEY", "R2_SECRET_ACCESS_KEY")
KEEP = ("KEY_ENCRYPTION_SECRET", "BACKUP_SECRET")


class Command(OperatorCommand):
    help = (
        "Write an .env for production: asks for what is needed, generates our own secrets, has the settings check it"
        " all, and writes the file so that only its owner reads it. What an .env there sets already is kept, secrets"
        " above all; so it may be run again to complete or correct one."
    )
    exit_codes = {0: "written", 1: "not written: a value is wrong or missing; each is named"}

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--path", type=Path, default=ROOT / ".env", help="the file to write (.env beside manage.py)"
        )
        parser.add_argument("--example", type=Path, help="the .env.example to fill in; else the one beside it")
        parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a value, not asked for")
        parser.add_argument("--non-interactive", action="store_true", help="ask nothing; --set and the file say all")
        parser.add_argument(
            "--secrets-as-files", action="store_true", help="for docker compose: leave out what is in secrets/"
        )

    def handle(self, *, path: Path, example: Path | None, non_interactive: bool, **options: Any) -> None:
        if not path.parent.is_dir():
            raise UsageError(f"There is no folder {path.parent}.")
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name the file in it.")
        files = set(AS_FILES) if options["secrets_as_files"] else set()
        template = self._template(path, example)
        known = [each for each in env_file.variables(template) if each.name not in files]
        known.sort(key=lambda each: each.name != "STORE_NAME")  # first: what is proposed as the sender of mails has it
        before = env_file.values(path.read_text()) if path.exists() else {}
        given = before | self._given(options["set"], {each.name for each in known})
        # Only what is missing: another KEY_ENCRYPTION_SECRET would close every key that was sold.
        made = {name: make() for name, make in GENERATED.items() if name not in given and name not in files}
        given |= made
        asked = [] if non_interactive else [each for each in known if _is_asked(each, given)]
        while True:
            for each in asked:
                self._ask(each, given)
            text = env_file.filled_in(template, given)
            wrong = env_file.wrong(text, elsewhere=_stand_ins(files, given))
            asked = [] if non_interactive else [each for each in known if any(each.name in line for line in wrong)]
            if not asked:
                break
            self.stderr.write("\n".join(wrong))
        if wrong:
            raise CommandError(f"{path} was not written.\n  - " + "\n  - ".join(wrong))
        env_file.write(path, text)
        self._say(path, made)

    def _template(self, path: Path, example: Path | None) -> str:
        for place in filter(None, (example, ROOT / ".env.example", path.with_name(".env.example"))):
            if place.is_file():
                return place.read_text()
        raise UsageError("There is no .env.example; name it with --example.")

    def _given(self, settings: list[str], known: set[str]) -> dict[str, str]:
        if incomplete := [entry for entry in settings if "=" not in entry]:
            raise UsageError(f"--set {incomplete[0]} has no value: write {incomplete[0]}=VALUE.")
        given = dict(entry.partition("=")[::2] for entry in settings)
        if unknown := sorted(given.keys() - known):
            raise UsageError(f"{', '.join(unknown)} cannot be set here; .env.example has every name.")
        for name, value in given.items():
            if why := env_file.objection(value):
                raise UsageError(f"{name} {why}.")
        return given

    def _ask(self, variable: Variable, given: dict[str, str]) -> None:
        proposal = _proposal(variable.name, given)
        self.stdout.write(f"\n{variable.explanation}")
        default = f" [{proposal}]" if proposal else ""
        if not proposal and not variable.is_required:
            default = " [none]"
        prompt = f"{variable.name}{default}: "
        # getpass reads the terminal itself, and would not see what is piped in.
        ask = getpass if variable.name in HIDDEN and sys.stdin.isatty() else input
        while True:
            try:
                typed = ask(prompt).strip()
            except EOFError:
                raise CommandError("Nothing more was typed; nothing was written.") from None
            if why := env_file.objection(typed):
                self.stderr.write(f"{variable.name} {why}.")
            elif typed or proposal or not variable.is_required:
                given[variable.name] = typed or proposal
                return

    def _say(self, path: Path, made: dict[str, str]) -> None:
        self.stdout.write(self.style.SUCCESS(f"{path} is written; only {os.getenv('USER', 'its owner')} reads it."))
        if "KINGUIN_WEBHOOK_SECRET" in made:
            self.stdout.write(f"Enter this as the webhook secret at Kinguin: {made['KINGUIN_WEBHOOK_SECRET']}")
        if kept := [name for name in KEEP if name in made]:
            names = " and ".join(kept)
            self.stdout.write(
                f"Keep a copy of {names} away from this machine: nothing else opens sold keys and backups."
            )


def _is_asked(variable: Variable, given: dict[str, str]) -> bool:
    return variable.name not in given and (variable.is_required or variable.name in ASKED_TOO)


def _proposal(name: str, given: dict[str, str]) -> str:
    host = given.get("ALLOWED_HOSTS", "").partition(",")[0].strip().lstrip(".")
    store = given.get("STORE_NAME", "Shop")
    return given.get(name) or {
        "SITE_URL": f"https://{host}",
        "DEFAULT_FROM_EMAIL": f"{store} <orders@{host}>",
        "SUPPORT_EMAIL": f"help@{host}",
        "TRUSTED_PROXIES": "1",
        "NOWPAYMENTS_BASE_URL": "https://api.nowpayments.io/v1",
        "KINGUIN_BASE_URL": "https://gateway.kinguin.net/esa/api",
    }.get(name, "")


def _stand_ins(names: set[str], given: dict[str, str]) -> dict[str, str]:
    """Return values for what lies in files elsewhere, so that everything else can be checked."""
    urls = {
        "DATABASE_URL": "postgres://x@localhost/x",
        "REDIS_URL": "redis://localhost:6379/0",
        "EMAIL_URL": "smtp+tls://x:x@localhost:587",
    }
    needed = names if given.get("R2_BUCKET") else names - {"R2_SECRET_ACCESS_KEY"}
    return {name: urls.get(name) or secrets.token_hex(16 if "KINGUIN" in name else 40) for name in needed}

"""Reads and checks the variables of the environment. Every wrong one is collected, so that all are named at once."""

import difflib
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import time
from decimal import Decimal, InvalidOperation
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.http import is_same_domain
from environ import Env

from bitloot.core import sentinel
from bitloot.core.hosts import in_ascii
from bitloot.core.quiet_hours import QuietHours
from bitloot.mail_providers import PROVIDERS, Provider

logger = logging.getLogger(__name__)

YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EXAMPLES = ("change", "example", "secret", "password", "your", "xxx")
# Variables that begin like ours and that nothing reads are most likely misspelt.
FAMILIES = (
    "ALERT_", "APPROVAL_", "BACKUP_", "BALANCE_", "COINS_", "DKIM_", "EMAIL_WEBHOOK_", "KEY_", "KINGUIN_",
    "MAIL_RETENTION_", "METRICS_", "MIGRATE_", "NOWPAYMENTS_", "ORDER_TOKEN_", "OVERPAID_", "PAYMENT_", "R2_",
    "REFUND_", "SAFE_", "SECRET_KEY", "SIGNED_URL_", "STAFF_", "STORE_", "SUPPORT_", "THROTTLE_", "TRUSTED_",
    "UNPAID_", "WEBHOOK_",
)  # fmt: skip
POSTGRES = ("postgres", "postgresql", "psql", "pgsql")
SMTP = ("smtp", "smtps", "smtp+tls", "smtp+ssl")
# Kept where somebody finds it; the other schemes of django-environ throw mail away.
KEEPS_MAIL = (*SMTP, "filemail", *PROVIDERS)
# Our own secrets. Random ones of this length have more different characters than this, in any alphabet.
OWN_SECRET, OWN_DIFFERENT = 43, 8
# Secrets that a provider made; theirs are shorter.
THEIR_SECRET, THEIR_DIFFERENT = 16, 5
BROKER_DATABASES = range(15)  # Redis has sixteen databases unless told otherwise, and the cache takes the next one

A_CENTURY = 36_500  # days

Value = TypeVar("Value")


class Wrong(ValueError):
    """What is wrong with a value, as the end of a sentence that begins with the variable's name."""


class Environment:
    """The variables of a process. A wrong or missing one reads as its default, and is noted in `wrong`."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.wrong: list[str] = []
        self.doubtful: list[str] = []  # what may be meant so, and is said once at the start
        self._values = values
        self._asked: dict[str, str] = {}  # the text of each variable that was read
        self._secrets: dict[str, tuple[str, ...]] = {}

    # --- reading ---

    def read(self, name: str, parse: Callable[[str], Value], *, default: Value, required: bool = False) -> Value:
        text = self._raw(name)
        if not text:
            if required:
                self.wrong.append(f"{name} is not set")
            return default
        try:
            return parse(text)
        except Wrong as err:
            self.wrong.append(f"{name} {err}")
            return default

    def text(self, name: str, *, default: str = "", required: bool = False, most: int = 200) -> str:
        return self.read(name, lambda text: short_text(text, most=most), default=default, required=required)

    def flag(self, name: str, *, default: bool = False) -> bool:
        return self.read(name, flag, default=default)

    def whole(self, name: str, *, default: int, least: int, most: int) -> int:
        return self.read(name, lambda text: int(number(text, least=least, most=most, whole=True)), default=default)

    def number(self, name: str, *, default: str, least: str, most: str) -> Decimal:
        return self.read(name, lambda text: number(text, least=least, most=most), default=Decimal(default))

    def choice(self, name: str, known: tuple[str, ...], *, default: str) -> str:
        return self.read(name, lambda text: choice(text, known), default=default)

    def words(self, name: str, pattern: str) -> tuple[str, ...]:
        return self.read(name, lambda text: words(text, pattern), default=())

    def emails(self, name: str, *, required: bool = False) -> tuple[str, ...]:
        return self.read(name, emails, default=(), required=required)

    def hosts(self, name: str) -> list[str]:
        return self.read(name, hosts, default=[], required=True)

    def mail(self, name: str, *, schemes: tuple[str, ...]) -> dict[str, Any]:
        return self.read(name, lambda text: mail_url(text, known=schemes), default={}, required=True)

    def alert_urls(self, name: str) -> tuple[str, ...]:
        return self.read(name, alert_urls, default=())

    def own_secret(self, name: str, *, least: int = OWN_SECRET, required: bool = True) -> str:
        """Return a secret that the operator made up, or "" for none."""
        return next(iter(self._secret(name, 1, required, least=least, different=OWN_DIFFERENT)), "")

    def fallbacks(self, name: str) -> tuple[str, ...]:
        """Return the earlier values of a secret of ours; they still open what they closed, so they are no weaker."""
        return self._secret(name, 10, False, least=OWN_SECRET, different=OWN_DIFFERENT)

    def their_secret(self, name: str, *, least: int = THEIR_SECRET, required: bool = True) -> str:
        return next(iter(self._secret(name, 1, required, least=least, different=THEIR_DIFFERENT)), "")

    def webhook_secrets(self, name: str, *, most: int) -> tuple[str, ...]:
        """Return what a provider's calls prove themselves with; two values while it is being changed."""
        return self._secret(name, 2, True, least=THEIR_SECRET, different=THEIR_DIFFERENT, most=most)

    def _secret(
        self, name: str, values: int, required: bool, *, least: int, different: int, most: int = 200
    ) -> tuple[str, ...]:
        def parse(text: str) -> tuple[str, ...]:
            return secrets(text, values=values, least=least, different=different, most=most)

        self._secrets[name] = self.read(name, parse, default=(), required=required)
        return self._secrets[name]

    def _raw(self, name: str) -> str:
        self._asked[name] = text = self._text_of(name)
        return text

    def _text_of(self, name: str) -> str:
        """Return the value, or the content of the file that NAME_FILE names, without its last newline."""
        text, path = self._values.get(name, "").strip(), self._values.get(f"{name}_FILE", "").strip()
        if not path:
            return text
        if text:
            self.wrong.append(f"{name} and {name}_FILE are both set; keep one of them")
            return ""
        try:
            return re.sub(r"\r?\n\Z", "", Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as err:
            self.wrong.append(f"{name}_FILE names a file that cannot be read ({type(err).__name__})")
            return ""

    def secret_values(self) -> tuple[str, ...]:
        """Return every secret that was read: what must stand in no log."""
        passwords = [word for name, text in self._asked.items() if name.endswith("_URL") for word in _passwords(text)]
        return (*(value for values in self._secrets.values() for value in values), *passwords)

    # --- what several variables say together ---

    def require(self, is_right: object, message: str) -> None:
        if not is_right:
            self.wrong.append(message)

    def all_or_none(self, **values: str) -> None:
        missing = [name for name, value in values.items() if not value]
        if missing and len(missing) < len(values):
            self.wrong.append(f"{', '.join(values)} belong together; {', '.join(missing)} missing: set all or none")

    def start(self) -> None:
        """Warn of what may be wrong, and end this process if anything is.

        SystemExit prints its message and nothing else, in manage.py as well as in Celery and in any WSGI server; an
        exception would bury the sentence under a traceback.
        """
        for sentence in self.doubtful + self.misspelt():
            logger.warning("%s", sentence)
        if self.wrong:
            raise SystemExit("BitLoot cannot start. See .env.example.\n  - " + "\n  - ".join(self.wrong))

    def secrets_differ(self) -> None:
        """One leaked secret must not open a second door."""
        for (one, values), (other, others) in combinations(self._secrets.items(), 2):
            if not set(values).isdisjoint(others):
                self.wrong.append(f"{other} has the same value as {one}; each needs its own")

    def misspelt(self) -> list[str]:
        """Return a sentence for each variable that begins like one of ours but is not one: probably a typing error."""
        set_names = {name.removesuffix("_FILE") for name in self._values if name.startswith(FAMILIES)}
        return [self._unknown(name) for name in sorted(set_names - self._asked.keys())]

    def _unknown(self, name: str) -> str:
        meant = difflib.get_close_matches(name, sorted(self._asked), n=1)
        hint = f"; did you mean {meant[0]}?" if meant else " and has no effect."
        return f"{name} is not a setting of BitLoot{hint}"


# --- one value ---


def short_text(text: str, *, most: int) -> str:
    if len(text) > most:
        raise Wrong(f"is longer than {most} characters")
    if not text.isprintable():
        raise Wrong("holds a line break or another character that cannot be printed")
    return text


def flag(text: str) -> bool:
    word = text.lower()
    if word not in YES + NO:
        raise Wrong("has to be one of 1, 0, true, false, yes, no, on, off")
    return word in YES


def number(text: str, *, least: int | str, most: int | str, whole: bool = False) -> Decimal:
    kind = "a whole number" if whole else "a number"
    try:
        value = Decimal(text)
        within = Decimal(least) <= value <= Decimal(most)
    except InvalidOperation:  # NaN cannot be compared
        within = False
    if not within or (whole and not text.isdigit()):
        raise Wrong(f"has to be {kind} from {least} to {most}")
    return value


def days_or_never(text: str) -> int:
    if text.lower() == "never":
        return A_CENTURY
    try:
        return int(number(text, least=30, most=A_CENTURY, whole=True))
    except Wrong as err:
        raise Wrong(f"{err}, or never") from err


def choice(text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise Wrong(f"has to be one of {', '.join(known)}")
    return text


def words(text: str, pattern: str) -> tuple[str, ...]:
    found = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if odd := [word for word in found if not re.fullmatch(pattern, word)]:
        raise Wrong(f"holds {odd[0][:40]!r}, which cannot be right")
    return found


def bucket(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text):
        raise Wrong("has to be a bucket's name: 3 to 63 small letters, digits and hyphens")
    return text


def backup_target(text: str) -> str:
    """Check an absolute folder, or s3://bucket/prefix beside the bucket of the keys."""
    if text.startswith("s3://"):
        bucket(text.removeprefix("s3://").partition("/")[0])
    elif not text.startswith("/"):
        raise Wrong("has to be a folder that begins with /, or s3://bucket/prefix")
    return text.rstrip("/")


def quiet_hours(text: str) -> QuietHours:
    """Check `22:00-07:00 Europe/Berlin`; without a place it is UTC."""
    hour = r"((?:[01]\d|2[0-3]):[0-5]\d)"  # Python 3.14 would take 24:00 for midnight
    hours = re.fullmatch(rf"{hour}-{hour}(?:\s+([A-Za-z0-9_+/-]+))?", text)
    try:
        if hours is None or hours[1] == hours[2]:
            raise ValueError
        return QuietHours(time.fromisoformat(hours[1]), time.fromisoformat(hours[2]), ZoneInfo(hours[3] or "UTC"))
    except (ValueError, ZoneInfoNotFoundError):
        raise Wrong("has to be two times and a place: 22:00-07:00 Europe/Berlin") from None


def label(text: str) -> str:
    """Check a name that is bound into every key: at most 40 characters, as the column has."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", text):
        raise Wrong("has to be at most 40 letters, digits, dots, hyphens and underscores")
    return text


def emails(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(email(part.strip()) for part in text.split(",") if part.strip()))
    if len(found) > 10:
        raise Wrong("has more than ten addresses")
    return found


def email(text: str) -> str:
    try:
        validate_email(text)
        name, _, host = text.rpartition("@")
        return f"{name}@{in_ascii(host)}"
    except (ValidationError, UnicodeError):
        raise Wrong(f"holds {text[:60]!r}, which is not an e-mail address") from None


def sender(text: str) -> str:
    """Check `shop@example.org` or `Shop <shop@example.org>`."""
    named = re.fullmatch(r"[^<>@]*<([^<>]*)>", text)
    address = named[1] if named else text
    return short_text(text.replace(address, email(address)), most=200)


def secrets(text: str, *, values: int, least: int, different: int, most: int = 200) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if len(found) > values:
        raise Wrong("holds a comma, which secrets cannot have" if values == 1 else f"has more than {values} values")
    for value in found:
        if not least <= len(value) <= most:
            raise Wrong(f"has to have {least} to {most} characters")
        _require_random(value, different)
    return found


def _require_random(value: str, different: int) -> None:
    """Refuse what nobody drew by chance. The value stays out of the message."""
    if value.lower().startswith(EXAMPLES):
        raise Wrong("still has an example value")
    # A text that is found in its own double before the end is one piece, repeated.
    if len(set(value)) < different or value in (value + value)[1:-1]:
        raise Wrong(f"is not random: it has fewer than {different} different characters, or repeats itself")


def hosts(text: str) -> list[str]:
    found = [_host(part.strip().lower()) for part in text.split(",") if part.strip()]
    for host in found:
        # “.com” would stand for every host there.
        if host != "*" and not re.fullmatch(r"\.?[a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:.]+\]", host):
            raise Wrong(f"holds {host[:60]!r}; write host names only, without https:// and port")
        if host.startswith(".") and "." not in host[1:]:
            raise Wrong(f"holds {host[:60]!r}, which is not yours alone")
    return found


def _host(name: str) -> str:
    """Return the name as DNS knows it, and one that it cannot know as it is, for the checks that follow."""
    dot = "." if name.startswith(".") else ""
    try:
        return dot + in_ascii(name.removeprefix("."))
    except UnicodeError:
        return name


def is_allowed(host: str, allowed: Iterable[str]) -> bool:
    name = f"[{host}]" if ":" in host else host
    return any(pattern == "*" or is_same_domain(name, pattern) for pattern in allowed)


# --- URLs: they may hold passwords, so no message repeats one ---


def url(text: str, *, path: str | None = None, ends_with: str = "") -> str:
    """Return an https URL without a slash at its end; http is for loopback only. `path` is the one it has to have."""
    parts = split_url(text)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise Wrong("has to be https (http is accepted on loopback only)")
    if parts.username is not None or parts.query or parts.fragment:
        raise Wrong("has to be an address only: no user name, no ? and no #")
    if not parts.netloc.isascii():  # as browsers send it
        host = _host(str(parts.hostname))
        parts = parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}")
        text = parts.geturl()
    if not parts.netloc.isascii():
        raise Wrong("has a host that cannot exist")
    found = text.rstrip("/")
    if path is not None and urlsplit(found).path != path:
        raise Wrong("has to be without a path")
    if not found.endswith(ends_with):
        raise Wrong(f"has to end with {ends_with}")
    return found


def collector_url(text: str) -> str:
    """Check where traces go: often a neighbour in a network of its own, so http is right."""
    if split_url(text).scheme not in ("http", "https"):
        raise Wrong("has to be an http or https URL")
    return text.rstrip("/")


def _passwords(url_of_server: str) -> tuple[str, ...]:
    try:
        return sentinel.secrets_in(urlsplit(url_of_server))
    except ValueError:
        return ()


def split_url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Wrong("is not a URL") from None
    if not parts.scheme or not parts.hostname or port == 0 or re.search(r"\s", text):
        raise Wrong("is not a URL")
    return parts


def database_url(text: str) -> str:
    """Check a PostgreSQL URL, by host or by socket (postgres://user@/name?host=/directory)."""
    if text.partition("://")[0] not in POSTGRES:
        raise Wrong("has to begin with postgres://; leave it out for SQLite under var/")
    try:
        config = Env.db_url_config(text)
    except (ValueError, TypeError):
        raise Wrong("is not a URL") from None
    if not config["NAME"]:
        raise Wrong("names no database: postgres://user:password@host:5432/name")
    return text


def is_one_server(url: str, other: str) -> bool:
    """Return whether two URLs of PostgreSQL lead to the same host or socket, and port."""
    return _server(url) == _server(other)


def _server(url: str) -> tuple[str, str]:
    config = Env.db_url_config(url)
    options = config.get("OPTIONS", {})
    return str(options.get("host") or config["HOST"]), str(options.get("port") or config["PORT"] or 5432)


def redis_url(text: str, *, password_needed: bool) -> str:
    """Return the broker's URL, whose path is always the number of its database."""
    # The URL parser does not read several hosts, so a Sentinel address has a parser of its own.
    parts = _sentinel_parts(text) if sentinel.is_sentinel(text) else split_url(text)
    number_of_database = parts.path.strip("/") or "0"
    if parts.scheme not in ("redis", "rediss", sentinel.SCHEME):
        raise Wrong("has to begin with redis://, rediss:// or sentinel://")
    if not number_of_database.isdigit() or int(number_of_database) not in BROKER_DATABASES:
        raise Wrong("has to end with the number of a database from 0 to 14, like /0; the cache takes the next one")
    # Anyone who reaches Redis can put tasks and cached answers into it.
    if password_needed and not parts.password and not set(sentinel.hosts_of(text)).issubset(LOOPBACK):
        example = sentinel.EXAMPLE if sentinel.is_sentinel(text) else "redis://:password@host:6379/0"
        raise Wrong(f"needs a password on another machine: {example}")
    return parts._replace(path=f"/{int(number_of_database)}").geturl()


def _sentinel_parts(text: str) -> SplitResult:
    try:
        sentinel.Sentinels.parse(text)
        return urlsplit(text)
    except ValueError as err:
        raise Wrong(str(err)) from None


def next_database(url_of_broker: str) -> str:
    parts = urlsplit(url_of_broker)
    return parts._replace(path=f"/{int(parts.path[1:]) + 1}").geturl()


def mail_url(text: str, *, known: tuple[str, ...]) -> dict[str, Any]:
    """Return Django's EMAIL_… settings."""
    scheme = text.partition("://")[0]
    if scheme not in known:
        raise Wrong(f"has to begin with one of {', '.join(f'{word}://' for word in known)}")
    if provider := PROVIDERS.get(scheme):
        return _provider_of_mail(provider, split_url(text))
    if scheme in SMTP:
        split_url(text)  # django-environ would take one without a host
    config: dict[str, Any] = Env.email_url_config(text)
    return config | {"EMAIL_BACKEND": "bitloot.core.smtp.EmailBackend"} if scheme in SMTP else config


def _provider_of_mail(provider: Provider, url: SplitResult) -> dict[str, Any]:
    if not url.password or (provider.user and not url.username):
        raise Wrong("needs the provider's key: anymail+NAME://USER:KEY@HOST")
    if url.port or url.path.strip("/") or url.query:
        raise Wrong("ends with the provider's host: docs/mail.md has it for each")
    return {"EMAIL_BACKEND": provider.backend, "ANYMAIL": provider.settings(url), "PROVIDER": provider}


def sentry_dsn(text: str) -> str:
    from sentry_sdk.utils import BadDsn, Dsn  # only where it is used: it brings much along

    try:
        Dsn(text)
    except (BadDsn, ValueError):
        raise Wrong("is not a DSN; Sentry shows it in the project's settings") from None
    return text


def alert_urls(text: str) -> tuple[str, ...]:
    """Return the notifier URLs. A comma inside of one is not followed by the next scheme."""
    from apprise import Apprise  # only where it is used: it knows more than a hundred services

    found = tuple(part.strip() for part in re.split(r",\s*(?=[a-z][a-z0-9+.-]*://)", text) if part.strip())
    for position, target in enumerate(found, 1):
        if Apprise.instantiate(target, suppress_exceptions=True) is None:
            raise Wrong(f"number {position} is not a URL of apprise; its documentation lists one for each service")
    return found

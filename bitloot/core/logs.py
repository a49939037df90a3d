"""What a log line says besides its message, and what it never says.

A line reads `2026-01-31 12:00:00,000 INFO payments.sync request=… order=… client=… staff=… message`; a fact that is not
known is left out. With LOG_FORMAT=json it is an object of the same. This module is loaded before the apps are.

structlog would bring a second way of logging beside that of Django, Celery and every library; its context variables and
its JSON renderer are `about` and `JsonLine` here, and what must be ours anyway is the redaction.
"""

import json
import logging
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

HIDDEN = "[hidden]"
# In the order of a line.
FACTS = ("request", "order", "client", "staff", "key", "row")
_REQUEST_ID = re.compile("[0-9a-f]{32}")
_facts: ContextVar[dict[str, str]] = ContextVar("facts")

_SECRET_SHAPES = re.compile(
    r"""
    (?<=://)[^/\s@"']+(?=@)                                # user and password of a URL
    | (?<=signature=)[^&\s"'<>]+ | (?<=credential=)[^&\s"'<>]+   # a signed link, ours or R2's
    | [0-9a-f]{8}\.[\w-]{43}(?![\w-])                      # what bitloot.core.signing makes: tokens, codes, links
    | blk_[0-9a-f]{8}_[\w-]+ | whsec_[\w+/=]+              # an API key, a webhook's secret
    | (?<=bearer\s)\S+ | (?<=token\s)\S{40,} | (?<=basic\s)\S{8,}  # the Authorization header
    | (?<![\w-])[a-z0-9]{4,6}(?:-[a-z0-9]{4,6}){2,}(?![\w-])   # a licence key's usual shape, which no UUID has
    | (?:"[^"\s]+"|[^\s@<>"'=:,;()\[\]{}]+)(?=@[\w-]+\.[\w.-]+)   # an e-mail address, but for its domain
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Redactor:
    """Hides what must stand in no log and no report: our secrets by value, everything else by its shape."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one secret may begin with another, and its end would stay.
        known = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        if self._known:
            text = self._known.sub(HIDDEN, text)
        return _SECRET_SHAPES.sub(HIDDEN, text)


@contextmanager
def about(**facts: object) -> Iterator[None]:
    """Add these facts to every line that this thread logs inside of the block; empty ones count for nothing."""
    before = _facts.set({**known_facts(), **_texts(facts)})
    try:
        yield
    finally:
        _facts.reset(before)


def note(**facts: object) -> None:
    """Add facts that became known inside of an `about` block, until its end. Outside of one nothing happens."""
    if _facts.get(None) is not None:
        _facts.set({**known_facts(), **_texts(facts)})


def current_request() -> uuid.UUID | None:
    """Return the request that this thread works for, as rows of work keep it for the next one."""
    text = known_facts().get("request", "")
    return uuid.UUID(text) if _REQUEST_ID.fullmatch(text) else None


def known_facts() -> dict[str, str]:
    return _facts.get({})


def _texts(facts: dict[str, object]) -> dict[str, str]:
    # White space would end the value, and a line break the line.
    return {name: "_".join(str(value).split()) for name, value in facts.items() if value}


class Facts(logging.Filter):
    """Gives each record the facts of the thread that logs it: as a text, and apart for JSON."""

    def filter(self, record: logging.LogRecord) -> bool:
        facts = known_facts()
        # Django logs the answer of a request after the outermost middleware, and with it our block, has ended.
        if not facts and (request_id := getattr(getattr(record, "request", None), "request_id", "")):
            facts = {"request": request_id}
        known = {name: facts[name] for name in FACTS if name in facts}
        record.members = known
        record.facts = "".join(f" {name}={fact}" for name, fact in known.items())
        return True


class Line(logging.Formatter):
    """One line, so that nobody's text can pretend to be another; only a traceback has more. Secrets are hidden."""

    def __init__(self, *, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(message)s")
        self._redacted = Redactor(secrets)

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self.formatTime(record)} {record.levelname} {record.name}{getattr(record, 'facts', '')}"
        return f"{head} {self._redacted(super().format(record))}"

    def formatMessage(self, record: logging.LogRecord) -> str:
        return "\\n".join(super().formatMessage(record).splitlines())


class JsonLine(logging.Formatter):
    """The same as one JSON object a line, for those who collect logs; a traceback is one of its members."""

    def __init__(self, *, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(message)s")
        self._redacted = Redactor(secrets)

    def format(self, record: logging.LogRecord) -> str:
        members: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            **getattr(record, "members", {}),
            "message": self._redacted(record.getMessage()),
        }
        if record.exc_info:
            members["traceback"] = self._redacted(self.formatException(record.exc_info))
        # What a call says of itself: logger.info(…, extra={"call": {…}}).
        return json.dumps(members | getattr(record, "call", {}), ensure_ascii=False)

"""Writes docs/configuration.md from .env.example: `python -m tools.dev.configuration`."""

import re
from collections.abc import Iterator

from tools.dev.devenv import ROOT

TARGET = ROOT / "docs" / "configuration.md"
GROUP = re.compile(r"# --- (.+)")
VARIABLE = re.compile(r"(#?)([A-Z][A-Z0-9_]+)=(.*)")
HEAD = """# Configuration

<!-- Written by `python -m tools.dev.configuration` from .env.example. -->

Everything is read from the environment, or from `.env` beside `manage.py`. **Bold** variables are required. Every value
is checked at the start: a process with a wrong one names all that are wrong and ends with exit code 1. A name that
begins like one of these and is not one is pointed out and ignored.

- `NAME_FILE` names a file that holds the value of `NAME`, without its last newline: for secrets of Docker or systemd.
- Booleans are `1`, `0`, `true`, `false`, `yes`, `no`, `on`, `off`.
- Secrets of your own have at least 43 characters (`SECRET_KEY` 50, `METRICS_TOKEN` 32), 8 different ones, and are not a
  piece that repeats. No two are equal, former values in `…_FALLBACKS` included. One is made by
  `python -c "import secrets; print(secrets.token_urlsafe(50))"`.
- Redis holds two things apart: with `REDIS_URL=redis://:password@host:6379/0` messages are in database 0 and the cache
  is in database 1. The number may be 0 to 14.
- `ALERT_URL` takes the URLs of [apprise](https://github.com/caronc/apprise), which knows Slack, Discord, Telegram,
  webhooks and a hundred more. Its URLs hold tokens, so logs and pages show the service and a mark only.
"""


def render() -> str:
    return HEAD + "".join(f"{line}\n" for line in _lines((ROOT / ".env.example").read_text()))


def _lines(example: str) -> Iterator[str]:
    comment: list[str] = []
    for line in example.partition("\n\n")[2].splitlines():
        if group := GROUP.fullmatch(line):
            yield from ("", f"## {group[1]}", "", "| variable | default | |", "|---|---|---|")
        elif variable := VARIABLE.fullmatch(line):
            yield _row(variable[2], variable[3], " ".join(comment), optional=bool(variable[1]))
            comment = []
        elif line:
            comment.append(line.removeprefix("#").strip())


def _row(name: str, default: str, comment: str, *, optional: bool) -> str:
    shown = f"`{name}`" if optional else f"**`{name}`**"
    meaning = comment.removeprefix("(*) ").replace("|", "\\|").replace("<", "&lt;")
    return f"| {shown} | {f'`{default}`' if default else ''} | {meaning} |"


if __name__ == "__main__":
    TARGET.write_text(render())

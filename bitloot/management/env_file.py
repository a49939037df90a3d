"""An `.env` made from .env.example: its comments stay, values are filled in, and the settings themselves judge it."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LINE = re.compile(r"(#?)([A-Z][A-Z0-9_]+)=(.*)")
# What django-environ, docker compose and systemd each read in a way of their own.
_AMBIGUOUS = re.compile(r"""["'\\$`\n]|\s#|^\s|\s$""")
_WRONG = re.compile(r"^  - (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Variable:
    name: str
    explanation: str
    is_required: bool


def variables(example: str) -> list[Variable]:
    found, comment = list[Variable](), list[str]()
    # The head, up to the first empty line, is about the file itself.
    for line in example.partition("\n\n")[2].splitlines():
        if match := _LINE.fullmatch(line):
            text = " ".join(comment)
            found.append(Variable(match[2], text.removeprefix("(*) "), text.startswith("(*)")))
            comment = []
        elif line.startswith("# ---"):
            comment = []
        elif line:
            comment.append(line.removeprefix("#").strip())
    return found


def values(text: str) -> dict[str, str]:
    """Return what an `.env` of ours sets."""
    lines = (_LINE.fullmatch(line) for line in text.splitlines())
    return {line[2]: line[3] for line in lines if line and not line[1] and line[3]}


def filled_in(example: str, given: Mapping[str, str]) -> str:
    def line(match: re.Match[str]) -> str:
        return f"{match[2]}={given[match[2]]}" if given.get(match[2]) else match[0]

    return re.sub(rf"^{_LINE.pattern}$", line, example, flags=re.MULTILINE)


def objection(value: str) -> str:
    """Return why a value cannot stand in the file, whatever it means, or ""."""
    if _AMBIGUOUS.search(value):
        return "has a quote, a backslash, a $ or a # in it; write such characters of a password in a URL as %XX"
    return ""


def wrong(text: str, *, elsewhere: Mapping[str, str]) -> list[str]:
    """Return what the settings find wrong with this file; `elsewhere` is what they will find in other places."""
    with tempfile.TemporaryDirectory() as var:
        draft = Path(var, "draft.env")
        draft.write_text(text)
        # What the file names is judged by the file alone, without what this process has in its environment.
        ours = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
        inherited = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in ours}
        inherited.pop("BITLOOT_BUILDING", None)  # with it the settings demand no secret
        env = inherited | dict(elsewhere) | {"BITLOOT_ENV_FILE": str(draft), "BITLOOT_VAR": var}
        # A process of its own: the settings are read once in each, when they are imported.
        check = [sys.executable, "-c", "import bitloot.settings"]
        done = subprocess.run(check, cwd=ROOT, env=env, capture_output=True, text=True, check=False)  # noqa: S603
    return (_WRONG.findall(done.stderr) or [done.stderr.strip()]) if done.returncode else []


def write(path: Path, text: str) -> None:
    """Replace the file at once, readable by its owner alone."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

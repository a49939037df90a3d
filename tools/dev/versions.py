"""`make test-matrix`: the quick tests on each Python of this machine, with each Django that it can run.

    python -m tools.dev.versions                            all of them, then what is held back
    python -m tools.dev.versions --only 3.13/6.1            one of them
    python -m tools.dev.versions --only celery              is what requirements.in holds back still in need of it?
    python -m tools.dev.versions --only 3.13/6.1 TEST…      other tests

Each has a throw-away environment under var/versions/, with the locked versions of everything else.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.dev.devenv import ROOT

FOLDER = ROOT / "var" / "versions"
LOCKED = (ROOT / "requirements.txt", ROOT / "requirements-dev.txt")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Django, and the first Python that it runs on. The first one is what requirements.txt locks.
DJANGOS = {"5.2": (3, 11), "6.0": (3, 12), "6.1": (3, 12)}
SLOW = "chaos or production or browser or nginx or npm or postgres or redis"
UV = [sys.executable, "-m", "uv"]


@dataclass(frozen=True)
class Choice:
    """An environment to try: a Python, and what is taken instead of the locked versions."""

    name: str
    python: str
    instead: tuple[str, ...]  # "django~=6.1.0", or a bare name: the newest there is
    tests: tuple[str, ...] = ("-m", f"not ({SLOW})")
    is_held_back: bool = False

    @property
    def folder(self) -> Path:
        return FOLDER / self.name.replace("/", "-")


# What requirements.in holds back for a reason, and the tests that fail for as long as it holds.
_BROKER = ("bitloot/tests/test_broker_restart.py", "bitloot/tests/test_broker_trouble.py")
HELD_BACK = (Choice("celery", "3.11", ("celery", "kombu", "redis"), _BROKER, True),)


def choices() -> Iterator[Choice]:
    for python in PYTHONS:
        for django, least in DJANGOS.items():
            if tuple(map(int, python.split("."))) >= least:
                yield Choice(f"{python}/{django}", python, (f"django~={django}.0",))
    yield from HELD_BACK


def find_python(version: str) -> str | None:
    """Look on the PATH, and where pyenv and uv keep theirs."""
    homes = (Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python")
    kept = [path for home in homes for path in sorted(home.glob(f"*{version}.*/bin/python3"), reverse=True)]
    for program in (shutil.which(f"python{version}"), *map(str, kept)):
        # pyenv's stand-ins on the PATH are there for versions that they refuse to start.
        if program and _answers([program, "-c", "import ssl, sqlite3"]):
            return program
    return None


def install(choice: Choice, python: str) -> Path:
    """Return the Python of the environment, made anew if it is older than the locked versions."""
    own, stamp = choice.folder / "bin" / "python", choice.folder / "installed"
    if stamp.exists() and stamp.stat().st_mtime > max(path.stat().st_mtime for path in LOCKED):
        return own
    subprocess.run([*UV, "venv", "--quiet", "--clear", "--python", python, str(choice.folder)], check=True)
    names = {re.split("[~=]", each)[0] for each in choice.instead}
    for source in ROOT.glob("requirements*.in"):  # with those that these two include
        lines = source.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("-c ") and re.split(r"[~=\[\s]", line)[0] not in names]
        (choice.folder / source.name).write_text("".join(kept))
    (choice.folder / "instead.in").write_text("".join(f"{each}\n" for each in choice.instead))
    (choice.folder / "constraints.txt").write_text("".join(f"{line}\n" for line in _locked_but(names)))
    files = [part for name in ("requirements.in", "requirements-dev.in", "instead.in") for part in ("-r", name)]
    command = [*UV, "pip", "install", "--quiet", "--python", str(own), "--constraint", "constraints.txt", *files]
    subprocess.run(command, cwd=choice.folder, check=True)
    stamp.touch()
    return own


def run(choice: Choice, python: Path, tests: list[str]) -> str:
    """Return the last line that pytest printed, after what it means."""
    print(f"\n=== {choice.name}", flush=True)
    command = [str(python), "-m", "pytest", "-q", "--no-header", "--no-cov", "-n", "2", *choice.tests, *tests]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        lines = []
        for line in running.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.strip())
    verdict = next((line for line in reversed(lines) if line), "no answer")
    if choice.is_held_back:
        return ("still needed: " if running.returncode else "MAY GO from requirements.in: ") + verdict
    return ("FAILED: " if running.returncode else "ok: ") + verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[choice.name for choice in choices()])
    parser.add_argument("tests", nargs="*", help="for pytest")
    asked = parser.parse_args()
    results: dict[str, str] = {}
    for choice in choices():
        if asked.only in (None, choice.name):
            python = find_python(choice.python)
            tried = run(choice, install(choice, python), asked.tests) if python else "NOT RUN: this Python is not here"
            results[choice.name] = tried
    print("\n=== Python/Django, and what is held back")
    for name, verdict in results.items():
        print(f"{name}: {verdict}")
    sys.exit(any(verdict.startswith("FAILED") for verdict in results.values()))


def _answers(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _locked_but(names: set[str]) -> Iterator[str]:
    pinned = re.compile(r"^([\w.-]+)(?:\[.*\])?==(\S+)( ;.*)? \\$", re.MULTILINE)
    for path in LOCKED:
        for name, version, marker in pinned.findall(path.read_text()):
            if name not in names:
                yield f"{name}=={version}{marker}"


if __name__ == "__main__":
    main()

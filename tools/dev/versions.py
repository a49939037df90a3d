"""`make test-matrix`: the quick tests on each Python of this machine, with each Django that it can run.

    python -m tools.dev.versions                          all of them
    python -m tools.dev.versions --only 3.13/6.1          one of them
    python -m tools.dev.versions -- orders/tests/test_x.py  other tests

Each pair has a throw-away environment under var/versions/. The locked versions are used wherever they fit.
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
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Django, and the first Python that it runs on. The first one is what requirements.txt locks.
DJANGOS = {"5.2": (3, 11), "6.0": (3, 12), "6.1": (3, 12)}
SLOW = "chaos or production or browser or nginx or npm or postgres or redis"
UV = [sys.executable, "-m", "uv"]


@dataclass(frozen=True)
class Pair:
    python: str
    django: str

    @property
    def folder(self) -> Path:
        return FOLDER / f"python{self.python}-django{self.django}"

    def __str__(self) -> str:
        return f"Python {self.python}, Django {self.django}"


def pairs() -> Iterator[Pair]:
    for python in PYTHONS:
        for django, least in DJANGOS.items():
            if tuple(map(int, python.split("."))) >= least:
                yield Pair(python, django)


def find_python(version: str) -> str | None:
    """Look on the PATH, and where pyenv and uv keep theirs."""
    homes = (Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python")
    kept = [path for home in homes for path in sorted(home.glob(f"*{version}.*/bin/python3"), reverse=True)]
    for program in (shutil.which(f"python{version}"), *map(str, kept)):
        # pyenv's stand-ins on the PATH are there for versions that they refuse to start.
        if (
            program
            and subprocess.run([program, "-c", "import ssl, sqlite3"], capture_output=True, check=False).returncode == 0
        ):
            return program
    return None


def install(pair: Pair, python: str) -> Path:
    """Return the Python of the pair's environment, made if it is not there or older than the locked versions."""
    own, stamp = pair.folder / "bin" / "python", pair.folder / "installed"
    locked = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"]
    if stamp.exists() and stamp.stat().st_mtime > max(path.stat().st_mtime for path in locked):
        return own
    subprocess.run([*UV, "venv", "--quiet", "--clear", "--python", python, str(pair.folder)], check=True)
    (pair.folder / "constraints.txt").write_text("".join(f"{line}\n" for line in _constraints(locked)))
    (pair.folder / "override.txt").write_text(f"django~={pair.django}.0\n")
    command = [*UV, "pip", "install", "--quiet", "--python", str(own), "--override", "override.txt"]
    command += ["--constraint", "constraints.txt", "-r", str(ROOT / "requirements.in"), "-r", "dev.in"]
    # Its own constraint is requirements.txt, and that is what this environment differs from.
    (pair.folder / "dev.in").write_text((ROOT / "requirements-dev.in").read_text().replace("-c requirements.txt\n", ""))
    subprocess.run(command, cwd=pair.folder, check=True)
    stamp.touch()
    return own


def run(pair: Pair, python: Path, tests: list[str]) -> str:
    """Return the last line of pytest, with "FAILED" before it if it is not a good one."""
    print(f"\n=== {pair}", flush=True)
    command = [str(python), "-m", "pytest", "-q", "--no-header", "--no-cov", "-n", "2", "-m", f"not ({SLOW})", *tests]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            print(line, end="", flush=True)
            lines.append(line.strip())
    verdict = next((line for line in reversed(lines) if line), "no answer")
    return verdict if running.returncode == 0 else f"FAILED {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="PYTHON/DJANGO, such as 3.13/6.1")
    parser.add_argument("tests", nargs="*", help="for pytest")
    asked = parser.parse_args()
    results: dict[Pair, str] = {}
    for pair in pairs():
        if asked.only and asked.only != f"{pair.python}/{pair.django}":
            continue
        python = find_python(pair.python)
        results[pair] = run(pair, install(pair, python), asked.tests) if python else "NOT RUN: this Python is not here"
    print("\n=== Versions")
    for pair, verdict in results.items():
        print(f"{pair}: {verdict}")
    sys.exit(1 if not results or any(verdict.startswith("FAILED") for verdict in results.values()) else 0)


def _constraints(locked: list[Path]) -> Iterator[str]:
    for path in locked:
        for name, version, marker in re.findall(
            r"^([\w.-]+)(?:\[.*\])?==(\S+)( ;.*)? \\$", path.read_text(), re.MULTILINE
        ):
            if name != "django":
                yield f"{name}=={version}{marker}"


if __name__ == "__main__":
    main()

"""What Dockerfile and docker-compose.yml say, read and re-enacted without a container engine."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import yaml

from tools.dev.devenv import ROOT


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def command_of(service: str) -> list[str]:
    """Return what compose would run in the service's container, in words."""
    said = compose()["services"][service].get("command")
    if said is None:
        return instructions("shop")[-1][1]
    words = shlex.split(said) if isinstance(said, str) else said
    return [word.replace("$$", "$") for word in words]


def instructions(target: str) -> list[tuple[str, Any]]:
    """Return the Dockerfile's instructions for one target, those of the stages it stands on first; JSON as lists."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, list[tuple[str, Any]]] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = current = list(stages.get(base, []))
        elif word:
            listed = rest.lstrip().startswith("[")
            current.append((word, [str(part) for part in yaml.safe_load(rest)] if listed else rest))
    return stages[target]


def build(target: str, folder: Path) -> None:
    """Do the COPY lines of one target, with what .dockerignore leaves of this folder."""
    for word, rest in instructions(target):
        if word == "COPY":
            *sources, destination = rest.split()
            for source in sources:
                _copy(source, folder, destination)


def _copy(source: str, folder: Path, destination: str) -> None:
    """COPY puts a file into a folder, and the content of a folder into one of the new name."""
    assert source in _sent(), f".dockerignore keeps {source} from the build"
    (folder / destination).parent.mkdir(parents=True, exist_ok=True)
    if (ROOT / source).is_dir():
        shutil.copytree(ROOT / source, folder / destination, ignore=shutil.ignore_patterns(*_held_back()))
    else:
        shutil.copy(ROOT / source, folder / destination)


def _sent() -> set[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


def _held_back() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.removeprefix("**/") for line in lines if line.startswith("**/")]

"""The committed OpenAPI document, docs/openapi.yaml: `make openapi` writes it anew.

    python -m tools.dev.openapi                   write it
    python -m tools.dev.openapi --check           is it still what the code says, and are breaking changes named?
    python -m tools.dev.openapi --changes [BASE]  what changed for callers since BASE, a commit; else the last release

The servers, names and addresses in it are those of an example, whatever shop made it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.dev.devenv import ROOT, process_environment

DOCUMENT = ROOT / "docs" / "openapi.yaml"
CHANGELOG = ROOT / "CHANGELOG.md"
HEADING = "### API changes"
EXAMPLE = {
    "SITE_URL": "https://shop.example",
    "ALLOWED_HOSTS": "shop.example",
    "STORE_NAME": "Example Shop",
    "SUPPORT_EMAIL": "help@shop.example",
    "KINGUIN_API": "ecommerce",
}
DRIFTED = "docs/openapi.yaml is not what the code says. Run `make openapi`, and look at `make openapi-changes`."


@dataclass(frozen=True)
class Change:
    breaking: bool
    route: str  # GET /api/products
    what: str


def make_document() -> str:
    """Return the document as another process makes it; a warning is an error."""
    with tempfile.TemporaryDirectory(prefix="bitloot-openapi-") as folder:
        target = Path(folder) / "openapi.yaml"
        environment = process_environment(Path(folder) / "development", port=8000, sandbox_port=8001, **EXAMPLE)
        command = [sys.executable, "manage.py", "spectacular", "--validate", "--fail-on-warn", "--file", str(target)]
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            sys.exit("The document has warnings; see above.")
        return target.read_text("utf-8")


def changes_between(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Return what differs for callers, without repetition. Needs node_modules (`npm ci`)."""
    with tempfile.TemporaryDirectory(prefix="bitloot-openapi-") as folder:
        paths = [Path(folder) / "before.json", Path(folder) / "after.json"]
        for path, document in zip(paths, (before, after), strict=True):
            path.write_text(json.dumps(document))
        command = ["node", "tools/dev/openapi_changes.mjs", *map(str, paths)]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return list(dict.fromkeys(Change(**json.loads(line)) for line in said.splitlines()))


def unnamed(changes: Iterable[Change], changelog: str) -> list[str]:
    """Return the routes with a breaking change that the newest “API changes” does not name."""
    newest = changelog.partition("\n## ")[2].partition("\n## ")[0].partition(HEADING)[2].partition("\n### ")[0]
    return sorted({change.route for change in changes if change.breaking and f"`{change.route}`" not in newest})


def last_release() -> str | None:
    """Return the newest tag that has a document, if anything was released."""
    tags = _git("tag", "--list", "v*", "--sort=-version:refname").split()
    return next((tag for tag in tags if _document_at(tag) is not None), None)


def check() -> str | None:
    """Return what is wrong, or None."""
    now = make_document()
    if DOCUMENT.read_text("utf-8") != now:
        return DRIFTED
    release = last_release()
    if release is None or not shutil.which("node") or not (ROOT / "node_modules").is_dir():
        return None
    changes = changes_between(yaml.safe_load(_document_at(release) or ""), yaml.safe_load(now))
    if missing := unnamed(changes, CHANGELOG.read_text("utf-8")):
        return f"Breaking since {release}, and not named under “{HEADING}” of CHANGELOG.md: {', '.join(missing)}"
    return None


def print_changes(base: str) -> None:
    before = _document_at(base)
    if before is None:
        sys.exit(f"{base} has no docs/openapi.yaml.")
    changes = changes_between(yaml.safe_load(before), yaml.safe_load(make_document()))
    for title, is_breaking in (("Breaking", True), ("Also new", False)):
        print(f"{title} since {base}:")
        print(
            "\n".join(f"- `{one.route}`: {one.what}" for one in changes if one.breaking is is_breaking) or "- nothing"
        )


def main() -> None:
    match sys.argv[1:]:
        case ["--check"]:
            sys.exit(check())
        case ["--changes", *base]:
            print_changes(base[0] if base else last_release() or "HEAD")
        case _:
            DOCUMENT.write_text(make_document(), "utf-8")
            print(f"{os.path.relpath(DOCUMENT)} is what the code says.")


def _document_at(commit: str) -> str | None:
    return _git("show", f"{commit}:docs/openapi.yaml") or None


def _git(*arguments: str) -> str:
    """Return what git says, nothing if it has no answer or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    main()

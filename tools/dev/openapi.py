"""Writes docs/openapi.yaml, what this version's API is: `make openapi`. With --check: is it still that?

The servers, names and addresses in it are those of an example, whatever shop made it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.dev.devenv import ROOT, process_environment

DOCUMENT = ROOT / "docs" / "openapi.yaml"
EXAMPLE = {
    "SITE_URL": "https://shop.example",
    "ALLOWED_HOSTS": "shop.example",
    "STORE_NAME": "Example Shop",
    "SUPPORT_EMAIL": "help@shop.example",
}
OUT_OF_DATE = (
    "docs/openapi.yaml is not what the code says. Run `make openapi`, and write into CHANGELOG.md, under “API changes”,"
    " what `make openapi-changes` prints."
)


def make_document() -> str:
    """Return the document as another process makes it, with a warning as an error."""
    with tempfile.TemporaryDirectory(prefix="bitloot-openapi-") as folder:
        target = Path(folder) / "openapi.yaml"
        environment = process_environment(Path(folder) / "development", port=8000, sandbox_port=8001, **EXAMPLE)
        command = [sys.executable, "manage.py", "spectacular", "--validate", "--fail-on-warn", "--file", str(target)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        return target.read_text("utf-8")


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        sys.exit(None if DOCUMENT.read_text("utf-8") == make_document() else OUT_OF_DATE)
    DOCUMENT.write_text(make_document(), "utf-8")
    print(f"{os.path.relpath(DOCUMENT)} is what the code says.")


if __name__ == "__main__":
    main()

"""`make docs`: the documents as a site, var/site/. A dead link, a missing anchor and a page in no menu are errors."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.dev import node
from tools.dev.devenv import ROOT

SOURCE = ROOT / "var" / "docs"
CONFIG = ROOT / "mkdocs.yml"
MERMAID = node.PACKAGES / "@mermaid-js" / "tiny" / "dist" / "mermaid.tiny.js"
# Pages that stand beside their code, each with the link in it that its place in the site changes.
BESIDE_CODE = {
    "sdk/python.md": ("sdk/python/README.md", "](../../README.md)", "](../index.md)"),
    "sdk/typescript.md": ("sdk/typescript/README.md", "](../../README.md)", "](../index.md)"),
}


def gather() -> None:
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE)
    for target, (source, link, instead) in BESIDE_CODE.items():
        (SOURCE / target).parent.mkdir(exist_ok=True)
        (SOURCE / target).write_text((ROOT / source).read_text("utf-8").replace(link, instead), "utf-8")
    if MERMAID.exists():
        (SOURCE / "assets").mkdir()
        shutil.copy(MERMAID, SOURCE / "assets" / "mermaid.js")


def not_in_the_menu() -> list[str]:
    named = set(re.findall(r": (\S+\.md)$", CONFIG.read_text("utf-8"), re.MULTILINE))
    return sorted({str(page.relative_to(SOURCE)) for page in SOURCE.rglob("*.md")} ^ named)


def main() -> None:
    if why := node.missing():
        print(f"SKIPPED  the site's own copy of mermaid, so its diagrams need the network: {why}")
    gather()
    if wrong := not_in_the_menu():
        sys.exit(f"Either only in the menu of mkdocs.yml or only a page: {', '.join(wrong)}")
    how = ["serve"] if "--serve" in sys.argv[1:] else ["build", "--clean", "--strict"]
    done = subprocess.run([str(Path(sys.executable).parent / "zensical"), *how], cwd=ROOT, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()

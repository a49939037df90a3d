"""`make sdk`: generates the typed clients of docs/openapi.yaml beside the hand-written opening of keys.

    python -m tools.dev.sdk [--into FOLDER]   sdk/python/bitloot_client/rest and sdk/typescript/{src/schema.ts,dist}

What it writes is not in Git. The TypeScript client needs Node.js and `npm ci`.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tools.dev import node
from tools.dev.devenv import ROOT

DOCUMENT = ROOT / "docs" / "openapi.yaml"
SDK = ROOT / "sdk"


def without_optional_keys() -> str:
    """Return the document for a generator to which any key that a route takes is one that it needs."""
    document = yaml.safe_load(DOCUMENT.read_text("utf-8"))
    for methods in document["paths"].values():
        for operation in methods.values():
            if {} in operation["security"]:
                operation["security"] = []
    return json.dumps(document)


def make_python(folder: Path) -> None:
    source = folder / "openapi.json"
    source.write_text(without_optional_keys(), "utf-8")
    package = folder / "python" / "bitloot_client" / "rest"
    command = [str(Path(sys.executable).parent / "openapi-python-client"), "generate", "--path", str(source)]
    command += ["--config", str(SDK / "python" / "openapi-python-client.yaml"), "--meta", "none", "--fail-on-warning"]
    subprocess.run([*command, "--output-path", str(package), "--overwrite"], cwd=folder, check=True)
    source.unlink()


def make_typescript(folder: Path) -> None:
    """Generate the types, and compile them with the rest: this is the type check, too."""
    target = folder / "typescript" / "src" / "schema.ts"
    node.run("openapi-typescript", str(DOCUMENT), "--output", str(target))
    node.run("tsc", "--project", str(folder / "typescript"))


def copy_sources(folder: Path) -> None:
    """Copy what is written by hand, with the packages of node in reach."""
    written = shutil.ignore_patterns("rest", "dist", "schema.ts", "__pycache__")
    shutil.copytree(SDK, folder, ignore=written, dirs_exist_ok=True)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(node.PACKAGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=SDK, help="another folder, which gets a copy of sdk/ first")
    folder = parser.parse_args().into.resolve()
    if folder != SDK:
        copy_sources(folder)
    make_python(folder)
    if why := node.missing():
        print(f"SKIPPED  the TypeScript client: {why}")
    else:
        make_typescript(folder)
    print(f"The clients are in {folder}; each has a README.md.")


if __name__ == "__main__":
    main()

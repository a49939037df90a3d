"""The supply chain, as part of `make check`: locked and hashed requirements, a bill of materials, known holes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.dev.devenv import ROOT

BIN = Path(sys.executable).parent
LOCKED = ("requirements.txt", "requirements-traces.txt", "requirements-dev.txt")
SBOM = ROOT / "var" / "sbom.cdx.json"
AUDIT_SECONDS = 120


def check_supply_chain() -> bool:
    return all([hashes_are_complete(), bill_of_materials(), advisories()])


def hashes_are_complete() -> bool:
    """Every requirement has a version and a hash: pip refuses the rest, but only on the day of the installation."""
    bare = [line for name in LOCKED for line in without_hash((ROOT / name).read_text())]
    print(f"FAILED  hashes: `make lock` has to be run for {bare}" if bare else "ok  hashes of all requirements")
    return not bare


def without_hash(text: str) -> list[str]:
    entries = text.replace("\\\n", " ").splitlines()
    return [
        entry for entry in entries if entry.strip() and not re.match(r"[^=;]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry)
    ]


def bill_of_materials() -> bool:
    """Write what the image holds as CycloneDX, and read it back: one component per locked requirement."""
    SBOM.parent.mkdir(parents=True, exist_ok=True)
    command = [str(BIN / "cyclonedx-py"), "requirements", "requirements.txt", "--output-reproducible"]
    command += ["--of", "JSON", "-o", str(SBOM)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    listed = {part["name"] for part in json.loads(SBOM.read_text())["components"]} if done.returncode == 0 else set()
    locked = set(re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    ok = bool(listed) and listed == locked
    print(f"ok  bill of materials: {len(listed)} components in {SBOM.relative_to(ROOT)}" if ok else _failed(done))
    return ok


def advisories() -> bool:
    """Look the locked versions up among the known holes. One not looked up is a loud skip, not "ok"."""
    command = [str(BIN / "pip-audit"), "--requirement", "requirements.txt", "--disable-pip", "--require-hashes"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=AUDIT_SECONDS)
        audited = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return _skipped(f"no answer within {AUDIT_SECONDS} s")
    except ValueError:
        return _skipped(done.stderr.strip()[-200:])
    return _judged(audited)


def _judged(audited: list[dict[str, Any]]) -> bool:
    holes = [f"{part['name']} {part['version']}: {hole['id']}" for part in audited for hole in part.get("vulns", [])]
    # pip-audit exits 0 over a package that the index it asked knows no advisories of, or does not know at all.
    unknown = [part for part in audited if "skip_reason" in part]
    if holes:
        print(f"FAILED  advisories: {holes}")
    elif unknown:
        return _skipped(f"{len(unknown)} of {len(audited)} packages: {unknown[0]['skip_reason']}")
    else:
        print(f"ok  advisories: none known for {len(audited)} locked packages")
    return not holes


def _skipped(why: str) -> bool:
    print(f"SKIPPED  advisories: could not be looked up, so NOTHING IS KNOWN about them ({why})")
    return True


def _failed(done: subprocess.CompletedProcess[str]) -> str:
    return f"FAILED  bill of materials\n{done.stdout}{done.stderr}"


if __name__ == "__main__":
    sys.exit(0 if check_supply_chain() else 1)

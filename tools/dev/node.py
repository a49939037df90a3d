"""Node's packages for development: linters of the API's document, the TypeScript client. Nothing of the shop."""

import fcntl
import shutil
import subprocess
from functools import cache

from tools.dev.devenv import ROOT

PACKAGES = ROOT / "node_modules"
LOCK = ROOT / "package-lock.json"
# Touched last: an installation that did not get here is done again.
INSTALLED = PACKAGES / ".installed"
PATIENCE = 180


@cache
def missing() -> str:
    """Install the locked packages if they are not there; return why they cannot be used, or nothing."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "no Node.js with npm here (Debian and Ubuntu: apt-get install nodejs npm)"
    # Steps of a check run beside each other: two installations at once would each remove what the other one writes.
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if INSTALLED.exists() and INSTALLED.stat().st_mtime >= LOCK.stat().st_mtime:
            return ""
        return _install()


def _install() -> str:
    # Without their installation scripts: none of these packages needs one.
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"`npm ci` took longer than {PATIENCE} s; is its registry within reach?"
    if done.returncode:
        return f"`npm ci` failed: {done.stderr.strip()[-300:]}"
    INSTALLED.touch()
    return ""


def run(program: str, *arguments: str) -> None:
    subprocess.run([str(PACKAGES / ".bin" / program), *arguments], cwd=ROOT, check=True)

"""Make `.venv` and install the pinned requirements into it; repair one that is half made or out of date.

Run by whatever `python3` the machine has, so that an old one gets a sentence instead of a SyntaxError.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "bitloot-stamp")
OLDEST = (3, 11)
RUNTIME, DEVELOPMENT = "requirements.txt", "requirements-dev.txt"


def main() -> None:
    _refuse_old_python()
    wanted = [RUNTIME, DEVELOPMENT] if "--dev" in sys.argv[1:] else [RUNTIME]
    installed = _installed()
    if all(installed.get(name) == _digest(name) for name in wanted):
        return
    if not installed:
        _make_venv()
    wanted = sorted(set(wanted) | (set(installed) & {DEVELOPMENT}))
    print("Installing " + " and ".join(wanted) + " into .venv ...", flush=True)
    _install(wanted)
    # Written last: without it the next run knows that this one did not get here.
    with open(STAMP, "w") as stamp:
        stamp.writelines(f"{name} {_digest(name)}\n" for name in wanted)


def _refuse_old_python() -> None:
    if sys.version_info < OLDEST:
        version = ".".join(map(str, sys.version_info[:3]))
        sys.exit(
            f"BitLoot needs Python 3.11 or newer; {sys.executable} is {version}.\n"
            "Install a newer one and name it: make install PYTHON=python3.12"
        )


def _installed() -> "dict[str, str]":
    """Return what the stamp says is installed; nothing if there is no usable, finished .venv of this folder."""
    try:
        with open(STAMP) as stamp:
            lines = dict(line.split() for line in stamp)
        works = subprocess.run([PYTHON, "-c", "import pip, django"], capture_output=True, check=False)
    except (OSError, ValueError):
        return {}
    return lines if works.returncode == 0 else {}


def _digest(name: str) -> str:
    place = f"{VENV}\n{os.path.realpath(PYTHON)}\n".encode()
    with open(os.path.join(ROOT, name), "rb") as file:
        return hashlib.sha256(place + file.read()).hexdigest()


def _make_venv() -> None:
    if os.path.lexists(VENV):
        print("The .venv here is not finished; making it anew.", flush=True)
        shutil.rmtree(VENV)
    made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    if "ensurepip" in made.stdout + made.stderr or "No module named venv" in made.stderr:
        sys.exit(
            f"{sys.executable} cannot make virtual environments: its venv module is missing.\n"
            "On Debian and Ubuntu: apt-get install python3-venv. Then run the command again."
        )
    sys.exit(f"Making .venv failed:\n{made.stdout}{made.stderr}")


def _install(names: "list[str]") -> None:
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--no-input", "--require-hashes"]
    command += ["--disable-pip-version-check"]
    for name in names:
        command += ["-r", os.path.join(ROOT, name)]
    if os.path.exists(STAMP):
        os.remove(STAMP)
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("pip could not install the requirements; its message is above. Run the command again to go on.")


if __name__ == "__main__":
    main()

"""The packages of package-lock.json: installed when somebody first needs them."""

import os

from bitloot.tests.parallel import at_once
from tools.dev import node

# Like `npm ci` it empties its folder first.
NPM = """#!/bin/sh
rm -rf node_modules && mkdir -p node_modules/one && sleep 0.3 && touch node_modules/one/package.json && echo >> runs
"""


def test_steps_beside_each_other_install_the_packages_once(tmp_path, monkeypatch):
    monkeypatch.setattr(node, "ROOT", tmp_path)
    monkeypatch.setattr(node, "PACKAGES", tmp_path / "node_modules")
    monkeypatch.setattr(node, "INSTALLED", tmp_path / "node_modules" / ".installed")
    monkeypatch.setattr(node, "LOCK", tmp_path / "package-lock.json")
    node.LOCK.write_text("{}")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, program in (("npm", NPM), ("node", "#!/bin/sh\n")):
        (programs / name).write_text(program)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    missing = node.missing.__wrapped__  # each step is a process, and remembers for itself
    assert at_once(missing, missing) == ["", ""]
    assert (tmp_path / "runs").read_text() == "\n"

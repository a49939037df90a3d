"""What lies under var/ is for the system user of the shop alone, whatever the shell's umask is."""

import stat
import subprocess
import sys

import pytest

from tools.dev.devenv import ROOT, process_environment

pytestmark = pytest.mark.once
STORE_A_KEY = """
from storage.tests.factories import make_key
from storage.services import upload
from storage.tests.factories import claim
upload(claim(make_key()))
"""


def test_database_mails_and_keys_are_private(tmp_path):
    var = tmp_path / "var"
    var.mkdir(mode=0o755)
    var.chmod(0o755)  # as an earlier version left it
    environment = process_environment(var, port=8000, sandbox_port=8001, DATABASE_URL="", REDIS_URL="")
    for arguments in (
        ["migrate", "--verbosity", "0"],
        ["sendtestemail", "ada@shop.example"],
        ["shell", "--verbosity", "0", "--command", STORE_A_KEY],
        ["collectstatic", "--no-input", "--verbosity", "0"],
    ):
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, umask=0o022)
    kept = {path.relative_to(var).parts[0] for path in var.rglob("*") if path.is_file()}
    assert {"bitloot.sqlite3", "mail", "objects", "dev.env"} <= kept
    open_to_others = [
        f"{path.relative_to(tmp_path)} {stat.filemode(path.stat().st_mode)}"
        for path in (var, *var.rglob("*"))
        if path.stat().st_mode & 0o077 and "static" not in path.parts
    ]
    assert open_to_others == []

"""`manage.py init_env`: without any setting it leads to an .env with which the settings start."""

import re
import stat
import subprocess
import sys

import pytest
import yaml

from bitloot.management import env_file
from bitloot.management.commands.init_env import AS_FILES, GENERATED, KEEP
from tools.dev.devenv import ROOT

pytestmark = pytest.mark.once
ANSWERS = {
    "ALLOWED_HOSTS": "shop.example", "STORE_NAME": "Key Corner", "EMAIL_URL": "smtp+tls://shop:w%24rd@mail.example:587",
    "STAFF_EMAIL": "ada@shop.example", "SITE_URL": "https://shop.example", "SUPPORT_EMAIL": "help@shop.example",
    "DEFAULT_FROM_EMAIL": "Key Corner <orders@shop.example>", "NOWPAYMENTS_API_KEY": "K4ZTQ2M-1NX4P7W-G2SR9YD",
    "NOWPAYMENTS_IPN_SECRET": "u7Xc2Lq9Vt4Rb8Zn1Ks6", "KINGUIN_API_KEY": "9d1f7a3c5b8e2046",
    "NOWPAYMENTS_BASE_URL": "https://api.nowpayments.io/v1", "TRUSTED_PROXIES": "1",
    "KINGUIN_BASE_URL": "https://gateway.kinguin.net/esa/api", "DATABASE_URL": "postgres://shop:x@db.example/shop",
}  # fmt: skip
NOTHING = {"PATH": "/usr/bin", "BITLOOT_ENV_FILE": "/nonexistent"}


def init_env(path, *options, typed="", answers=ANSWERS, code=0):
    given = [part for name, value in answers.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "manage.py", "init_env", "--path", str(path), *given, *options]
    env = NOTHING | {"BITLOOT_VAR": str(path.parent)}
    done = subprocess.run(command, cwd=ROOT, env=env, input=typed, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_file_is_written_that_the_settings_take_and_a_second_run_keeps(tmp_path):
    path = tmp_path / ".env"
    out = init_env(path, "--non-interactive")
    first = path.read_text()
    made = env_file.values(first)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made | ANSWERS == made
    assert set(made) == {*ANSWERS, *GENERATED}
    assert all(name in out for name in KEEP)
    assert f"webhook secret at Kinguin: {made['KINGUIN_WEBHOOK_SECRET']}" in out
    assert made["SECRET_KEY"] not in out
    start = [
        sys.executable,
        "-c",
        "import django; django.setup(); from django.conf import settings as s; print(s.STORE_NAME)",
    ]
    env = {"PATH": "/usr/bin", "BITLOOT_ENV_FILE": str(path), "DJANGO_SETTINGS_MODULE": "bitloot.settings"}
    started = subprocess.run(start, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (started.stdout, started.returncode) == ("Key Corner\n", 0), started.stderr

    init_env(path, "--non-interactive", answers={"STORE_NAME": "Key Market"})
    assert path.read_text() == first.replace("STORE_NAME=Key Corner", "STORE_NAME=Key Market")


def test_what_is_missing_or_wrong_is_named_and_nothing_is_written(tmp_path):
    path = tmp_path / ".env"
    out = init_env(path, "--non-interactive", answers={**ANSWERS, "STAFF_EMAIL": "ada", "SITE_URL": ""}, code=1)
    assert re.findall(r"  - (\w+)", out) == ["SITE_URL", "STAFF_EMAIL"]
    # Django 6.1 opens the database to see what SQLite can.
    assert {each.name for each in tmp_path.iterdir()} <= {"bitloot.sqlite3"}
    for odd in ("STOR_NAME=x", "STORE_NAME=a $HOME"):
        init_env(path, "--set", odd, code=64)


def test_it_asks_for_the_rest_and_again_for_what_is_wrong(tmp_path):
    answers = {name: value for name, value in ANSWERS.items() if name not in ("STORE_NAME", "STAFF_EMAIL", "SITE_URL")}
    # The shop's name, then in the order of .env.example: SITE_URL as proposed, no Redis, nobody, no R2, no ALERT_URL.
    typed = ["Key Corner", "", "", "nobody", "", "", "", "", "", "ada@shop.example"]
    out = init_env(tmp_path / ".env", typed="\n".join(typed) + "\n", answers=answers)
    assert "STAFF_EMAIL holds 'nobody', which is not an e-mail address" in out
    assert "SITE_URL [https://shop.example]: " in out
    made = env_file.values((tmp_path / ".env").read_text())
    assert [made[name] for name in ("SITE_URL", "STORE_NAME", "STAFF_EMAIL")] == [
        "https://shop.example", "Key Corner", "ada@shop.example",
    ]  # fmt: skip


def test_name_of_the_shop_is_asked_first_and_stands_in_the_sender_that_is_proposed(tmp_path):
    names = ("STORE_NAME", "ALLOWED_HOSTS", "SITE_URL", "DEFAULT_FROM_EMAIL", "SUPPORT_EMAIL")
    answers = {name: value for name, value in ANSWERS.items() if name not in names}
    out = init_env(tmp_path / ".env", typed="Key Market\nshop.example\n" + "\n" * 30, answers=answers)
    assert out.index("STORE_NAME") < out.index("ALLOWED_HOSTS")
    values = env_file.values((tmp_path / ".env").read_text())
    assert values["DEFAULT_FROM_EMAIL"] == "Key Market <orders@shop.example>"


def test_with_compose_what_is_a_file_is_left_out(tmp_path):
    answers = {name: value for name, value in ANSWERS.items() if name not in AS_FILES}
    init_env(tmp_path / ".env", "--non-interactive", "--secrets-as-files", answers=answers)
    assert set(env_file.values((tmp_path / ".env").read_text())) == {*answers, "METRICS_TOKEN"}
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    files = {name.removesuffix("_FILE") for name in compose["x-bitloot"]["environment"] if name.endswith("_FILE")}
    assert set(AS_FILES) == files

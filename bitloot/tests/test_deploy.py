"""What is shipped for a server, checked without a container engine: compose file, image, scripts and systemd units."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from django.core.management import get_commands

from bitloot.tests.proxy import write_certificate
from bitloot.tests.services import free_port, wait_until
from bitloot.tests.shipped import build, command_of, compose, instructions
from tools.dev.devenv import ROOT, contract_variables, process_environment
from tools.dev.services import find_program
from tools.dev.supply import without_hash

SERVICES = compose()["services"]
RUNNING = sorted(set(SERVICES) - {"migrate", "sandbox"})
OURS = ("migrate", "retention", "web", "worker", "beat")
# Of the compose specification, what we use. A typo would be ignored by nobody but us: compose refuses the file.
KEYS = {
    "build", "cap_add", "cap_drop", "command", "cpuset", "depends_on", "entrypoint", "env_file", "environment",
    "healthcheck", "image", "init", "logging", "network_mode", "networks", "ports", "profiles", "pull_policy",
    "read_only", "restart", "secrets", "security_opt", "shm_size", "stop_grace_period", "sysctls", "tmpfs", "user",
    "volumes",
}  # fmt: skip


def ran(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


# --- docker-compose.yml


def test_compose_accepts_the_file_where_there_is_compose():
    if not shutil.which("docker") or ran("docker", "compose", "version").returncode:
        pytest.skip("no docker compose here; the other tests read the file")
    done = ran("docker", "compose", "config", "--quiet")
    assert done.returncode == 0, done.stderr


def test_compose_file_names_only_what_it_defines():
    whole = compose()
    assert {key for key in whole if not key.startswith("x-")} == {"services", "networks", "volumes", "secrets"}
    for name, service in SERVICES.items():
        assert set(service) <= KEYS, name
        assert set(service.get("networks", [])) <= set(whole["networks"]), name
        assert set(service.get("secrets", [])) <= set(whole["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        named = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert {volume for volume in named if not volume.startswith(".")} <= set(whole["volumes"]), name
        for needed, how in service.get("depends_on", {}).items():
            healthy = (
                how["condition"] != "service_healthy" or needed == "web" or "test" in SERVICES[needed]["healthcheck"]
            )
            assert healthy, f"{name} would wait forever for {needed}"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_service_is_confined(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert set(service.get("cap_add", [])) <= {"CHOWN", "SETUID", "SETGID", "NET_BIND_SERVICE"}
    assert not service.get("cap_add") or name == "nginx"


def test_only_the_proxy_is_reachable_and_the_data_have_no_way_out():
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["nginx"]
    assert compose()["networks"]["back"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["back"]
    assert SERVICES["nginx"]["networks"] == ["front"]
    on_front = {name for name in RUNNING if "front" in SERVICES[name]["networks"]}
    assert on_front == {"nginx", "web"}


def test_secrets_are_files_that_the_shop_reads_and_no_variables():
    for name in OURS:
        service = SERVICES[name]
        files = {key: value for key, value in service["environment"].items() if key.endswith("_FILE")}
        assert set(files.values()) == {f"/run/secrets/{secret}" for secret in service["secrets"]}
        assert {key.removesuffix("_FILE") for key in files} <= set(contract_variables())
        assert set(service["environment"]) - set(files) == {"TRUSTED_PROXIES"}
    assert "PASSWORD:" not in (ROOT / "docker-compose.yml").read_text()


def test_only_what_migrates_and_forgets_is_the_owner_of_the_tables():
    owners = {name for name in SERVICES if "migrate_database_url" in SERVICES[name].get("secrets", [])}
    assert owners == {"migrate", "retention"}
    assert {*SERVICES["web"]["secrets"], "migrate_database_url"} == set(SERVICES["migrate"]["secrets"])


def test_images_have_exact_versions():
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    stages = re.findall(r" AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    images = [base for base in bases if base not in stages]
    images += [service["image"] for name, service in SERVICES.items() if name not in (*OURS, "sandbox")]
    assert [image for image in images if not re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*(@sha256:\w{64})?", image)] == []


def test_every_service_that_can_be_asked_has_a_health_check_and_none_is_switched_off():
    """`up --wait` fails if one is switched off, and takes a service that has none as ready when it runs."""
    assert {name for name in RUNNING if "healthcheck" not in SERVICES[name]} == {"worker", "retention", "certbot"}
    assert not [name for name in SERVICES if SERVICES[name].get("healthcheck", {}).get("disable")]
    assert "HEALTHCHECK" not in [word for word, _ in instructions("shop")], "all services of ours would inherit it"


def test_health_check_of_web_asks_under_a_name_of_the_shop():
    _, _, *words = SERVICES["web"]["healthcheck"]["test"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        words = [word.replace("8000", str(server.getsockname()[1])) for word in words]
        check = subprocess.Popen([sys.executable, *words], env={"ALLOWED_HOSTS": ".shop.example, www.shop.example"})
        connection, _ = server.accept()
        with connection:
            asked = connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    assert check.wait(10) == 0
    assert asked.startswith(b"GET /livez ")
    assert b"\r\nHost: shop.example\r\n" in asked


def test_one_service_builds_the_image_and_the_others_use_it():
    """Each build has labels of its service: five of them would be five images, and each `up` would re-create all."""
    assert [name for name in OURS if "build" in SERVICES[name]] == ["migrate"]
    assert {SERVICES[name]["image"] for name in OURS} == {"bitloot"}
    assert {SERVICES[name]["pull_policy"] for name in OURS} == {"never"}, "no registry has it"


def test_health_check_of_beat_sees_a_schedule_that_is_kept(tmp_path):
    check = SERVICES["beat"]["healthcheck"]["test"][1].replace("/tmp", str(tmp_path))
    assert ran("sh", "-c", check).returncode != 0
    environment = process_environment(tmp_path, port=8000, sandbox_port=8001)
    words = [word.replace("/tmp", str(tmp_path)) for word in command_of("beat")]
    beat = subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: ran("sh", "-c", check).returncode == 0, seconds=30, what="a healthy beat")
    finally:
        beat.terminate()
        beat.wait(30)
    for file in tmp_path.glob("beat-schedule*"):
        os.utime(file, (time.time() - 700,) * 2)
    assert ran("sh", "-c", check).returncode != 0


@pytest.mark.broker
def test_redis_of_compose_asks_for_its_password(tmp_path):
    port = str(free_port())
    (tmp_path / "redis_password").write_text("0123456789abcdef")

    def here(text: str) -> str:
        text = text.replace("/run/secrets", str(tmp_path)).replace("$$", "$")
        return text.replace("redis-server -", f"redis-server - --port {port} --bind 127.0.0.1 --dir {tmp_path}")

    redis = subprocess.Popen(["sh", "-c", here(command_of("redis")[0])], stdout=subprocess.DEVNULL)
    try:
        check = here(SERVICES["redis"]["healthcheck"]["test"][1]).replace("redis-cli", f"redis-cli -p {port}")
        wait_until(lambda: ran("sh", "-c", check).returncode == 0, seconds=15, what="PONG")
        nobody = ran("redis-cli", "-p", port, "get", "x")
        assert "NOAUTH" in nobody.stdout
        assert b"0123456789abcdef" not in Path(f"/proc/{redis.pid}/cmdline").read_bytes()
    finally:
        redis.terminate()
        assert redis.wait(10) == 0, "it has to end on SIGTERM"


# --- Secrets


def test_secrets_are_made_once_and_what_is_left_to_fill_in_is_named(tmp_path):
    done = make_secrets(tmp_path)
    folder = tmp_path / "secrets"
    assert {file.name for file in folder.iterdir()} == set(compose()["secrets"])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o444}
    empty = {file.name for file in folder.iterdir() if not file.read_text()}
    assert empty == set(re.findall(r"fill in secrets/(\w+)", done))
    password = (folder / "postgres_password").read_text()
    owner, shop = ((folder / name).read_text() for name in ("migrate_database_url", "database_url"))
    assert owner == f"postgres://bitloot:{password}@postgres:5432/bitloot"
    assert re.fullmatch(r"postgres://bitloot_app:\w{48}@postgres:5432/bitloot", shop)
    assert password not in shop
    assert f":{(folder / 'redis_password').read_text()}@redis" in (folder / "redis_url").read_text()
    assert len(password) == 48
    assert len((folder / "secret_key").read_text()) >= 50
    assert not any(file.read_text().endswith("\n") for file in folder.iterdir())

    before = {file.name: file.read_text() for file in folder.iterdir()}
    make_secrets(tmp_path)
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


def make_secrets(folder: Path) -> str:
    script = str(ROOT / "deploy" / "make-secrets.sh")
    return subprocess.run(["sh", script, str(folder)], check=True, capture_output=True, text=True).stdout


# --- The image


def test_image_holds_the_shop_and_nothing_else(tmp_path):
    build("shop", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "requirements.txt", "manage.py", "LICENSE", "bitloot", "orders", "payments", "fulfillment", "storage",
        "webhooks", "templates", "locale", "docs",
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["runbook.md"]
    assert not [path for path in tmp_path.rglob("*") if path.name in ("tests", "__pycache__", ".env", "secrets")]


def test_image_of_the_sandbox_has_what_a_demo_needs(tmp_path):
    build("sandbox", tmp_path)
    assert (tmp_path / "sandbox" / "__main__.py").exists()
    words = [word for word, _ in instructions("sandbox")]
    assert instructions("sandbox")[-1] == ("CMD", ["python", "-m", "tools.dev.demo", "--var", "/tmp/demo"])
    assert words.count("USER") == 3
    assert instructions("sandbox")[-2] == ("USER", "bitloot")


def test_static_files_are_collected_in_the_image_without_any_setting(tmp_path):
    build("shop", tmp_path)
    environment = {"PATH": os.environ["PATH"], "BITLOOT_VAR": str(tmp_path / "var"), "BITLOOT_BUILDING": "1"}
    command = [sys.executable, "manage.py", "collectstatic", "--no-input", "--verbosity", "0"]
    assert ("RUN", " ".join(["BITLOOT_BUILDING=1", "python", *command[1:]])) in instructions("shop")
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "var" / "static" / "staticfiles.json").exists()


def test_processes_of_the_image_are_not_root():
    for target in ("shop", "sandbox"):
        users = [rest for word, rest in instructions(target) if word == "USER"]
        assert users[-1] == "bitloot"


def test_everything_installed_is_checked_against_its_hash():
    runs = [rest for word, rest in instructions("sandbox") if word == "RUN" and "pip install" in rest]
    assert len(runs) == 2
    assert all("--require-hashes" in run for run in runs)
    (pip,) = re.findall("^PIP := .*", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "--require-hashes" in pip
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert without_hash((ROOT / name).read_text()) == []
    assert without_hash("django==5.2.19\namqp==5.4.2 \\\n    --hash=sha256:" + "a" * 64) == ["django==5.2.19"]


# --- systemd

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def test_there_is_a_unit_for_each_process():
    assert [unit.name for unit in UNITS] == ["bitloot-beat.service", "bitloot-web.service", "bitloot-worker.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_unit_starts_what_compose_starts(unit):
    service = unit.stem.removeprefix("bitloot-")
    started = re.search(r"^ExecStart=(.*)", unit.read_text().replace("\\\n", ""), re.MULTILINE)[1].split()
    assert Path(started[0]).name == command_of(service)[0]
    different = {"0.0.0.0", "127.0.0.1", "/tmp/beat-schedule", "/run/bitloot/beat-schedule"}
    assert set(started[1:]) ^ set(command_of(service)[1:]) <= different


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_the_unit(unit, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    # What it starts has to exist, and so has the user: neither does here.
    text = re.sub(r"/opt/bitloot/\.venv/bin/\w+", "/bin/true", unit.read_text()).replace("User=bitloot\n", "")
    (tmp_path / unit.name).write_text(text)
    done = ran("systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name))
    about_us = [line for line in done.stderr.splitlines() if "bitloot" in line]
    assert about_us == []


def test_unit_reads_its_settings_as_the_documents_say():
    for unit in UNITS:
        text = unit.read_text()
        assert "Environment=BITLOOT_ENV_FILE=/etc/bitloot/env\n" in text
        assert "BITLOOT_VAR=/var/lib/bitloot" in text


@pytest.fixture
def open_path():
    """A folder that other users may pass through; those of pytest are closed to them."""
    with tempfile.TemporaryDirectory(prefix="bitloot-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")
def test_shop_and_owner_of_the_tables_share_folders_without_docker(open_path):
    """Fails if one of the two cannot do with its folders what its commands do, or the shop can touch a backup."""
    shop, owner, var = 64_001, 64_002, open_path / "lib"
    page = (ROOT / "docs" / "deploy-without-docker.md").read_text()
    for line in re.findall(r"^install -d .* /var/lib/bitloot.*$", page, re.MULTILINE):
        words = {"bitloot": str(shop), "bitloot_owner": str(owner)}
        command = [words.get(word, word).replace("/var/lib/bitloot", str(var)) for word in line.split()]
        subprocess.run(command, check=True)
    (mode,) = {re.search(r"^StateDirectoryMode=(\d+)$", unit.read_text(), re.MULTILINE)[1] for unit in UNITS}
    assert var.stat().st_mode & 0o777 == int(mode, 8), "systemd sets this mode at each start"
    covers, objects, backups = var / "objects/covers", var / "objects", var / "backups"

    assert does(shop, f"echo x > {covers}/old && echo x > {objects}/key")
    assert does(owner, f"ls {objects} && rm -f {covers}/old && echo x > {backups}/newest")
    assert does(shop, f"ls -l {backups}/newest")
    assert not does(shop, f"cat {backups}/newest")
    assert not does(shop, f"rm -f {backups}/newest")
    assert not does(owner, f"cat {objects}/key")
    assert not does(64_003, f"ls {objects}", group=64_003)


def does(user, command, *, group=64_001):
    """Return whether this user may do that; files are made as our processes make them."""
    alone = {"user": user, "group": group, "extra_groups": [], "umask": 0o077}
    return subprocess.run(["sh", "-c", command], check=False, capture_output=True, **alone).returncode == 0


def test_commands_without_docker_use_the_folder_of_the_units():
    page = (ROOT / "docs" / "deploy-without-docker.md").read_text()
    assert re.findall(r"exec sudo -u (\w+) .*BITLOOT_VAR=(\S+)", page) == [
        ("bitloot", "/var/lib/bitloot"), ("bitloot_owner", "/var/lib/bitloot"),
    ]  # fmt: skip
    used = set(re.findall(r"^(?:sudo|make|git|nginx|certbot)\b", page, re.MULTILINE)) | {"sudo", "cron"}
    (installed,) = re.findall(r"^apt-get install (.*)$", page, re.MULTILINE)
    assert used <= set(installed.split())


# --- Documents and the scripts they name


@pytest.mark.nginx
def test_configuration_for_nginx_without_docker_is_valid(tmp_path):
    script = ROOT / "deploy" / "nginx" / "without-docker.sh"
    text = ran("sh", str(script)).stdout
    write_certificate(tmp_path)
    shutil.copy(ROOT / "deploy" / "nginx" / "site.conf.example", tmp_path / "site.conf")
    assert "/tmp/" not in text
    assert "/dev/std" not in text
    for place in ("/var/log/nginx", "/var/lib/nginx", "/run", "/etc/letsencrypt/live/shop"):
        assert f"{place}/" in text
        text = text.replace(f"{place}/", f"{tmp_path}/")
    text = re.sub(r"listen (\[::\]:)?\d+", lambda found: f"listen {found[1] or ''}{free_port()}", text)
    text = text.replace("/etc/nginx/bitloot-site.conf", str(tmp_path / "site.conf")).replace("user www-data;", "")
    (tmp_path / "nginx.conf").write_text(text)
    done = ran(find_program("nginx", "nginx-light"), "-t", "-e", "stderr", "-c", str(tmp_path / "nginx.conf"))
    assert done.returncode == 0, done.stderr


# Stands in for docker: writes down what it is asked to do, and knows the containers of web, before and after.
DOCKER = r"""#!/bin/sh
echo "$*" >>{folder}/calls
case "$*" in
*{fails}*) exit 1 ;;
*"ps --quiet web"*) cat {folder}/webs ;;
*"--scale web="*) echo 2222 >>{folder}/webs ;;
"inspect "*2222) echo bitloot-web-2 ;;
esac
"""


def updated(folder: Path, *, webs: tuple[str, ...] = ("1111",), fails: str = "nothing") -> tuple[int, list[str]]:
    """Run update.sh; return its exit code and what it asked of docker."""
    (folder / "webs").write_text("".join(f"{web}\n" for web in webs))
    (folder / "calls").write_text("")
    docker = folder / "docker"
    docker.write_text(DOCKER.format(folder=folder, fails=fails))
    docker.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", str(ROOT / "deploy" / "update.sh")], env=environment, check=False)
    return done.returncode, (folder / "calls").read_text().splitlines()


def test_update_leaves_no_moment_without_a_web_that_nginx_knows(tmp_path):
    code, calls = updated(tmp_path)
    assert code == 0
    passed = [call.partition("bitloot http")[2] for call in calls if "site.conf" in call]
    assert passed == ["://bitloot-web-2:8000;| /tmp/site.conf", "://web:8000;| /tmp/site.conf"]
    reload = "compose exec -T nginx nginx -c /etc/bitloot/nginx.conf -s reload"
    steps = [
        "compose run --rm migrate",
        "compose up --detach --wait --no-deps --no-recreate --scale web=2 web",
        reload,
        "stop -t 30 1111",
        "rm 1111",
        "compose up --detach --remove-orphans",
    ]
    assert [call for call in calls if call in steps] == [*steps, reload]


def test_update_that_broke_off_may_be_repeated(tmp_path):
    """Two webs are left then: a third has to take over, or both would be ended before it is there."""
    code, calls = updated(tmp_path, webs=("1111", "1112"))
    assert code == 0
    assert "compose up --detach --wait --no-deps --no-recreate --scale web=3 web" in calls
    assert [call for call in calls if call.startswith("stop")] == ["stop -t 30 1111", "stop -t 30 1112"]


def test_update_starts_a_shop_that_does_not_run(tmp_path):
    code, calls = updated(tmp_path, webs=())
    assert code == 0
    assert "compose up --detach --wait --no-deps --no-recreate --scale web=1 web" in calls
    assert not [call for call in calls if call.startswith("stop")]


@pytest.mark.parametrize("fails", ["migrate", "--scale"])
def test_update_that_fails_leaves_the_old_web_alone(tmp_path, fails):
    code, calls = updated(tmp_path, fails=fails)
    assert code != 0
    assert not [call for call in calls if call.startswith("stop") or "site.conf" in call]


def test_update_rewrites_the_line_that_the_start_of_nginx_wrote(tmp_path):
    environment = {"PATH": os.environ["PATH"], "ALLOWED_HOSTS": "shop.example", "SITE_CONF": str(tmp_path / "site")}
    start = (ROOT / "deploy" / "nginx" / "start.sh").read_text().partition("conf=")[0]
    subprocess.run(["sh", "-c", start, str(ROOT / "deploy/nginx/start.sh")], env=environment, check=True)
    (expression,) = re.findall(r'sed -i "(.*)" /tmp/site.conf', (ROOT / "deploy" / "update.sh").read_text())
    expression = expression.replace("\\$", "$").replace("$1", "bitloot-web-2:8000")
    before = (tmp_path / "site").read_text()
    assert "set $bitloot http://web:8000;\n" in before
    assert ran("sed", "-i", expression, str(tmp_path / "site")).returncode == 0
    assert (tmp_path / "site").read_text() == before.replace("//web:", "//bitloot-web-2:")


@pytest.mark.parametrize("page", ["deploy.md", "deploy-without-docker.md"])
def test_files_and_services_that_the_pages_name_exist(page):
    text = (ROOT / "docs" / page).read_text()
    for path in re.findall(r"deploy/[\w./-]*[\w]", text):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#:]+)[#)]", text):
        assert (ROOT / "docs" / link).exists(), link
    assert set(re.findall(r"docker compose exec (?:-T )?(\w+)", text)) <= set(SERVICES)
    for command in re.findall(r"manage\.py (\w+)", text):
        assert get_commands().get(command), command
    for name in re.findall(r"`([A-Z][A-Z0-9_]{3,})(?:=|`)", text):
        assert name in {*contract_variables(), "BEHIND", "WORKER_CPUSET"}, name

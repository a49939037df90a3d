"""The shop as it runs for customers: DEBUG off, granian behind nginx with TLS, PostgreSQL, Redis and S3.

Its processes are the image's files, started by compose's commands with compose's variables; only addresses and folders
are this machine's.
"""

import functools
import json
import re
import secrets
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from bitloot.tests.proxy import Proxy
from bitloot.tests.s3server import S3Server, running_s3
from bitloot.tests.services import Postgres, Process, Redis, Sandbox, Store, free_port, wait_until
from bitloot.tests.shipped import build, command_of, compose
from bitloot.tests.shopper import Shopper, bearer
from tools.dev.devenv import ROOT, write_environment
from tools.dev.services import find_program
from tools.dev.supervise import answers

pytestmark = [pytest.mark.production, pytest.mark.nginx, pytest.mark.timeout(600)]


# Under /var/lib/bitloot the volumes of compose, /tmp, and where the tests' mails are files.
WRITABLE = ("objects", "backups", "tmp", "mail")


class Production(Store):
    """web, worker and beat as docker-compose.yml starts them, in a folder that holds what the image would."""

    def _commands(self) -> dict[str, list[str]]:
        return {name: self._here(command_of(name)) for name in ("web", "worker", "beat")}

    def _here(self, command: list[str]) -> list[str]:
        places = {
            "0.0.0.0": "127.0.0.1",
            "8000": str(self.port),
            "/tmp/beat-schedule": str(self.var / "tmp" / "schedule"),
        }
        program, *options = (places.get(word, word) for word in command)
        return self._confined(["env", "-C", str(self.image), sys.executable, "-m", program, *options])

    def _confined(self, command: list[str]) -> list[str]:
        """Leave what compose mounts as the only places to write to, where this user may do such a thing."""
        if not can_mount():
            return command
        places = [self.var / name for name in WRITABLE]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        script = "".join(f"mount --bind {place} {place}; " for place in places)
        script += f"mount -o remount,bind,ro $(findmnt -n -o TARGET -T {self.var}); mount -o remount,bind,ro / ; exec "
        return ["unshare", "--mount", "sh", "-ec", f'{script} "$@"', "sh", *command]

    @property
    def image(self) -> Path:
        return self.var / "image"

    def manage(self, *arguments: str, confined: bool = False, **overrides: str) -> str:
        command, environment = [sys.executable, "manage.py", *arguments], {**self.env, **overrides}
        command = self._confined(command) if confined else command
        done = subprocess.run(command, cwd=self.image, env=environment, check=True, capture_output=True, text=True)
        return done.stdout


@functools.cache
def can_mount() -> bool:
    """Return whether we may have mounts of our own; in a container even root mostly may not."""
    if not shutil.which("unshare") or not shutil.which("findmnt"):
        return False
    tried = ["unshare", "--mount", "mount", "-o", "remount,bind,ro", "/"]
    return subprocess.run(tried, check=False, capture_output=True).returncode == 0


def variables_of_compose(var: Path, **values: str) -> dict[str, str]:
    """Return compose's environment for the shop, with a file for each secret."""
    folder = var / "secrets"
    folder.mkdir()
    written = dict(line.split("=", 1) for line in write_environment(var).read_text().splitlines()) | values
    variables = dict(compose()["services"]["web"]["environment"])
    for name in [name for name in variables if name.endswith("_FILE")]:
        file = folder / Path(variables[name]).name
        file.write_text(written.get(name.removesuffix("_FILE"), secrets.token_urlsafe(24)))  # as make-secrets.sh
        variables[name] = str(file)
    secret = {name.removesuffix("_FILE") for name in variables}
    # Anything else is what .env holds. The empty lines of .env.example for secrets have to lose against the files.
    return values | dict.fromkeys(secret, "") | variables


@dataclass
class Site:
    url: str
    plain_url: str
    ca: Path
    store: Production
    sandbox: Sandbox
    nginx: Proxy
    postgres: Postgres
    redis: Redis
    s3: S3Server

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    var = tmp_path_factory.mktemp("production")
    sandbox_port, web_port = free_port(), free_port()
    nginx = Proxy(web=f"127.0.0.1:{web_port}")
    ca, tls_port = nginx.ca, nginx.port
    with ExitStack() as stack:
        postgres, redis = stack.enter_context(Postgres()), stack.enter_context(Redis())
        s3 = stack.enter_context(running_s3())
        environment = {
            "DEBUG": "0",
            "SITE_URL": f"https://127.0.0.1:{tls_port}",
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATABASE_URL": postgres.url.replace("//postgres@", f"//bitloot_app:{secrets.token_hex(12)}@"),
            "REDIS_URL": redis.url,
            "BACKUP_SECRET": secrets.token_urlsafe(32),
            "LOG_LEVEL": "INFO",
            "KEY_ENVIRONMENT": "production-test",
            "TMPDIR": str(var / "tmp"),
            **s3.environment,
        }
        environment = variables_of_compose(var, **environment)
        store = Production(var, port=web_port, sandbox_port=sandbox_port, **environment)
        store.image.mkdir()
        build("shop", store.image)
        store.manage("collectstatic", "--no-input", "--verbosity", "0")
        for command in (("migrate", "--verbosity", "0"), ("grant_rights",)):
            store.manage(*command, MIGRATE_DATABASE_URL=postgres.url)
        store.seed()
        sandbox = Process("sandbox", [sys.executable, "-m", "sandbox"], env={}, log=var / "sandbox.log")
        sandbox.env = store.env | {
            "SSL_CERT_FILE": str(ca),
            "BITLOOT_SANDBOX_CONFIG": json.dumps(sandbox_config(store, var, sandbox_port, tls_port)),
        }
        stack.callback(sandbox.stop)
        sandbox.start()
        stack.callback(store.stop)
        store.start()
        stack.enter_context(nginx)
        wait_until(lambda: answers(f"http://127.0.0.1:{sandbox_port}/control/state"), seconds=120, what="the sandbox")
        yield Site(
            url=nginx.url,
            plain_url=nginx.plain_url,
            ca=ca,
            store=store,
            sandbox=Sandbox(f"http://127.0.0.1:{sandbox_port}"),
            nginx=nginx,
            postgres=postgres,
            redis=redis,
            s3=s3,
        )


def sandbox_config(store: Store, var: Path, port: int, tls_port: int) -> dict[str, object]:
    written = dict(line.split("=", 1) for line in (var / "dev.env").read_text().splitlines())
    names = ("KINGUIN_API_KEY", "KINGUIN_CLIENT_ID", "KINGUIN_CLIENT_SECRET", "KINGUIN_WEBHOOK_SECRET")
    names += ("NOWPAYMENTS_API_KEY", "NOWPAYMENTS_IPN_SECRET")
    shop = f"https://127.0.0.1:{tls_port}"
    return {name.lower(): written[name] for name in names} | {
        "port": port,
        "db": str(var / "sandbox.sqlite3"),
        "store_url": shop,
    }


def test_purchase_with_debug_off_leaves_no_key_in_any_answer_log_mail_or_database(site):
    customer = Shopper(site.url, ca=str(site.ca))
    for page in ("/", "/products/ember-drift", "/checkout?product=ember-drift&quantity=1"):
        assert customer.get(page).status_code == 200
    order = customer.order("ember-drift", "nightline-courier")
    assert customer.get(f"/orders/{order['id']}").status_code == 200
    site.sandbox.pay(customer.payment(order)["payment_id"])
    customer.wait_fulfilled(order)

    status = customer.json("GET", f"/api/fulfillment/{order['id']}/status", headers=bearer(order))
    assert status == {"order_id": order["id"], "status": "fulfilled"}
    customer.wait(lambda: all(is_in_bucket(site, url) for url in offered(customer, order)), "both keys in the bucket")
    wait_until(lambda: len(mails(site)) >= 3, seconds=120, what="three mails")

    opened = customer.open_keys(order)

    serials = {line["serial"] for line in site.sandbox.sold()}
    texts = [key.decode() for key in opened if not key.startswith(b"\x89PNG")]
    assert len(opened) == 2
    assert len(texts) == 1
    assert set(texts) <= serials
    assert places_that_hold(serials, site, customer) == []


def test_shop_writes_only_where_compose_lets_it(site):
    if not can_mount():
        pytest.skip("no mounts of our own here: the shop ran with a file system that it may write to")
    worker = compose()["services"]["worker"]
    mounted = {volume.rpartition("/")[2] for volume in worker["volumes"]} | {"tmp"}
    assert (set(WRITABLE) - {"mail"}, worker["tmpfs"]) == (mounted, ["/tmp"])
    customer = Shopper(site.url, ca=str(site.ca))
    order = customer.order("ember-drift")
    site.sandbox.pay(customer.payment(order)["payment_id"])
    customer.wait_fulfilled(order)

    owner = {"confined": True, "MIGRATE_DATABASE_URL": site.postgres.url}
    site.store.manage("prune", **owner)
    site.store.manage("backup", **owner)
    assert len(list((site.store.var / "backups").iterdir())) == 1
    site.store.manage("grant_rights", **owner)
    for place, code in ((site.store.image, 1), (site.store.var, 1), (site.store.var / "tmp", 0)):
        touched = subprocess.run(site.store._confined(["touch", str(place / "x")]), check=False, capture_output=True)
        assert touched.returncode == code, place
    for name in ("web", "worker", "beat"):
        assert re.search(r" / / ro\b", Path(f"/proc/{site.store.parts[name].pid}/mountinfo").read_text()), name
        assert "Read-only file system" not in site.store.parts[name].log.read_text()


def test_commands_of_the_page_run_where_compose_lets_them_write(site):
    """Each `manage.py` line of docs/deploy.md, in its order, against the running shop; without a terminal."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    lines = re.findall(r"docker compose (?:exec|run --rm) (\w+) python manage\.py ([^`\n]+)", page)
    ran = []
    for service, line in dict.fromkeys(lines):
        # Not beside a running shop: test_restore_drill.py restores.
        if line.startswith("restore"):
            continue
        done = run_in_container(site, service, line)
        # `doctor` misses what this place has not: DNS, a certificate that browsers believe.
        fine = (0, 1, 2) if line == "doctor" else (0,)
        assert done.returncode in fine, f"{line}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, line
        assert "Read-only file system" not in done.stdout + done.stderr, line
        ran.append(line.split()[0])
    assert {"createsuperuser", "staff_device", "doctor", "reconcile", "backup", "erase_customer"} <= set(ran)
    assert ran[-1] == "safe_mode", "the last line lets purchases leave again"


def run_in_container(site: Site, service: str, line: str) -> "subprocess.CompletedProcess[str]":
    asked = {"createsuperuser": "createsuperuser --no-input --username ada --email ada@shop.example"}
    words = shlex.split(asked.get(line, line.replace("NAME", "ada").replace("…", "a drill")))
    owner = {"MIGRATE_DATABASE_URL": site.postgres.url} if service == "migrate" else {}
    given = {**site.store.env, **owner, "DJANGO_SUPERUSER_PASSWORD": "a-long-way-to-the-harbour"}
    command = site.store._confined([sys.executable, "manage.py", *words])
    options: dict[str, Any] = {"cwd": site.store.image, "env": given, "stdin": subprocess.DEVNULL}
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_logs_of_a_purchase_name_order_and_request_and_hold_nothing_that_opens(site):
    customer = Shopper(site.url, ca=str(site.ca))
    order = customer.order("ember-drift", email="canary.mailbox@customer.example")
    assert customer.get(f"/orders/{order['id']}?signature=canary-in-a-query").status_code == 200
    site.sandbox.pay(customer.payment(order)["payment_id"])
    customer.wait_fulfilled(order)
    customer.open_keys(order)
    customer.send("GET", f"/api/orders/{order['id']}", headers={"Authorization": f"Bearer x{order['access_token']}"})
    customer.send("POST", "/api/webhooks/kinguin", headers={"X-Event-Secret": "canary-event-secret"}, json={})

    logs = {path.name: path.read_text() for path in (site.store.var / "logs").glob("*")}
    assert f"order={order['id']}" in logs["worker.log"]
    asked = re.search(rf"request=(\w{{32}}) order={order['id']} client=127.0.0.0/24 nowpayments POST", logs["web.log"])
    assert asked
    wait_until(lambda: asked[1] in site.nginx.logged(), seconds=60, what="the same request in nginx's log")
    signatures = re.findall(r"[Ss]ignature=([^&\"]+)", b"".join(customer.bodies).decode(errors="replace"))
    files = {file.name: file.read_text() for file in (site.store.var / "secrets").iterdir()}
    written = [text.split(":")[2].split("@")[0] if name == "database_url" else text for name, text in files.items()]
    written.remove(files["redis_url"])  # this one has no password
    canaries = [order["access_token"].rpartition(".")[2], "canary", *signatures, *filter(None, written)]
    assert signatures
    everything = "\n".join([*logs.values(), site.nginx.logged()])
    assert [canary for canary in canaries if canary in everything] == []


def test_the_shops_role_cannot_change_what_happened(site):
    shop = site.store.env["DATABASE_URL_FILE"]
    with psycopg.connect(Path(shop).read_text(), autocommit=True) as database:
        assert database.execute("SELECT count(*) FROM orders_orderevent").fetchone() != (0,)
        for table in (
            "orders_orderevent",
            "webhooks_webhooklog",
            "storage_keyaccess",
            "fulfillment_reservationattempt",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                database.execute(f"DELETE FROM {table}")  # noqa: S608
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.execute("UPDATE webhooks_webhooklog SET body = ''")
    site.store.manage("prune", MIGRATE_DATABASE_URL=site.postgres.url)


def test_form_of_the_checkout_page_is_accepted_over_tls(site):
    browser = requests.Session()
    browser.trust_env, browser.verify = False, str(site.ca)
    page = browser.get(f"{site.url}/checkout?product=ember-drift&quantity=2", timeout=30)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    form = hidden | {"quantity": "2", "email": "grace@customer.example"}
    headers = {"Origin": site.url, "Referer": page.url}

    answer = browser.post(f"{site.url}/checkout", data=form, headers=headers, allow_redirects=False, timeout=30)

    assert answer.status_code == 303, answer.text
    assert re.fullmatch(r"/orders/[0-9a-f-]{36}#\S{20,}", answer.headers["Location"])
    assert "__Host-csrftoken" in browser.cookies
    refused = browser.post(f"{site.url}/checkout", data=form, headers={"Origin": "https://evil.example"}, timeout=30)
    assert refused.status_code == 403


def test_link_to_a_sealed_key_ends_and_cannot_be_changed(site):
    customer = Shopper(site.url, ca=str(site.ca))
    order = customer.order("ember-drift")
    site.sandbox.pay(customer.payment(order)["payment_id"])
    customer.wait_fulfilled(order)
    customer.wait(lambda: is_in_bucket(site, offered(customer, order)[0]), "the key in the bucket")
    url = offered(customer, order)[0]
    assert customer.get(url).status_code == 200
    assert customer.get(re.sub("X-Amz-Expires=[0-9]+", "X-Amz-Expires=604800", url)).status_code == 403
    assert customer.get(url.partition("?")[0]).status_code == 403


def offered(customer: Shopper, order: dict[str, Any]) -> list[str]:
    answer = customer.json("GET", f"/api/fulfillment/{order['id']}/download-link", headers=bearer(order))
    return [key["download_url"] for key in answer["keys"]]


def is_in_bucket(site: Site, url: str) -> bool:
    return url.startswith(f"{site.s3.endpoint}/{site.s3.bucket}/")


def mails(site: Site) -> list[Path]:
    return list((site.store.var / "mail").glob("*"))


def places_that_hold(serials: set[str], site: Site, customer: Shopper) -> list[str]:
    """Search every answer, mail, log, row and object for the keys the supplier sold."""
    bucket = site.s3.client()
    names = [entry["Key"] for entry in bucket.list_objects_v2(Bucket=site.s3.bucket).get("Contents", [])]
    places = {
        "answers": b"\n".join(customer.bodies),
        "database": output_of("pg_dump", "postgresql-client", site.postgres.url),
        "nginx": site.nginx.process.log.read_bytes(),
        **{f"object {name}": bucket.get_object(Bucket=site.s3.bucket, Key=name)["Body"].read() for name in names},
        **{str(path): path.read_bytes() for path in (*mails(site), *(site.store.var / "logs").glob("*"))},
    }
    assert names
    return [place for place, content in places.items() for serial in serials if serial.encode() in content]


def output_of(program: str, package: str, *arguments: str) -> bytes:
    return subprocess.run([find_program(program, package), *arguments], check=True, capture_output=True).stdout


def test_plain_http_is_redirected_for_people_and_refused_for_programs(site):
    customer = Shopper(site.plain_url)
    page = customer.get("/products/ember-drift?from=mail")
    assert (page.status_code, page.headers["Location"]) == (301, "https://127.0.0.1/products/ember-drift?from=mail")
    for method, path in (("GET", "/api/products"), ("POST", "/api/payments/ipn"), ("POST", "/api/orders")):
        assert customer.send(method, path, data=b"{}").status_code == 403


def test_body_over_64_kib_is_refused_with_a_problem(site):
    customer = Shopper(site.url, ca=str(site.ca))
    answer = customer.send("POST", "/api/orders", data=b"x" * (64 * 1024 + 1))
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == 413
    chunked = customer.send("POST", "/api/payments/ipn", data=iter([b"x" * 65536, b"x" * 65536]))
    assert chunked.status_code == 413
    assert customer.send("POST", "/api/payments/ipn", data=b"x" * 16 * 1024).status_code == 401
    assert customer.send("POST", "/api/payments/ipn", data=b"x" * (16 * 1024 + 1)).status_code == 413


def test_slow_clients_are_cut_off_while_others_are_served(site):
    started = time.monotonic()
    with open_tls(site) as slow_headers, open_tls(site) as slow_body:
        slow_body.sendall(b"POST /api/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{")
        slow_headers.sendall(b"GET /livez HTTP/1.1\r\n")
        assert Shopper(site.url, ca=str(site.ca)).get("/livez").status_code == 200
        # nginx waits five seconds for a body and ten for all headers; without our settings it would wait a minute.
        assert slow_body.recv(1000)[:12] in (b"", b"HTTP/1.1 408")
        assert time.monotonic() - started < 40
        assert drip(slow_headers, b"X-Drip: 1\r\n") < 40


def drip(connection: ssl.SSLSocket, line: bytes) -> float:
    """Send a header line each second until the other side ends the connection; return after how many seconds it did."""
    started = time.monotonic()
    connection.settimeout(1)
    while time.monotonic() - started < 50:
        try:
            connection.sendall(line)
            if connection.recv(1000)[:12] in (b"", b"HTTP/1.1 408"):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - started


ORDER = b"POST /api/orders HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Mark: echoed\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"a" * 16384 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"404"),
        (ORDER + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", b"400"),
        (ORDER + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Split: a\rb\r\n\r\n", b"400"),
    ],
)
def test_malformed_and_unwanted_requests_end_at_the_proxy(site, request_text, status):
    with open_tls(site) as connection:
        connection.sendall(request_text)
        answer = connection.recv(65536)
    assert answer.split()[1] == status
    assert b"echoed" not in answer


def test_old_tls_is_refused(site):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", site.port), 5) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_pages_carry_the_headers_that_protect_customers(site):
    customer = Shopper(site.url, ca=str(site.ca))
    page = customer.get("/")
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Referrer-Policy"] == "same-origin"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert f"connect-src 'self' {site.s3.endpoint};" in f"{policy};"
    assert page.headers.get("Server") == "nginx"


def test_a_cookie_of_another_site_keeps_nobody_from_ordering(site):
    """granian hands over an empty header where one byte of it is not ASCII."""
    customer = requests.Session()
    customer.trust_env, customer.verify = False, str(site.ca)
    page = customer.get(f"{site.url}/checkout?product=ember-drift&quantity=1")
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    form |= {"product": "ember-drift", "quantity": "1", "email": "kim@customer.example"}
    own = "; ".join(f"{name}={value}" for name, value in customer.cookies.items())
    headers = {"Cookie": f"{own}; city=M\u00fcnchen".encode(), "Origin": site.url}
    placed = requests.Request("POST", f"{site.url}/checkout", data=form, headers=headers).prepare()
    assert customer.send(placed, allow_redirects=False).status_code == 303


def test_static_files_are_served_for_ever_under_the_names_of_their_content(site):
    customer = Shopper(site.url, ca=str(site.ca))
    names = re.findall(r'href="(/static/[^"]+\.css)"', customer.get("/").text)
    assert names
    for name in names:
        style = customer.get(name)
        assert style.status_code == 200
        assert "immutable" in style.headers["Cache-Control"]


def test_query_strings_are_not_logged(site):
    mark = secrets.token_hex(8)
    assert Shopper(site.url, ca=str(site.ca)).get(f"/objects/none?expires=1&signature={mark}").status_code == 404
    wait_until(lambda: "/objects/none" in site.nginx.process.log.read_text(), seconds=60, what="the line in the log")
    everything = site.nginx.process.log.read_text() + site.store.parts["web"].log.read_text()
    assert mark not in everything


def test_store_that_is_away_is_a_problem_with_a_hint_when_to_come_back(site):
    site.store.kill9("web")
    try:
        answer = Shopper(site.url, ca=str(site.ca)).get("/api/products")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.headers["Content-Type"] == "application/problem+json"
    finally:
        site.store.start_part("web")
        site.store.wait_ready()


def open_tls(site: Site) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(site.ca))
    plain = socket.create_connection(("127.0.0.1", site.port), 15)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")

"""Each rule of deploy/nginx.conf, with the real nginx in front of an application that only says what it was asked."""

import os
import re
import secrets
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import requests

from bitloot.tests.proxied import BROWSER, Client, application, client, new_address, proxy, running, web
from bitloot.tests.proxy import Proxy, write_certificate
from bitloot.tests.services import free_port, wait_until
from bitloot.tests.serving import start_serving
from bitloot.tests.shipped import compose
from tools.dev.devenv import ROOT

__all__ = ["client", "proxy", "web"]  # fixtures
pytestmark = [pytest.mark.nginx, pytest.mark.timeout(120)]

IPN = "/api/payments/ipn"
SIGN_IN, PLACE = "/admin/login/", "/api/orders"


def open_tls(proxy: Proxy, *, name: str = "127.0.0.1") -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(proxy.ca))
    context.check_hostname = False
    plain = socket.create_connection(("127.0.0.1", proxy.port), 15)
    return context.wrap_socket(plain, server_hostname=name)


def unfinished(path: str, address: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCF-Connecting-IP: {address}\r\nContent-Length: 9000\r\n\r\n{{"
    return head.encode()


# --- What the application hears


def test_application_hears_one_client_address_whatever_the_client_claims(client):
    claims = {"X-Forwarded-For": "1.2.3.4, 5.6.7.8", "Forwarded": "for=1.2.3.4", "X-Forwarded-Host": "evil.example"}
    heard = client.send("GET", "/livez", headers=claims).json()["headers"]
    assert heard["X-Forwarded-For"] == client.address
    assert heard["X-Forwarded-Proto"] == "https"
    assert not {"Forwarded", "X-Forwarded-Host", "Proxy"} & set(heard)


def test_only_cloudflares_addresses_are_believed_about_the_client(web):
    with Proxy(web=web, BEHIND="cloudflare") as proxy:
        heard = Client(proxy, "198.51.100.7").send("GET", "/livez").json()["headers"]
    assert heard["X-Forwarded-For"] == "127.0.0.1"


def test_without_cloudflare_its_header_means_nothing(web):
    with Proxy(web=web) as proxy:
        heard = Client(proxy, "198.51.100.7").send("GET", "/livez").json()["headers"]
    assert heard["X-Forwarded-For"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("a=b; __Host-csrftoken=x", "a=b; __Host-csrftoken=x"),
        ("__Host-csrftoken=x; city=M\u00fcnchen", "__Host-csrftoken=x; ; ; "),
        (
            "city=\u00fc; language=de; x__Host-csrftoken=no; __Host-sessionid=s; messages=W10:1; __Host-csrftoken=t",
            "__Host-csrftoken=t; __Host-sessionid=s; language=de; messages=W10:1",
        ),
        ("language=d\u00e9", "; ; ; "),
    ],
)
def test_a_cookie_that_is_not_ascii_takes_none_of_the_shops_along(client, sent, passed):
    assert client.send("GET", "/", headers={"Cookie": sent.encode()}).json()["headers"]["Cookie"] == passed


# --- Limits


@pytest.mark.parametrize(
    ("method", "path", "burst"),
    [
        ("POST", SIGN_IN, 10),
        ("POST", "/api/admin/login", 10),
        ("GET", "/api/schema", 10),
        ("GET", "/api/docs", 10),
        ("POST", PLACE, 20),
        ("POST", "/checkout", 20),
        ("POST", "/api/payments/create", 20),
        ("POST", "/api/orders/lookup", 20),
    ],
)
def test_costly_requests_are_limited_for_each_client(proxy, method, path, burst):
    client = Client(proxy, new_address())
    statuses = client.statuses(method, path, 3 * burst)
    assert burst < statuses[200] < 3 * burst
    assert statuses[429] == 3 * burst - statuses[200]
    refused = client.send(method, path)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["status"] == 429
    assert Client(proxy, new_address()).send(method, path).status_code == 200


def test_reading_does_not_count_as_placing_an_order(client):
    assert client.statuses("GET", "/checkout?product=ember-drift", 60) == {200: 60}


def test_a_shop_with_an_api_key_places_orders_as_fast_as_its_own_limit_says(client):
    key = {"Authorization": f"Bearer blk_3dd035c0_{'x' * 43}"}
    assert client.statuses("POST", PLACE, 60, headers=key) == {200: 60}
    assert client.statuses("POST", PLACE, 60, headers={"Authorization": "Bearer a.1.blk_"})[429] > 0
    assert client.statuses("POST", "/checkout", 60, headers=key)[429] > 0


def test_ordinary_requests_are_limited_far_above_what_a_customer_sends(client):
    assert client.statuses("GET", "/livez", 150) == {200: 150}
    with ThreadPoolExecutor(8) as pool:
        clients = [Client(client.proxy, client.address) for _ in range(8)]
        counts = pool.map(lambda one: one.statuses("GET", "/livez", 150), clients)
    assert sum(counts, Counter())[429] > 0


@pytest.mark.parametrize(
    ("addresses", "same"),
    [
        (("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2:0:a0a:a0a:0"), True),
        (("2001:db8::1", "2001:db8:0:0:8000::"), True),
        (("2001:db8:1:3::1", "2001:db8:1:4::1"), False),
        (("::ffff:10.9.9.9", "10.9.9.9"), True),
        (("::ffff:10.9.9.8", "::ffff:10.9.9.7"), False),
        (("10.9.9.1", "10.9.9.2"), False),
    ],
)
def test_a_client_is_an_ipv4_address_or_a_64_bit_network(proxy, addresses, same):
    first, *others = (Client(proxy, address) for address in addresses)
    assert first.statuses("POST", SIGN_IN, 15)[429] > 0
    for other in others:
        assert (other.statuses("POST", SIGN_IN, 6)[429] > 0) is same


def test_rush_of_a_provider_passes_whole(proxy):
    provider = new_address()
    with ThreadPoolExecutor(64) as pool:
        clients = [Client(proxy, provider) for _ in range(64)]
        started = time.monotonic()
        counts = list(pool.map(lambda one: one.statuses("POST", IPN, 40, data=b"{}"), clients))
    assert sum(counts, Counter()) == {200: 64 * 40}, f"within {time.monotonic() - started:.1f} s"


def test_dripping_webhooks_of_one_client_are_capped_and_hurt_nobody_else(web):
    attacker = new_address()
    # An attacker sends a byte before each timeout ends; this one waits, so the timeout has to outlast the test.
    patient = {"client_body_timeout 3s": "client_body_timeout 90s"}
    with running(web, changes=patient) as proxy, ExitStack() as stack:
        held = []
        for _ in range(530):
            held.append(stack.enter_context(open_tls(proxy)))
            held[-1].sendall(unfinished(IPN, attacker))
        assert Client(proxy, attacker).send("POST", IPN, data=b"{}").status_code == 429
        assert Client(proxy, new_address()).send("POST", IPN, data=b"{}").status_code == 200
        assert Client(proxy, attacker).send("GET", "/livez").status_code == 200
        refused = sum(answered(connection) for connection in held)
    assert refused == 530 - 512


def answered(connection: ssl.SSLSocket) -> bool:
    connection.settimeout(0.001)
    try:
        return b" 429 " in connection.recv(100)
    except TimeoutError:
        return False


def test_body_of_a_webhook_ends_after_three_silent_seconds(proxy):
    with open_tls(proxy) as connection:
        connection.sendall(unfinished(IPN, new_address()))
        started = time.monotonic()
        assert connection.recv(100)[:12] in (b"", b"HTTP/1.1 408")
        assert 2 < time.monotonic() - started < 4.9  # the shop's own bodies have 5


def test_bodies_of_webhooks_are_smaller_than_those_of_the_shop(client):
    for path in (IPN, "/api/webhooks/nowpayments", "/api/webhooks/kinguin", "/api/kinguin/webhook"):
        assert client.send("POST", path, data=b"x" * 16 * 1024).status_code == 200
        assert client.send("POST", path, data=b"x" * (16 * 1024 + 1)).status_code == 413
    assert client.send("POST", "/api/fulfillment/x/reveal", data=b"x" * 64 * 1024).status_code == 200
    assert client.send("POST", "/api/fulfillment/x/reveal", data=b"x" * (64 * 1024 + 1)).status_code == 413
    assert client.send("POST", "/admin/orders/", data=b"x" * 256 * 1024).status_code == 200
    assert client.send("POST", "/admin/orders/product/add/", data=b"x" * 5_500_000).status_code == 200  # a cover


def test_full_shop_turns_customers_away_and_still_takes_webhooks(web):
    with running(web, changes={"shop_at_once 2000": "shop_at_once 3"}) as proxy, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(open_tls(proxy)).sendall(unfinished(PLACE, new_address()))
        wait_until(lambda: Client(proxy, new_address()).send("GET", "/livez").status_code == 429, seconds=3, what="429")
        assert Client(proxy, new_address()).send("POST", IPN, data=b"{}").status_code == 200


def test_full_webhooks_turn_providers_away_and_still_serve_customers(web):
    with running(web, changes={"webhooks_at_once 1500": "webhooks_at_once 3"}) as proxy, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(open_tls(proxy)).sendall(unfinished(IPN, new_address()))
        wait_until(lambda: Client(proxy, new_address()).send("POST", IPN).status_code == 429, seconds=3, what="429")
        assert Client(proxy, new_address()).send("GET", "/livez").status_code == 200


def test_all_caps_together_fit_into_the_connections_of_one_process():
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    caps = dict(re.findall(r"limit_conn ((?:shop|webhooks)_at_once) (\d+);", text))  # locations share a zone
    assert set(caps) == {"shop_at_once", "webhooks_at_once"}
    connections = int(text.partition("worker_connections ")[2].partition(";")[0])
    assert 2 * sum(map(int, caps.values())) < connections


# --- Names, certificates, compression


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "_"])
def test_unknown_hosts_get_no_answer(proxy, host):
    asked = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    with open_tls(proxy) as connection:
        assert answer_to(connection, asked) == b""
    with closing(socket.create_connection(("127.0.0.1", proxy.plain_port), 15)) as plain:
        assert answer_to(plain, asked) == b""


def answer_to(connection: socket.socket, asked: bytes) -> bytes:
    connection.sendall(asked)
    try:
        return connection.recv(100)
    except ConnectionResetError:
        return b""


def test_every_allowed_host_is_served_and_redirected_to_itself(web):
    with Proxy(web=web, hosts="shop.example,www.shop.example") as proxy:
        client = Client(proxy, "10.0.0.1")
        for host in ("shop.example", "www.shop.example"):
            client.session.verify = str(proxy.ca)
            assert client.send("GET", "/livez", headers={"Host": host}).json()["headers"]["Host"] == host
            moved = requests.get(f"{proxy.plain_url}/x", headers={"Host": host}, allow_redirects=False, timeout=5)
            assert (moved.status_code, moved.headers["Location"]) == (301, f"https://{host}/x")


def test_certificate_authority_finds_its_challenge_on_plain_http(proxy):
    folder = proxy.acme / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    (folder / "token-1").write_text("token-1.thumbprint")
    for path in (folder.parent, folder, folder / "token-1"):
        path.chmod(0o755)  # as certbot leaves them; this process keeps its files to itself
    found = requests.get(f"{proxy.plain_url}/.well-known/acme-challenge/token-1", allow_redirects=False, timeout=5)
    assert (found.status_code, found.text) == (200, "token-1.thumbprint")
    for outside in ("none", "..%2f..%2f..%2fnginx.conf", "../../../privkey.pem"):
        with closing(socket.create_connection(("127.0.0.1", proxy.plain_port), 15)) as plain:
            plain.sendall(f"GET /.well-known/acme-challenge/{outside} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert plain.recv(100).split()[1] in (b"404", b"400", b"301")


@pytest.mark.parametrize(
    "path",
    ["/", "/products/ember-drift", "/pages/terms", "/orders/0c9d", "/api/products", "/api/payments/currencies",
     "/api/schema"],
)  # fmt: skip
def test_what_is_the_same_for_everybody_is_compressed(proxy, path):
    answer = Client(proxy, new_address()).send("GET", path, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert len(answer.text) > 4000


@pytest.mark.parametrize(
    "path",
    ["/orders/find", "/api/orders", "/api/orders/0c9d", "/api/fulfillment/0c9d/reveal", "/api/payments/create",
     "/api/fulfillment/0c9d/download-link", "/checkout", "/admin/", SIGN_IN, "/api/admin/login",
     "/objects/x?signature=y"],
)  # fmt: skip
def test_what_may_hold_a_secret_is_never_compressed(proxy, path):
    answer = Client(proxy, new_address()).send("GET", path, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers


# --- The log


def test_log_holds_no_query_and_no_referer_whatever_goes_wrong(web):
    mark = secrets.token_hex(8)
    paths = [
        f"/objects/a?signature={mark}",
        f"/objects/a%3Fsignature={mark}",
        f"/orders/0c9d%23m.1.{mark}",
        f"/admin/login/?next={mark}",
    ]
    referer = {"Referer": f"https://127.0.0.1/objects/a?signature={mark}"}
    with running(web) as served, running(f"127.0.0.1:{free_port()}") as away, running("gone.example:80") as unknown:
        for proxy, status in ((served, 200), (away, 503), (unknown, 503)):
            client = Client(proxy, new_address())
            assert {client.send("GET", path, headers=referer).status_code for path in paths} == {status}
            assert status == 503 or client.statuses("GET", paths[-1], 20, headers=referer)[429] > 0
            client.send("POST", f"{IPN}?token={mark}", headers=referer, data=b"x" * 20_000)
            requests.get(f"{proxy.plain_url}/objects/a?signature={mark}", allow_redirects=False, timeout=5)
            with open_tls(proxy) as connection:
                answer_to(
                    connection, f"GET /objects/a?signature={mark} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode()
                )
            client.send("POST", f"/admin/%3Fa={mark}", headers=referer | {"Accept": BROWSER}, data=b"x" * 300_000)
            client.session.close()  # until then, nginx waits for the rest of the body before it writes the line
            for line in (" 444 ", '"POST /admin/" 413'):
                wait_until(lambda proxy=proxy, line=line: line in proxy.logged(), seconds=5, what=f"{line} in the log")
            assert "nginx-pages" not in proxy.logged()
            assert '"GET /objects/a"' in proxy.logged()
            assert mark not in proxy.logged()


# --- A web that is created anew


class Names(socketserver.BaseRequestHandler):
    """Docker's name server, as far as nginx needs it: every name is at `server.addresses`."""

    def handle(self) -> None:
        question, answer_to = self.request
        addresses = self.server.addresses
        head = question[:2] + b"\x81\x80" + question[4:6] + struct.pack(">HHH", len(addresses), 0, 0)
        name_end = question.index(b"\x00", 12) + 5
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 600, 4)
        records = b"".join(record + socket.inet_aton(address) for address in addresses)
        answer_to.sendto(head + question[12:name_end] + records, self.client_address)


@contextmanager
def name_server(*addresses: str) -> Iterator[socketserver.ThreadingUDPServer]:
    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Names) as names:
        names.addresses = addresses
        start_serving(names)
        yield names
        names.shutdown()


def test_web_that_comes_back_at_another_address_is_found():
    port = free_port()
    with name_server("127.0.0.2") as names, running(f"web:{port}", RESOLVER=address_of(names)) as proxy:
        client = Client(proxy, new_address())
        with application("127.0.0.2", port):
            assert client.send("GET", "/livez").status_code == 200
        assert client.send("GET", "/livez").status_code == 503
        with application("127.0.0.3", port):
            names.addresses = ("127.0.0.3",)
            wait_until(lambda: client.send("GET", "/livez").status_code == 200, seconds=15, what="the new web")


def address_of(names: socketserver.BaseServer) -> str:
    return f"127.0.0.1:{names.server_address[1]}"


def test_no_request_is_lost_while_one_of_two_webs_is_not_there_yet():
    port = free_port()
    with (
        name_server("127.0.0.2", "127.0.0.3") as names,
        application("127.0.0.3", port),
        running(f"web:{port}", RESOLVER=address_of(names)) as proxy,
    ):
        client = Client(proxy, new_address())
        assert client.statuses("GET", "/livez", 20) == {200: 20}
        assert client.statuses("POST", PLACE, 15, data=b"{}") == {200: 15}


def test_no_request_is_lost_while_one_of_two_webs_has_gone():
    """Docker takes the name back at once, but nginx keeps the address for five seconds, and nobody answers there."""
    port = free_port()
    sooner = {"connect_timeout 3s": "connect_timeout 1s"}
    with (
        name_server("127.0.0.2", "127.0.0.3") as names,
        application("127.0.0.3", port),
        gone("127.0.0.2", port),
        running(f"web:{port}", RESOLVER=address_of(names), changes=sooner) as proxy,
    ):
        client = Client(proxy, new_address())
        assert client.statuses("GET", "/livez", 10) == {200: 10}
        assert client.statuses("POST", PLACE, 10, data=b"{}") == {200: 10}


@contextmanager
def gone(host: str, port: int) -> Iterator[None]:
    """Take no connection and refuse none, as an address that nobody has any more: the queue of this one is full."""
    with socket.create_server((host, port), backlog=0), ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        yield


def test_what_a_web_is_slow_with_is_not_given_to_the_other_one_as_well():
    port = free_port()
    heard: list[bytes] = []
    shorter = {"read_timeout 30s": "read_timeout 2s", "next_upstream_timeout 10s": "next_upstream_timeout 1s"}
    with name_server("127.0.0.2", "127.0.0.3") as names, ExitStack() as stack:
        for host in ("127.0.0.2", "127.0.0.3"):
            stack.enter_context(dying_application(host, port, heard, after=3))
        with running(f"web:{port}", RESOLVER=address_of(names), changes=shorter) as proxy:
            assert Client(proxy, new_address()).send("GET", "/livez").status_code == 503
    assert len(heard) == 1


def test_order_whose_answer_was_lost_is_not_sent_to_the_other_web():
    port = free_port()
    with name_server("127.0.0.2", "127.0.0.3") as names, ExitStack() as stack:
        heard: list[bytes] = []
        for host in ("127.0.0.2", "127.0.0.3"):
            stack.enter_context(dying_application(host, port, heard))
        with running(f"web:{port}", RESOLVER=address_of(names)) as proxy:
            assert Client(proxy, new_address()).send("POST", PLACE, data=b"{}").status_code == 503
    assert len(heard) == 1


@contextmanager
def dying_application(host: str, port: int, heard: list[bytes], *, after: float = 0) -> Iterator[None]:
    """Hear each request, and hang up instead of answering it, after so many seconds."""

    class Dying(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(self.request.recv(10_000))
            time.sleep(after)

    with socketserver.ThreadingTCPServer((host, port), Dying) as server:
        start_serving(server)
        yield
        server.shutdown()


# --- The container


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="giving up rights needs them, and setpriv")
def test_proxy_needs_no_more_rights_than_compose_leaves_it(web):
    kept = [f"+{name.lower()}" for name in compose()["services"]["nginx"]["cap_add"]]

    class Confined(Proxy):
        def command(self) -> list[str]:
            rights = ",".join(["-all", *kept])
            return ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", "--no-new-privs", *super().command()]

    with Confined(web=web) as proxy:
        assert Client(proxy, "10.0.0.1").send("POST", "/admin/x", data=b"x" * 200_000).status_code == 200
        master = next(
            line for line in Path(f"/proc/{proxy.process.pid}/status").read_text().splitlines() if "CapEff" in line
        )
        assert int(master.split()[1], 16).bit_count() == len(kept)


# --- start.sh and the list of Cloudflare's addresses


def test_proxy_does_not_start_without_names_or_behind_an_unknown_proxy(tmp_path):
    script = str(ROOT / "deploy" / "nginx" / "start.sh")
    environment = {"PATH": os.environ["PATH"], "SITE_CONF": str(tmp_path / "site.conf")}
    for wrong, said in (({}, "ALLOWED_HOSTS"), ({"ALLOWED_HOSTS": "a.example", "BEHIND": "fastly"}, "cloudflare")):
        done = subprocess.run(["sh", script], env=environment | wrong, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert said in done.stderr


def test_renewed_certificate_is_served_after_the_next_reload(web):
    with running(web, RELOAD_SECONDS="1") as proxy:
        old = served_certificate(proxy)
        write_certificate(proxy.folder)
        wait_until(lambda: served_certificate(proxy) != old, seconds=15, what="the new certificate")


def served_certificate(proxy: Proxy) -> bytes | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", proxy.port), 15)) as connection:
        return connection.getpeercert(binary_form=True)


def test_list_of_cloudflares_addresses_is_renewed_only_by_a_plausible_one(proxy, tmp_path):
    script, target = proxy.scripts / "update-cloudflare.sh", proxy.scripts / "cloudflare.conf"
    before = target.read_text()
    lists = {"ips-v4": [f"198.51.{number}.0/24" for number in range(9)], "ips-v6": ["2001:db8::/32", "not an address;"]}
    for name, lines in lists.items():
        (tmp_path / name).write_text("\n".join(lines))
    environment = {"PATH": os.environ["PATH"], "CLOUDFLARE_LISTS": f"file://{tmp_path}"}

    done = subprocess.run(["sh", str(script)], env=environment, capture_output=True, text=True, check=True)

    assert "10 addresses" in done.stdout
    written = target.read_text()
    assert written.count("set_real_ip_from") == 10
    assert "set_real_ip_from 2001:db8::/32;" in written
    assert "real_ip_header CF-Connecting-IP;" in written
    assert "not an address" not in written
    (tmp_path / "ips-v4").write_text("<html>blocked</html>")
    refused = subprocess.run(["sh", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, target.read_text()) == (1, written)
    target.write_text(before)

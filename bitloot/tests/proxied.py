"""The real nginx in front of an application that only echoes its requests, and clients of both."""

import json
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from bitloot.tests.proxy import Proxy
from bitloot.tests.serving import start_serving

# What a browser accepts.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


class Echo(BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps({"path": self.path, "headers": dict(self.headers), "filling": "a" * 4000}).encode()
        self.send_response(200)
        html = self.path.startswith(("/products/", "/orders/")) or self.path == "/"
        self.send_header("Content-Type", "text/html" if html else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *arguments: object) -> None:
        pass


class Application(ThreadingHTTPServer):
    request_queue_size, daemon_threads = 512, True


@contextmanager
def application(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    with Application((host, port), Echo) as server:
        start_serving(server)
        yield f"{host}:{server.server_port}"
        server.shutdown()


class Client:
    """One customer at an address of his own, as Cloudflare would name it."""

    def __init__(self, proxy: Proxy, address: str) -> None:
        self.proxy, self.address = proxy, address
        self.session = requests.Session()
        self.session.trust_env, self.session.verify = False, str(proxy.ca)

    def send(self, method: str, path: str, **options) -> requests.Response:
        headers = {"CF-Connecting-IP": self.address, **options.pop("headers", {})}
        url = self.proxy.url + path
        return self.session.request(method, url, headers=headers, allow_redirects=False, timeout=30, **options)

    def statuses(self, method: str, path: str, times: int, **options) -> Counter[int]:
        return Counter(self.send(method, path, **options).status_code for _ in range(times))


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with application() as address:
        yield address


@contextmanager
def running(web: str, **options) -> Iterator[Proxy]:
    """Start the proxy as behind Cloudflare, with this machine as one of Cloudflare's."""
    proxy = Proxy(web=web, BEHIND="cloudflare", **options)
    with (proxy.scripts / "cloudflare.conf").open("a") as file:
        file.write("set_real_ip_from 127.0.0.1;\n")
    with proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxy(web) -> Iterator[Proxy]:
    with running(web) as proxy:
        yield proxy


@pytest.fixture
def client(proxy) -> Client:
    return Client(proxy, new_address())


def new_address() -> str:
    return "10." + ".".join(str(secrets.randbelow(250) + 1) for _ in range(3))

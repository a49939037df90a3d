"""Anyone the proxy turns away reads why: people in their language, programs as a problem document."""

import re
from collections.abc import Iterator

import pytest
import requests

from bitloot.tests.proxied import BROWSER, Client, client, new_address, proxy, running, web
from bitloot.tests.proxy import Proxy
from bitloot.tests.services import free_port
from tools.dev.devenv import ROOT

__all__ = ["client", "proxy", "web"]  # fixtures
pytestmark = [pytest.mark.nginx, pytest.mark.timeout(120)]

HEADLINES = {
    (413, "en"): "That was too large",
    (413, "de"): "Das war zu groß",
    (429, "en"): "A little too fast",
    (429, "de"): "Etwas zu schnell",
    (503, "en"): "We will be right back",
    (503, "de"): "Wir sind gleich wieder da",
}


def refused(client: Client, status: int, path: str, **headers: str) -> requests.Response:
    """Return the first answer with this status."""
    method, body = ("POST", b"x" * 300_000) if status == 413 else ("GET", None)
    for _ in range(40):
        answer = client.send(method, path, data=body, headers=headers)
        if answer.status_code == status:
            return answer
    raise AssertionError(f"never {status}")


@pytest.fixture(scope="module")
def away() -> Iterator[Proxy]:
    with running(f"127.0.0.1:{free_port()}") as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("languages", "language"),
    [
        ({}, "en"),
        ({"Accept-Language": "de-AT,de;q=0.9,en;q=0.8"}, "de"),
        ({"Accept-Language": "en-GB,de;q=0.7"}, "en"),
        ({"Accept-Language": "den,fr"}, "en"),
        ({"Accept-Language": "en", "Cookie": "a=b; language=de"}, "de"),
        ({"Accept-Language": "de", "Cookie": "language=en"}, "en"),
    ],
)
@pytest.mark.parametrize("status", [413, 429, 503])
def test_people_get_a_page_in_their_language(proxy, away, status, languages, language):
    client = Client(away if status == 503 else proxy, new_address())
    answer = refused(client, status, "/admin/login/", Accept=BROWSER, **languages)
    answer.encoding = "utf-8"
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert f"<h1>{HEADLINES[status, language]}</h1>" in answer.text
    assert f'<html lang="{language}">' in answer.text
    assert "prefers-color-scheme: dark" in answer.text
    assert "<!--#" not in answer.text
    assert answer.headers.get("Retry-After") == (None if status == 413 else "5")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/admin/login/", "application/json"),
        ("/admin/login/", "*/*"),
        ("/api/admin/login", BROWSER),
        ("/api/admin/login", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"),  # Java's own, whoever asks
    ],
)
@pytest.mark.parametrize("status", [413, 429, 503])
def test_programs_get_a_problem(proxy, away, status, path, accept):
    answer = refused(Client(away if status == 503 else proxy, new_address()), status, path, Accept=accept)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    codes = {413: "too_large", 429: "throttled", 503: "unavailable"}  # as the application's own
    assert [problem["status"], problem["code"]] == [status, codes[status]]
    assert re.fullmatch(r"[0-9a-f]{32}", problem["request_id"])
    assert answer.headers.get("Retry-After") == (None if status == 413 else "5")


def test_pages_need_nothing_from_elsewhere_and_cannot_be_asked_for(client):
    pages = sorted((ROOT / "deploy" / "nginx" / "pages").iterdir())
    assert {page.name for page in pages} == {f"{status}.{language}.html" for status, language in HEADLINES} | {
        "head.html"
    }
    for page in pages:
        loaded = [] if page.name == "head.html" else ['href="/"']
        assert re.findall(r"(?:href|src|url\(|@import)[^>]*", page.read_text()) == loaded, page
        assert client.send("GET", f"/nginx-pages/{page.name}").status_code == 404

"""docs/api.md is true: its programs buy and open a key, and its tables have every code that the API answers."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bitloot.core import api
from bitloot.tests.services import DIRECT, EMBEDDED, Sandbox, answers, free_port, wait_until
from orders.idempotency import KEPT_FOR
from orders.models import MAX_LINES, MAX_QUANTITY
from orders.services import UNPAID_PER_HOUR
from tools.dev.devenv import ROOT

GUIDE = (ROOT / "docs" / "api.md").read_text("utf-8")
ROOMS = ("bitloot", "orders", "payments", "fulfillment", "storage", "webhooks")
PROGRAMS = {"python": [sys.executable, "-c"], "javascript": ["node", "--input-type=module", "-e"]}
# What Django REST framework raises in our routes, beside those that `api` has a sentence for.
FRAMEWORKS = {"parse_error", "too_large"}


def codes_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Find `409, "refused"` among the arguments of a call or the members of a tuple."""
    for node in ast.walk(tree):
        values = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
        known = [value.value if isinstance(value, ast.Constant) else None for value in values]
        for status, code in zip(known, known[1:], strict=False):
            if isinstance(status, int) and 400 <= status < 600 and re.fullmatch("[a-z_]+", str(code)):
                yield str(code), status


def ours() -> set[tuple[str, int]]:
    sources = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "tests" not in path.parts]
    return {pair for path in sources for pair in codes_of(ast.parse(path.read_text("utf-8")))}


def test_every_code_is_explained_with_its_status_and_no_other():
    documented = re.findall(r"^\| `(\w+)` \| (\d+) \|", GUIDE, re.MULTILINE)
    assert len(dict(documented)) == len(documented)
    assert ours() <= {(code, int(status)) for code, status in documented}
    known = {code for code, _ in ours()} | set(api.SENTENCES) | FRAMEWORKS
    assert {code for code, _ in documented} == known


def test_limits_are_those_of_the_code(settings):
    rates = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]
    said = {"read": "600 a minute", "orders": "60 a minute", "payments": "60 a minute", "lookup": "20 a minute"}
    for scope, words in {**said, "reveal": "60 a minute"}.items():
        assert rates[scope] == words.replace(" a minute", "/min")
        assert words in GUIDE
    assert f"{UNPAID_PER_HOUR} an hour" in GUIDE
    assert f"{MAX_LINES} products, {MAX_QUANTITY} keys" in GUIDE
    assert f"{api.MAX_BODY_BYTES // 1024} KiB" in GUIDE
    assert f"{KEPT_FOR.total_seconds() / 3600:g} hours" in GUIDE


def coins(url: str) -> list[str]:
    with DIRECT.open(f"{url}/api/payments/currencies", timeout=30) as answer:
        return [coin["code"] for coin in json.load(answer)["currencies"]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The demo's shop with its sandbox, as `make run` starts it."""
    port, sandbox_port = free_port(), free_port()
    command = [sys.executable, "-m", "tools.dev.demo", "--keep", "--var", str(tmp_path_factory.mktemp("shop"))]
    with subprocess.Popen(
        [*command, "--port", str(port), "--sandbox-port", str(sandbox_port)],
        cwd=ROOT, env=os.environ | EMBEDDED, stdout=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: answers(f"{url}/readyz"), seconds=120, what="the shop")
            # A shop that has just opened may still be asking which coins there are.
            wait_until(lambda: "btc" in coins(url), seconds=60, what="the offer to pay in bitcoin")
            yield url, Sandbox(f"http://127.0.0.1:{sandbox_port}")
        finally:
            running.terminate()


@pytest.mark.chaos
@pytest.mark.node
@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", PROGRAMS)
def test_the_program_buys_and_opens_a_key(shop, language):
    url, sandbox = shop
    (program,) = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    program = program.replace("https://shop.example", url)
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with subprocess.Popen(
        [*PROGRAMS[language], program], stdout=subprocess.PIPE, text=True, env=environment
    ) as running:
        _, payment, *_ = running.stdout.readline().split()
        sandbox.pay(payment)
        said = running.communicate(timeout=200)[0]
    assert running.returncode == 0
    assert re.fullmatch(r"Key \S+\n", said)

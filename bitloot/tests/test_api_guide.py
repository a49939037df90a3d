"""docs/api.md is true: its programs and those of the clients buy and open a key, its tables have every code."""

import ast
import base64
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from bitloot.core import api
from bitloot.core.clients import Scope
from bitloot.partners.tests.receiver import running_receiver
from bitloot.tests.services import DIRECT, EMBEDDED, Sandbox, answers, free_port, wait_until
from orders.idempotency import KEPT_FOR
from orders.models import MAX_LINES, MAX_QUANTITY
from orders.services import UNPAID_PER_HOUR
from tools.dev.devenv import ROOT, process_environment

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


def run_manage(environment: dict[str, str], *arguments: str) -> Any:
    """Run a command of the shop; return the document that it prints."""
    command = [sys.executable, "manage.py", *arguments, "--json"]
    return json.loads(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True).stdout)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The demo's shop with its sandbox, as `make run` starts it."""
    port, sandbox_port = free_port(), free_port()
    var = tmp_path_factory.mktemp("shop")
    command = [sys.executable, "-m", "tools.dev.demo", "--keep", "--var", str(var)]
    with subprocess.Popen(
        [*command, "--port", str(port), "--sandbox-port", str(sandbox_port)],
        cwd=ROOT, env=os.environ | EMBEDDED, stdout=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: answers(f"{url}/readyz"), seconds=120, what="the shop")
            # A shop that has just opened may still be asking which coins there are.
            wait_until(lambda: "btc" in coins(url), seconds=60, what="the offer to pay in bitcoin")
            manage = partial(run_manage, process_environment(var, port=port, sandbox_port=sandbox_port, **EMBEDDED))
            yield url, Sandbox(f"http://127.0.0.1:{sandbox_port}"), manage
        finally:
            running.terminate()


@pytest.fixture(scope="module")
def sdk(tmp_path_factory):
    """Both clients as `make sdk` makes them, in a folder of their own, each with its README's program."""
    folder = tmp_path_factory.mktemp("sdk")
    for language, ending in (("python", "py"), ("typescript", "ts")):
        (folder / language / "src").mkdir(parents=True)
        readme = (ROOT / "sdk" / language / "README.md").read_text("utf-8")
        (folder / language / "src" / f"program.{ending}").write_text(program_of(readme, language))
    subprocess.run([sys.executable, "-m", "tools.dev.sdk", "--into", str(folder)], cwd=ROOT, check=True)
    return folder


def program_of(text, language):
    (program,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return program


def assert_buys_a_key(start, program, shop, **environment):
    url, sandbox, _ = shop
    command = [*start, program.replace("https://shop.example", url)]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        _, payment, *_ = running.stdout.readline().split()
        sandbox.pay(payment)
        said = running.communicate(timeout=200)[0]
    assert running.returncode == 0
    assert re.fullmatch(r"Key \S+\n", said)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_reseller_sells_a_key_and_hears_of_it(shop):
    """With an API key alone: place, pay, be told, list, open."""
    url, sandbox, manage = shop
    with running_receiver() as receiver:
        scopes = [part for scope in Scope.values for part in ("--scope", scope)]
        made = manage("create_api_key", "Corner", "--email", "dev@partner.example", "--webhook", receiver.url, *scopes)

        def call(path, body=None):
            sent = None if body is None else json.dumps(body).encode()
            headers = {"Authorization": f"Bearer {made['api_key']}", "Content-Type": "application/json"}
            with DIRECT.open(urllib.request.Request(f"{url}{path}", data=sent, headers=headers), timeout=30) as answer:
                return json.load(answer)

        def told():
            return [event["type"] for event in receiver.opened(made["webhook"]["secret"])]

        lines = [{"product": "ember-drift", "quantity": 1}]
        order = call("/api/orders", {"email": "kim@customer.example", "items": lines})
        payment = call("/api/payments/create", {"order_id": order["id"], "pay_currency": "btc"})
        sandbox.pay(str(payment["payment_id"]))
        wait_until(lambda: "order.fulfilled" in told(), seconds=120, what="the webhook that it is fulfilled")
        assert sorted(told()) == ["order.fulfilled", "order.paid"]
        assert [row["status"] for row in call("/api/orders?status=fulfilled")["results"]] == ["fulfilled"]
        assert call(f"/api/fulfillment/{order['id']}/reveal", {})["keys"][0]["key"]


@pytest.mark.chaos
@pytest.mark.node
@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", PROGRAMS)
def test_the_program_buys_and_opens_a_key(shop, language):
    assert_buys_a_key(PROGRAMS[language], program_of(GUIDE, language), shop)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_the_python_client_is_typed_and_buys_and_opens_a_key(shop, sdk):
    package, program = sdk / "python", sdk / "python" / "src" / "program.py"
    strict = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={sdk / 'mypy'}"]
    checked = [*strict, str(program), "bitloot_client"]
    done = subprocess.run(checked, cwd=package, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert_buys_a_key(PROGRAMS["python"], program.read_text(), shop, PYTHONPATH=str(package))


@pytest.mark.chaos
@pytest.mark.npm
@pytest.mark.timeout(300)
def test_the_typescript_client_buys_and_opens_a_key(shop, sdk):
    # `make sdk` has compiled it, which is the check of its types.
    compiled = (sdk / "typescript" / "dist" / "program.js").read_text()
    inside = compiled.replace('"bitloot-client"', f'"{sdk}/typescript/dist/index.js"')
    assert_buys_a_key(PROGRAMS["javascript"], inside, shop)


OPENERS = {
    "python": (
        "import json, sys; from types import SimpleNamespace as Key; from bitloot_client import KeyDamaged, open_key\n"
        "for case in json.load(sys.stdin):\n"
        "    try: print(open_key(Key(**case['key']), bytes.fromhex(case['sealed'])).text)\n"
        "    except KeyDamaged: print('damaged')"
    ),
    "typescript": (
        "import { readFileSync } from 'node:fs'; import { KeyDamaged, openKey } from './dist/index.js';\n"
        "for (const { key, sealed } of JSON.parse(readFileSync(0, 'utf8')))\n"
        "  console.log(await openKey(key, Uint8Array.from(Buffer.from(sealed, 'hex'))).then((opened) => opened.text,\n"
        "    (err) => (err instanceof KeyDamaged ? 'damaged' : `${err}`)));"
    ),
}


def vector_cases():
    """The key of docs/key-format.md, and the same with one thing wrong in each."""
    page = (ROOT / "docs" / "key-format.md").read_text("utf-8").partition("## Test vectors")[2]
    vectors = dict(re.findall(r"^\| ([\w ,]+) \| `(.+)` \|$", page, re.MULTILINE))
    as_text = lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")  # noqa: E731
    key = {
        "product": "ember-drift",
        "content_type": "text/plain",
        "algorithm": "A256GCM",
        "key": as_text(bytes.fromhex(vectors["data key"])),
        "nonce": as_text(bytes.fromhex(vectors["nonce"])),
        "aad": as_text(vectors["place"].encode()),
    }
    good = {"key": key, "sealed": vectors["ciphertext"]}
    elsewhere = as_text(vectors["place"].replace("production", "development").encode())
    wrong = [{**good, "key": {**key, "aad": elsewhere}}, {**good, "key": {**key, "algorithm": "A128GCM"}}]
    wrong += [{**good, "key": {**key, "nonce": as_text(bytes(12))}}, {**good, "sealed": good["sealed"][:-2] + "00"}]
    return vectors["licence key"], [good, *wrong]


@pytest.mark.chaos
@pytest.mark.npm
@pytest.mark.parametrize("language", OPENERS)
def test_a_client_opens_the_vectors_and_nothing_that_was_changed(sdk, language):
    licence_key, cases = vector_cases()
    start = [sys.executable, "-c"] if language == "python" else ["node", "--input-type=module", "-e"]
    done = subprocess.run(
        [*start, OPENERS[language]], cwd=sdk / language, input=json.dumps(cases), stdout=subprocess.PIPE, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == [licence_key, "damaged", "damaged", "damaged", "damaged"]

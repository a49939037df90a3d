"""A customer who buys one key: knows the shop's address, the sandbox's and a mailbox, and nothing of BitLoot.

    customer.py http://127.0.0.1:8000 http://127.0.0.1:8001 var/demo/mail

Ends with 0 only if the key it decrypted is the key that the sandbox sold.
"""

import argparse
import base64
import email
import email.policy
import json
import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PATIENCE_SECONDS = 90
STARTED = time.monotonic()
# The host's proxy settings must not come between two programs on loopback.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
Json = Any


def main() -> None:
    options = _options()
    order = _order(options)
    bearer = order["access_token"]
    _pay(options, order, bearer)
    _watch_until_fulfilled(options.shop, order["id"], bearer)
    link = _read_mail(Path(options.mailbox), order["id"])
    _follow(link)
    if options.link_file:
        Path(options.link_file).write_text(link)
    opened = _open_keys(options.shop, order["id"], link.partition("#")[2])
    _compare(options.sandbox, opened)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shop")
    parser.add_argument("sandbox")
    parser.add_argument("mailbox", help="The folder that the shop's mail is written to.")
    parser.add_argument("--product", default="ember-drift")
    parser.add_argument("--quantity", type=int, default=1)
    parser.add_argument("--coin", default="btc")
    parser.add_argument("--email", default="ada@customer.example")
    parser.add_argument("--link-file", help="Write the link from the mail here.")
    return parser.parse_args()


def _order(options: argparse.Namespace) -> Json:
    shelf = _call("GET", f"{options.shop}/api/products")
    products = shelf["results"] if isinstance(shelf, dict) else shelf
    chosen = next((product for product in products if product["slug"] == options.product), None)
    if chosen is None:
        _fail(f"the shop does not sell {options.product}")
    _say(f"The shop has {len(products)} products; {chosen['title']} costs {chosen['price']} {chosen['currency']}.")
    lines = [{"product": options.product, "quantity": options.quantity}]
    order = _call("POST", f"{options.shop}/api/orders", {"email": options.email, "items": lines})
    _say(f"Ordered: {order['id']}, {order['total']} {order['currency']}, {order['status']}.")
    return order


def _pay(options: argparse.Namespace, order: Json, bearer: str) -> None:
    while options.coin not in _coins(options.shop):  # a shop that has just opened may still be asking which there are
        _be_patient(f"the offer to pay in {options.coin}")
    wanted = {"order_id": order["id"], "pay_currency": options.coin}
    payment = _call("POST", f"{options.shop}/api/payments/create", wanted, bearer=bearer)
    while payment["status"] == "creating":
        _be_patient("the payment address")
        payment = _call("GET", f"{options.shop}/api/orders/{order['id']}", bearer=bearer)["payment"]
    amount = f"{payment['pay_amount']} {payment['pay_currency']}"
    _say(f"Payment {payment['payment_id']}: {amount} to {payment['pay_address']}.")
    _call("POST", f"{options.sandbox}/control/payments/{payment['payment_id']}/pay", {"mode": "exact"})
    _say(f"Sent exactly {amount} at the sandbox, which now tells the shop by signed IPN.")


def _coins(shop: str) -> list[str]:
    return [coin["code"] for coin in _call("GET", f"{shop}/api/payments/currencies")["currencies"]]


def _watch_until_fulfilled(shop: str, order_id: str, bearer: str) -> None:
    """Read the order until the shop has done everything, and say each line of its timeline once."""
    told = 0
    while True:
        order = _call("GET", f"{shop}/api/orders/{order_id}", bearer=bearer)
        for line in order["timeline"][told:]:
            _say(f"  {line['event']}: {line['message']}" if line["message"] else f"  {line['event']}")
        told = len(order["timeline"])
        if order["fulfillment_status"] == "fulfilled":
            return
        if order["fulfillment_status"] == "failed":
            _fail(f"the shop gave up: {order['error']}")
        _be_patient("the key")


def _read_mail(mailbox: Path, order_id: str) -> str:
    """Return the link from the newest mail about this order that offers the key."""
    pattern = re.compile(rf"https?://\S+/orders/{order_id}#[\w.:~-]+")
    while True:
        for subject, text in _mails(mailbox):
            found = pattern.search(text)
            if found and "key" in subject.lower():
                _say(f"Mail “{subject}” holds the link {found[0][:60]}...")
                return found[0]
        _be_patient("the mail with the link")


def _mails(mailbox: Path) -> list[tuple[str, str]]:
    """Return subject and plain text of every mail, newest first. Django writes one per file, with a line of dashes."""
    files = sorted(mailbox.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
    mails = []
    for path in files:
        for part in re.split(rb"^-{79}\n?", path.read_bytes(), flags=re.MULTILINE):
            message = email.message_from_bytes(part, policy=email.policy.default)
            body = message.get_body(("plain",))
            if body is not None:
                mails.append((str(message["subject"]), body.get_content()))
    return mails


def _follow(link: str) -> None:
    page, _, token = link.partition("#")
    with DIRECT.open(page, timeout=30) as answer:
        shell = answer.read().decode()
    if token in shell:
        _fail("the page repeats the token")
    _say(f"The link opens a page of {len(shell)} characters; its token never left the browser's address bar.")


def _open_keys(shop: str, order_id: str, bearer: str) -> list[bytes]:
    """Fetch the sealed keys and open them as the customer's browser does."""
    order = _call("GET", f"{shop}/api/orders/{order_id}", bearer=bearer)
    revealed = _call("POST", f"{shop}/api/fulfillment/{order_id}/reveal", {}, bearer=bearer)["keys"]
    if len(revealed) != sum(item["quantity"] for item in order["items"]):
        _fail(f"{len(revealed)} keys came for {order['items']}")
    opened = []
    for key in revealed:
        with DIRECT.open(key["download_url"], timeout=30) as answer:
            sealed = answer.read()
        _say(f"Downloaded {len(sealed)} sealed bytes from {key['download_url'].partition('?')[0]}.")
        try:
            opened.append(AESGCM(_binary(key["key"])).decrypt(_binary(key["nonce"]), sealed, _binary(key["aad"])))
        except InvalidTag:
            _fail("what was downloaded does not open")
        if opened[-1] in sealed:
            _fail("what was downloaded was not sealed")
    return opened


def _compare(sandbox: str, opened: list[bytes]) -> None:
    sold = _call("GET", f"{sandbox}/control/sold")
    serials = {_serial(key) for key in (sold["sold"] if isinstance(sold, dict) else sold)}
    for key in opened:
        if key not in serials:
            _fail("the opened key is not one that the sandbox sold")
        shown = key.decode() if key.isascii() and len(key) < 100 else f"a picture of {len(key)} bytes"
        _say(f"Opened: {shown}, which is what the sandbox sold.")


def _serial(sold: Json) -> bytes:
    return sold["serial"].encode() if sold["type"].startswith("text") else base64.b64decode(sold["serial"])


def _call(method: str, url: str, body: Json = None, *, bearer: str = "") -> Json:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=sent, headers=headers, method=method)
    try:
        with DIRECT.open(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as err:
        _fail(f"{method} {url} was answered with {err.code}: {err.read(500).decode(errors='replace')}")
    except OSError as err:
        _fail(f"{method} {url}: {err}")


def _binary(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _be_patient(what: str) -> None:
    if time.monotonic() - STARTED > PATIENCE_SECONDS:
        _fail(f"{what} did not come within {PATIENCE_SECONDS} s")
    time.sleep(0.1)


def _say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:6.2f} s] {text}", flush=True)


def _fail(text: str) -> NoReturn:
    _say(f"FAILED: {text}")
    sys.exit(1)


if __name__ == "__main__":
    main()

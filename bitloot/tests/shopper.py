"""A customer at the HTTP interface, for stories over real processes. Knows nothing of the store's code."""

import base64
import time
import uuid
from collections.abc import Callable
from typing import Any

import requests
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tools.dev.supervise import wait_until

PATIENCE_SECONDS = 120
ASK_AGAIN_SECONDS = 8


class Shopper:
    """Buys and opens keys, asks again when nobody answers, and remembers every body it was sent."""

    def __init__(self, url: str, *, ca: str | bool = True) -> None:
        self.url = url
        self.bodies: list[bytes] = []
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca

    def order(self, *products: str, email: str = "", quantity: int = 1) -> dict[str, Any]:
        email = email or f"{uuid.uuid4().hex}@customer.example"  # the shop limits the unpaid orders of one address
        lines = [{"product": product, "quantity": quantity} for product in products or ("ember-drift",)]
        # The key makes the repeat after a lost answer the same order.
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return self.json("POST", "/api/orders", json={"email": email, "items": lines}, headers=headers)

    def payment(self, order: dict[str, Any], coin: str = "btc") -> dict[str, Any]:
        """Ask for an address to pay to, and wait until there is one."""
        self.wait(lambda: coin in self._coins(), f"the offer to pay in {coin}")
        payment: dict[str, Any] = {}
        asked_at = 0.0

        def has_address() -> bool:
            nonlocal payment, asked_at
            # A store that died while it asked the provider does not know the answer: a customer chooses the coin again.
            if time.monotonic() - asked_at > ASK_AGAIN_SECONDS:
                asked = {"order_id": order["id"], "pay_currency": coin}
                self.json("POST", "/api/payments/create", json=asked, headers=bearer(order))
                asked_at = time.monotonic()
            payment = self.read(order)["payment"] or {}
            return bool(payment.get("pay_address"))

        self.wait(has_address, f"the address to pay {coin} to")
        return payment

    def read(self, order: dict[str, Any]) -> dict[str, Any]:
        return self.json("GET", f"/api/orders/{order['id']}", headers=bearer(order))

    def wait_fulfilled(self, order: dict[str, Any], seconds: float = PATIENCE_SECONDS) -> None:
        now: dict[str, Any] = {}

        def is_fulfilled() -> bool:
            now.update(self.read(order))
            assert now["error"] is None, f"the store gave the order up: {now}"
            return bool(now["fulfillment_status"] == "fulfilled")

        try:
            self.wait(is_fulfilled, "the delivery", seconds)
        except TimeoutError as err:
            raise TimeoutError(f"{err}: {now}") from err

    def open_keys(self, order: dict[str, Any]) -> list[bytes]:
        """Fetch and open every key of the order, as the browser does."""
        revealed = self.json("POST", f"/api/fulfillment/{order['id']}/reveal", json={}, headers=bearer(order))
        return [self._open(key) for key in revealed["keys"]]

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.send("GET", path, **options)

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Send until it is answered below 500; raises for anything but success."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self.send(method, path, **options)
            except (requests.ConnectionError, requests.Timeout):
                if time.monotonic() > deadline:
                    raise
            else:
                if answer.status_code < 500 and answer.status_code != 409:
                    assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
                    return answer.json()
                assert time.monotonic() < deadline, f"{method} {path}: {answer.status_code} {answer.text}"
            time.sleep(0.2)

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        url = path if path.startswith("http") else f"{self.url}{path}"
        answer = self._session.request(method, url, timeout=30, allow_redirects=False, **options)
        self.bodies.append(answer.content)
        return answer

    def wait(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        wait_until(condition, seconds=seconds, what=what)

    def _coins(self) -> list[str]:
        return [offer["code"] for offer in self.json("GET", "/api/payments/currencies")["currencies"]]

    def _open(self, key: dict[str, Any]) -> bytes:
        sealed = self.get(key["download_url"])
        assert sealed.status_code == 200, f"{key['download_url']}: {sealed.status_code}"
        material, nonce, aad = (_binary(key[name]) for name in ("key", "nonce", "aad"))
        return AESGCM(material).decrypt(nonce, sealed.content, aad)


def bearer(order: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {order['access_token']}"}


def _binary(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

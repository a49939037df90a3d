"""What the tests of the three dialects share: recorded answers and the ways in which a call can go wrong."""

import json
from pathlib import Path

import pytest
import requests

from bitloot.core.providers import Transport
from fulfillment.kinguin import EcommerceClient

FIXTURES = Path(__file__).parent / "fixtures"
BASE = "https://kinguin.test/api"
EXTERNAL_ID = "3d0a6f0e-7f0a-4e55-9c52-0c9f5b1b7a10"
PRODUCT_ID = "6a1f0c2b9d3e4f5061728394"
OFFER_ID = "6a1f0d77aa10bb0001c0ffee"
# An order at the eCommerce API.
ORDER_ID = "TSTORD1A2B3"
ORDERS, ORDER, KEYS = f"{BASE}/v1/order", f"{BASE}/v1/order/{ORDER_ID}", f"{BASE}/v2/order/{ORDER_ID}/keys"
SECRET = "example-webhook-secret-32-chars!"

GARBAGE = [b"", b"<html>", b"{}", b"null", b"1", b'"x"', b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 5000, b"\xff", b"[1]"]
NO_ANSWER = [requests.ReadTimeout(), requests.ConnectionError("reset"), ConnectionResetError()]
UNUSABLE = [
    (500, b"{}"),
    (502, b"<html>"),
    (503, b""),
    (429, b"<html>"),
    (408, b""),
    (307, b""),
    (301, b"{}"),
    (404, b"<html>"),
]


def recorded(name):
    return json.loads((FIXTURES / f"{name}.json").read_text())


def changed(name, /, **members):
    return {**recorded(name), **members}


@pytest.fixture
def client():
    return EcommerceClient(Transport(provider="kinguin", base_url=BASE, headers={"X-Api-Key": "the-api-key"}))

"""docs/key-format.md is the contract with everyone who opens a key without our code: its vectors are computed here."""

import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from storage.sealing import Binding, MasterKeys, Sealed, WrappedKey, open_sealed

PAGE = Path(__file__).parents[2] / "docs" / "key-format.md"
SALTLESS = {"algorithm": SHA256(), "length": 32, "salt": None}


@pytest.fixture(scope="module")
def vectors() -> dict[str, str]:
    table = PAGE.read_text().partition("## Test vectors")[2]
    return dict(re.findall(r"^\| ([^|`]+) \| `(.+)` \|$", table, re.MULTILINE))


@pytest.fixture(scope="module")
def place(vectors) -> Binding:
    document = json.loads(vectors["place"])
    return Binding(environment=document.pop("env"), **document)


def test_the_derivations_of_the_page_give_its_vectors(vectors):
    """By the page's words alone, with no function of ours."""
    secret, place = vectors["secret"].encode(), vectors["place"].encode()
    wrapping_secret = HKDF(**SALTLESS, info=b"bitloot/wrapping/v2").derive(secret)
    wrapping_key = HKDFExpand(SHA256(), 32, info=place).derive(wrapping_secret)
    master_key = HKDF(**SALTLESS, info=b"bitloot/master/v1").derive(secret)
    named = HKDF(**SALTLESS, info=b"bitloot/master-id/v1").derive(secret)
    fingerprints = HKDF(**SALTLESS, info=b"bitloot/fingerprint/v1").derive(secret)
    assert wrapping_secret.hex() == vectors["wrapping secret"]
    assert wrapping_key.hex() == vectors["wrapping key"]
    assert master_key.hex() == vectors["master key"]
    assert hashlib.sha256(named).hexdigest()[:8] == vectors["master key id"]
    assert hmac.digest(fingerprints, vectors["licence key"].encode(), "sha256").hex() == vectors["fingerprint"]

    formats = {number: bytes.fromhex(vectors[f"wrapped data key, format {number}"]) for number in (1, 2)}
    assert (formats[2][:1], len(formats[2]), len(formats[1])) == (b"\x02", 41, 40)
    data_key = aes_key_unwrap(wrapping_key, formats[2][1:])
    assert data_key.hex() == aes_key_unwrap(master_key, formats[1]).hex() == vectors["data key"]
    ciphertext, nonce = bytes.fromhex(vectors["ciphertext"]), bytes.fromhex(vectors["nonce"])
    assert AESGCM(data_key).decrypt(nonce, ciphertext, place).decode() == vectors["licence key"]


@pytest.mark.parametrize("number", [1, 2])
def test_both_formats_of_the_page_open(vectors, place, number):
    wrapped = WrappedKey(bytes.fromhex(vectors[f"wrapped data key, format {number}"]), vectors["master key id"])
    sealed = Sealed(bytes.fromhex(vectors["ciphertext"]), bytes.fromhex(vectors["nonce"]), wrapped)
    keys = MasterKeys.from_secrets(vectors["secret"])
    assert open_sealed(sealed, place, keys=keys).decode() == vectors["licence key"]


def test_what_is_wrapped_and_recognised_today_is_what_the_page_says(vectors, place):
    keys = MasterKeys.from_secrets(vectors["secret"])
    assert place.aad.decode() == vectors["place"]
    wrapped = keys.wrap(bytes.fromhex(vectors["data key"]), place)
    assert wrapped.wrapped.hex() == vectors["wrapped data key, format 2"]
    assert wrapped.master_key_id == vectors["master key id"]
    assert keys.fingerprints(vectors["licence key"].encode() + b"\r\n") == [vectors["fingerprint"]]

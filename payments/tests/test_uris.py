from decimal import Decimal

import pytest

from payments.networks import NETWORKS, network_name, usual_minutes
from payments.uris import SCHEMES, payment_uri

ETHEREUM = "0x" + "ab" * 20
WRITTEN = {
    "btc": ("bc1qx", "0.00017", "", "bitcoin:bc1qx?amount=0.00017"),
    "ltc": ("ltc1qx", "0.5", "", "litecoin:ltc1qx?amount=0.5"),
    "doge": ("Dx", "70", "", "dogecoin:Dx?amount=70"),
    "dash": ("Xx", "0.4", "", "dash:Xx?amount=0.4"),
    "bch": ("bitcoincash:qx", "0.03", "", "bitcoincash:qx?amount=0.03"),
    "zec": ("t1x", "0.3", "", "zcash:t1x?amount=0.3"),
    "xmr": ("4x", "0.06", "", "monero:4x?tx_amount=0.06"),
    "sol": ("So1x", "0.071", "", "solana:So1x?amount=0.071"),
    "ada": ("addr1x", "25.5", "", "web+cardano:addr1x?amount=25.5"),
    "xrp": ("rX", "4.75", "81", "xrpl://rX?amount=4.75&dt=81"),
    "ton": ("UQx", "3.25", "a b&c", "ton://transfer/UQx?amount=3250000000&text=a%20b%26c"),
    "eth": (ETHEREUM, "0.0041", "", f"ethereum:{ETHEREUM}@1?value=4100000000000000"),
    "bnbbsc": (ETHEREUM, "0.017", "", f"ethereum:{ETHEREUM}@56?value=17000000000000000"),
    "usdterc20": (
        ETHEREUM, "10.86", "",
        f"ethereum:0xdAC17F958D2ee523a2206206994597C13D831ec7@1/transfer?address={ETHEREUM}&uint256=10860000",
    ),
    "usdc": (
        ETHEREUM, "10.86", "",
        f"ethereum:0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48@1/transfer?address={ETHEREUM}&uint256=10860000",
    ),
    "dai": (
        ETHEREUM, "10.86", "",
        f"ethereum:0x6B175474E89094C44Da98b954EedeAC495271d0F@1/transfer?address={ETHEREUM}&uint256=10860000000000000000",
    ),
}  # fmt: skip


def uri(coin, address="bc1qx", amount="1", memo="", network=None):
    asked = SCHEMES[coin].network if network is None else network
    return payment_uri(coin=coin, network=asked, address=address, amount=Decimal(amount), memo=memo)


@pytest.mark.parametrize("coin", SCHEMES)
def test_uri_of_each_coin_is_as_its_source_has_it(coin):
    address, amount, memo, expected = WRITTEN[coin]
    assert uri(coin, address, amount, memo) == expected
    assert SCHEMES[coin].source.startswith("https://")
    assert SCHEMES[coin].network in NETWORKS


@pytest.mark.parametrize("coin", SCHEMES)
def test_a_coin_on_another_network_is_given_as_an_address_alone(coin):
    assert uri(coin, network="newchain") is None
    assert uri(coin, network="") is not None  # they do not always name it


@pytest.mark.parametrize("coin", [coin for coin in SCHEMES if coin not in ("xrp", "ton")])
def test_a_memo_that_the_uri_cannot_carry_leaves_the_address_alone(coin):
    assert uri(coin, memo="12") is None


def test_a_tag_that_is_no_number_leaves_the_address_alone():
    assert (uri("xrp", "rX", memo="a&amount=9"), uri("xrp", "rX")) == (None, "xrpl://rX?amount=1")


@pytest.mark.parametrize(("coin", "amount"), [("usdterc20", "1.0000001"), ("ton", "0.0000000001")])
def test_an_amount_finer_than_the_smallest_unit_is_not_rounded(coin, amount):
    assert uri(coin, amount=amount) is None


def test_an_address_cannot_add_to_its_uri():
    assert uri("btc", "bc1?amount=9&x=") == "bitcoin:bc1%3Famount%3D9%26x%3D?amount=1"


def test_what_is_not_known_has_no_uri():
    assert payment_uri(coin="usdttrc20", network="trx", address="T", amount=Decimal(1), memo="") is None
    assert payment_uri(coin="btc", network="btc", address="", amount=Decimal(1), memo="") is None
    assert payment_uri(coin="btc", network="btc", address="x", amount=None, memo="") is None


@pytest.mark.parametrize(
    ("network", "code", "name"),
    [
        ("trx", "usdttrc20", "Tron (TRC-20)"),
        ("trx", "trx", "Tron"),
        ("btc", "btc", "Bitcoin"),
        ("bsc", "bnbbsc", "BNB Smart Chain (BEP-20)"),
        ("newchain", "x", "NEWCHAIN"),
        ("", "x", ""),
    ],
)
def test_networks_have_the_names_that_wallets_use(network, code, name):
    assert network_name(network, code) == name


def test_the_usual_time_is_known_by_network():
    assert [usual_minutes("btc"), usual_minutes("newchain")] == [20, None]

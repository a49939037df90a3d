"""Payment URIs: an address that carries its amount, so that a wallet only has to be told "send".

A coin is here only if what its wallets read is written down; `source` says where. For any other coin the address stands
alone and the page says what to type: a wrong token contract, unit or memo sends the money where nobody finds it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import quote

from bitloot.core.money import plain

BIP_21 = "https://github.com/bitcoin/bips/blob/master/bip-0021.mediawiki"
EIP_681 = "https://eips.ethereum.org/EIPS/eip-681"

Make = Callable[[str, Decimal, str], str | None]  # address, amount, memo


@dataclass(frozen=True)
class Scheme:
    network: str  # the only one it is right for, in NOWPayments' word
    make: Make
    source: str


def payment_uri(*, coin: str, network: str, address: str, amount: Decimal | None, memo: str) -> str | None:
    """Return the URI for this payment, or None where the address has to be given alone."""
    scheme = SCHEMES.get(coin)
    # They do not always name the network; their code of the coin does. Another one than ours is a coin we do not know.
    if scheme is None or not address or not amount or network not in ("", scheme.network):
        return None
    return scheme.make(address, amount, memo)


def _simple(scheme: str, *, amount_as: str = "amount") -> Make:
    """scheme:address?amount=1.5; it has no place for a memo."""

    def make(address: str, amount: Decimal, memo: str) -> str | None:
        bare = address.removeprefix(f"{scheme}:")  # some addresses bring their scheme
        return None if memo else f"{scheme}:{quote(bare)}?{amount_as}={plain(amount)}"

    return make


def _ether(chain: int) -> Make:
    """The chain's own coin, in wei."""

    def make(address: str, amount: Decimal, memo: str) -> str | None:
        wei = _smallest(amount, 18)
        return None if memo or wei is None else f"ethereum:{quote(address)}@{chain}?value={wei}"

    return make


def _token(chain: int, contract: str, places: int) -> Make:
    def make(address: str, amount: Decimal, memo: str) -> str | None:
        units = _smallest(amount, places)
        if memo or units is None:
            return None
        return f"ethereum:{contract}@{chain}/transfer?address={quote(address)}&uint256={units}"

    return make


def _ripple(address: str, amount: Decimal, memo: str) -> str | None:
    if memo and not memo.isdecimal():  # a destination tag is a number
        return None
    return f"xrpl://{quote(address)}?amount={plain(amount)}" + (f"&dt={memo}" if memo else "")


def _toncoin(address: str, amount: Decimal, memo: str) -> str | None:
    nano = _smallest(amount, 9)
    if nano is None:
        return None
    return f"ton://transfer/{quote(address)}?amount={nano}" + (f"&text={quote(memo, safe='')}" if memo else "")


def _smallest(amount: Decimal, places: int) -> int | None:
    """Return the amount in the smallest unit; None if it is finer than that, since rounding would pay another sum."""
    units = amount.scaleb(places)
    return int(units) if units == units.to_integral_value() else None


SCHEMES = {
    "btc": Scheme("btc", _simple("bitcoin"), BIP_21),
    "ltc": Scheme("ltc", _simple("litecoin"), "https://github.com/litecoin-project/litecoin/blob/master/src/qt/guiutil.cpp"),
    "doge": Scheme("doge", _simple("dogecoin"), "https://github.com/dogecoin/dogecoin/blob/master/src/qt/guiutil.cpp"),
    "dash": Scheme("dash", _simple("dash"), "https://github.com/dashpay/dash/blob/master/src/qt/guiutil.cpp"),
    "bch": Scheme("bch", _simple("bitcoincash"), "https://reference.cash/protocol/blockchain/encoding/cashaddr"),
    "zec": Scheme("zec", _simple("zcash"), "https://zips.z.cash/zip-0321"),
    "xmr": Scheme("xmr", _simple("monero", amount_as="tx_amount"), "https://github.com/monero-project/monero/wiki/URI-Formatting"),
    "sol": Scheme("sol", _simple("solana"), "https://docs.solanapay.com/spec"),
    "ada": Scheme("ada", _simple("web+cardano"), "https://cips.cardano.org/cip/CIP-13"),
    "xrp": Scheme("xrp", _ripple, "https://docs.xaman.dev/simple-link-qr, XLS-2"),
    "ton": Scheme("ton", _toncoin, "https://docs.ton.org/v3/guidelines/ton-connect/advanced/deeplinks"),
    "eth": Scheme("eth", _ether(1), EIP_681),
    "bnbbsc": Scheme("bsc", _ether(56), EIP_681),
    # Contracts as their issuers publish them.
    "usdterc20": Scheme("eth", _token(1, "0xdAC17F958D2ee523a2206206994597C13D831ec7", 6), "https://tether.to/en/supported-protocols"),
    "usdc": Scheme("eth", _token(1, "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", 6), "https://developers.circle.com/stablecoins/usdc-contract-addresses"),
    "dai": Scheme("eth", _token(1, "0x6B175474E89094C44Da98b954EedeAC495271d0F", 18), "https://chainlog.sky.money"),
}  # fmt: skip

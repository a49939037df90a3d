"""The networks that coins travel on, in the words of wallets, and how long they usually take to confirm a payment."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    name: str
    standard: str = ""  # of its tokens; the chain's own coin has none
    minutes: int | None = None  # until its block times and the confirmations that processors wait for have passed


# By NOWPayments' word for the network.
NETWORKS = {
    "ada": Network("Cardano", minutes=5),
    "algo": Network("Algorand", minutes=1),
    "arbitrum": Network("Arbitrum One", minutes=3),
    "avaxc": Network("Avalanche C-Chain", minutes=2),
    "base": Network("Base", minutes=3),
    "bch": Network("Bitcoin Cash", minutes=20),
    "bsc": Network("BNB Smart Chain", "BEP-20", minutes=2),
    "btc": Network("Bitcoin", minutes=20),
    "dash": Network("Dash", minutes=5),
    "doge": Network("Dogecoin", minutes=8),
    "eth": Network("Ethereum", "ERC-20", minutes=5),
    "ltc": Network("Litecoin", minutes=10),
    "matic": Network("Polygon", minutes=5),
    "op": Network("Optimism", minutes=3),
    "sol": Network("Solana", minutes=1),
    "ton": Network("TON", minutes=2),
    "trx": Network("Tron", "TRC-20", minutes=3),
    "xlm": Network("Stellar", minutes=1),
    "xmr": Network("Monero", minutes=25),
    "xrp": Network("XRP Ledger", minutes=1),
    "zec": Network("Zcash", minutes=15),
}


def network_name(network: str, code: str) -> str:
    """Return what a wallet calls the network, with the standard of a token: "Tron (TRC-20)"."""
    known = NETWORKS.get(network)
    if known is None:
        return network.upper()
    return f"{known.name} ({known.standard})" if known.standard and network != code else known.name


def usual_minutes(network: str) -> int | None:
    known = NETWORKS.get(network)
    return known.minutes if known else None

"""Where people can look a transaction up. Only networks whose explorer is known and shows such ids get a link."""

import re

# Looked up by the provider's name of the network. Monero hides what a transaction is about, so it has none.
_EXPLORERS = {
    "btc": "https://mempool.space/tx/{}",
    "ltc": "https://litecoinspace.org/tx/{}",
    "bch": "https://blockchair.com/bitcoin-cash/transaction/{}",
    "doge": "https://blockchair.com/dogecoin/transaction/{}",
    "eth": "https://etherscan.io/tx/{}",
    "bsc": "https://bscscan.com/tx/{}",
    "matic": "https://polygonscan.com/tx/{}",
    "arbitrum": "https://arbiscan.io/tx/{}",
    "base": "https://basescan.org/tx/{}",
    "op": "https://optimistic.etherscan.io/tx/{}",
    "trx": "https://tronscan.org/#/transaction/{}",
    "sol": "https://solscan.io/tx/{}",
    "xrp": "https://xrpscan.com/tx/{}",
    "xlm": "https://stellar.expert/explorer/public/tx/{}",
    "ada": "https://cardanoscan.io/transaction/{}",
    "ton": "https://tonviewer.com/transaction/{}",
}
_TRANSACTION = re.compile(r"[0-9A-Za-z]{40,100}")


def transaction_url(network: str, transaction: str) -> str | None:
    """Return the page about this transaction, or None for a network or an id that no explorer knows."""
    explorer = _EXPLORERS.get(network.lower())
    return explorer.format(transaction) if explorer and _TRANSACTION.fullmatch(transaction) else None

import pytest

from payments.explorers import transaction_url

HASH = "ab" * 32


@pytest.mark.parametrize(
    ("network", "transaction", "expected"),
    [
        ("btc", HASH, f"https://mempool.space/tx/{HASH}"),
        ("ETH", f"0x{HASH}", f"https://etherscan.io/tx/0x{HASH}"),
        ("trx", HASH, f"https://tronscan.org/#/transaction/{HASH}"),
        ("xmr", HASH, None),
        ("newchain", HASH, None),
        ("", HASH, None),
        ("btc", "", None),
        ("btc", "paid by hand", None),
        ("btc", f"{HASH}/../../evil", None),
        ("btc", f"{HASH}?a=1", None),
    ],
)
def test_only_a_known_explorer_gets_a_link_and_only_for_what_looks_like_a_transaction(network, transaction, expected):
    assert transaction_url(network, transaction) == expected

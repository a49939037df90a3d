"""What the stand-ins sell and what they take: invented games, and coins at fixed prices."""

from dataclasses import dataclass
from decimal import Decimal

OPENING_BALANCE = 25_000_000  # cents
OPENING_STOCK = 50_000
MERCHANT = "Sandbox Merchant"


@dataclass(frozen=True)
class Item:
    number: int
    name: str
    cents: int
    genre: str
    platform: str = "PC Steam"
    key_type: str = "text/plain"
    region: int = 3
    age_rating: str | None = None

    @property
    def product_id(self) -> str:
        return f"64b{self.number:021d}"

    @property
    def offer_id(self) -> str:
        return f"64c{self.number:021d}"

    @property
    def kinguin_id(self) -> int:
        return 910000 + self.number

    @property
    def is_text(self) -> bool:
        return self.key_type == "text/plain"


ITEMS = (
    Item(1, "Ember Drift", 749, "Racing"),
    Item(2, "Harbour of Glass", 1190, "Adventure", region=1, age_rating="PEGI 12"),
    Item(3, "Tiny Orchard Tycoon", 325, "Simulation"),
    Item(4, "Nightline Courier", 1840, "Action", key_type="image/png"),
    Item(5, "Saltmarsh Signals (DLC)", 480, "Adventure", platform="PC GOG"),
    Item(6, "Lumen Wallet Card 20", 1710, "Prepaid", platform="Other"),
)
BY_PRODUCT_ID = {item.product_id: item for item in ITEMS}

REGIONS = (
    {"id": 1, "name": "Europe"},
    {"id": 2, "name": "United States"},
    {"id": 3, "name": "REGION FREE"},
)
REGION_NAMES = {region["id"]: region["name"] for region in REGIONS}
PLATFORMS = ("PC Steam", "PC GOG", "Other")
GENRES = ("Action", "Adventure", "Prepaid", "Racing", "Simulation")


@dataclass(frozen=True)
class Coin:
    id: int
    code: str
    name: str
    ticker: str
    network: str
    euros: Decimal
    minimum: Decimal
    places: int
    wallet_regex: str
    needs_memo: bool = False
    is_stable: bool = False


_ETHEREUM_LIKE = "^0x[0-9a-fA-F]{40}$"
_TRON = "^T[1-9A-HJ-NP-Za-km-z]{33}$"

COINS = {
    coin.code: coin
    for coin in (
        Coin(1, "btc", "Bitcoin", "btc", "btc", Decimal(58000), Decimal("0.00002"), 8, "^bc1[a-z0-9]{39}$"),
        Coin(2, "eth", "Ethereum", "eth", "eth", Decimal(2400), Decimal("0.0005"), 8, _ETHEREUM_LIKE),
        Coin(3, "ltc", "Litecoin", "ltc", "ltc", Decimal(78), Decimal("0.01"), 8, "^ltc1[a-z0-9]{39}$"),
        Coin(
            121, "usdttrc20", "Tether USD (Tron)", "usdt", "trx", Decimal("0.92"), Decimal("1.5"), 6, _TRON,
            is_stable=True,
        ),
        Coin(
            122, "usdtbsc", "Tether USD (BNB Smart Chain)", "usdt", "bsc", Decimal("0.92"), Decimal("0.5"), 6,
            _ETHEREUM_LIKE, is_stable=True,
        ),
        Coin(
            74, "xrp", "Ripple", "xrp", "xrp", Decimal("2.1"), Decimal("0.5"), 6, "^r[1-9A-HJ-NP-Za-km-z]{25,34}$",
            needs_memo=True,
        ),
        Coin(80, "sol", "Solana", "sol", "sol", Decimal(140), Decimal("0.005"), 8, "^[1-9A-HJ-NP-Za-km-z]{32,44}$"),
        Coin(90, "trx", "Tron", "trx", "trx", Decimal("0.25"), Decimal(4), 6, _TRON),
    )
}  # fmt: skip
# What one euro costs in each price currency.
EURO_IN = {"eur": Decimal(1), "usd": Decimal("1.08")}

"""Which coins are on offer and what their minimum is: refreshed in the background, so that no page waits for it."""

import logging
from decimal import ROUND_UP, Decimal
from threading import Lock

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from bitloot.core.clock import delay
from bitloot.core.money import CENT
from bitloot.core.providers import Cause, ProviderError, UnreadableAnswer
from orders.choices import AlertKind
from payments.exceptions import TooSmall, UnknownCoin
from payments.models import Coin
from payments.nowpayments import NowPaymentsClient
from payments.unanswered import PATIENCE_SECONDS, answers_again, coins_unread, credentials_refused

logger = logging.getLogger(__name__)

FRESH_SECONDS = 10 * 60
_refreshing = Lock()


def refresh_if_stale() -> int:
    """Ask the provider for its coins and minimums if ours are old; return how many came. Never raises for them."""
    if Coin.objects.filter(refreshed_at__gt=Now() - delay(FRESH_SECONDS)).exists():
        return 0
    # A call for each coin takes longer than the pause until the next look, and waits for room in the budget.
    if not _refreshing.acquire(blocking=False):
        return 0
    try:
        return _refresh_and_tell()
    finally:
        _refreshing.release()


def _refresh_and_tell() -> int:
    try:
        number = refresh()
    except ProviderError as err:
        if Coin.objects.exists():
            logger.warning("the coins could not be refreshed: %s", err)
        else:
            logger.warning("Nobody can pay before NOWPayments sends its first list of coins; asked again soon: %s", err)
        _tell(err)
        return 0
    answers_again(AlertKind.COINS_UNREAD)
    return number


def _tell(err: ProviderError) -> None:
    if err.cause is Cause.CREDENTIALS:
        credentials_refused(err)
    elif not Coin.objects.filter(refreshed_at__gt=Now() - delay(FRESH_SECONDS + PATIENCE_SECONDS)).exists():
        coins_unread(err)


def refresh() -> int:
    """Replace what we know of coins by what the provider says now. Raises ProviderError, and then changes nothing."""
    client = NowPaymentsClient.from_settings()
    merchant = set(client.merchant_coins())
    offered = [
        Coin(
            code=coin.code,
            name=coin.name[:80],
            network=coin.network[:32],
            wallet_regex=coin.wallet_regex if len(coin.wallet_regex) <= 300 else "",
            takes_memo=coin.takes_memo,
            needs_memo=coin.needs_memo,
            memo_regex=coin.memo_regex if len(coin.memo_regex) <= 300 else "",
            minimum=_minimum(client, coin.code),
            refreshed_at=Now(),
        )
        for coin in client.coins()
        if coin.code in merchant
    ]
    if not offered:
        # Taken at its word, an empty answer would end all sales at once.
        raise UnreadableAnswer("NOWPayments lists no coin that is switched on in our account")
    fields = [
        "name", "network", "wallet_regex", "takes_memo", "needs_memo", "memo_regex", "is_offered", "minimum",
        "refreshed_at",
    ]  # fmt: skip
    # In one transaction, so that no page finds a moment without coins. Coins that are gone stay as rows: refunds of
    # old payments still need their rules for addresses.
    with transaction.atomic():
        Coin.objects.update(is_offered=False)
        Coin.objects.bulk_create(offered, update_conflicts=True, unique_fields=["code"], update_fields=fields)
    return len(offered)


def check_payable(*, price: Decimal, coin: str) -> None:
    """Raise UnknownCoin or TooSmall. `price` is in the shop's currency."""
    known = Coin.objects.filter(code=coin, is_offered=True).first()
    if known is None:
        raise UnknownCoin(coin)
    if known.minimum is not None and price < known.minimum:
        raise TooSmall(coin, known.minimum)


def _minimum(client: NowPaymentsClient, code: str) -> Decimal | None:
    try:
        answer = client.min_amount(code, code, settings.STORE_CURRENCY)
    except ProviderError as err:
        logger.warning("the minimum of %s is not known: %s", code, err)
        return None
    minimum = answer.fiat_equivalent
    return None if minimum is None else min(minimum, Decimal(10**9)).quantize(CENT, rounding=ROUND_UP)

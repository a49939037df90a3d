"""Which coins are on offer, from which price on and for how much: kept by a worker, so that no page waits for it."""

import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_UP, Context, Decimal
from math import ceil
from statistics import median
from threading import Lock

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from bitloot.core.clock import delay
from bitloot.core.money import CENT
from bitloot.core.providers import Cause, ProviderError, UnreadableAnswer
from bitloot.core.queries import concrete_fields
from orders.choices import AlertKind
from payments import nowpayments
from payments.exceptions import TooSmall, UnknownCoin
from payments.models import Coin, Payment
from payments.networks import usual_minutes
from payments.nowpayments import NowPaymentsClient
from payments.unanswered import PATIENCE_SECONDS, answers_again, coins_unread, credentials_refused

logger = logging.getLogger(__name__)

FRESH_SECONDS = 10 * 60
# For this process. Another worker may refresh at the same time, which costs calls and nothing else.
_refreshing = Lock()
RECENT = timedelta(days=90)
SAMPLE = 5000  # of the newest payments: enough to tell what customers like
LEAST_MEASURED = 5  # payments, before our own time is worth more than the network's usual one
ESTIMATED = Decimal(100)  # large enough for each coin's minimum, near enough to what keys cost


@dataclass(frozen=True)
class Habit:
    """How customers used a coin lately."""

    uses: int = 0
    minutes: int | None = None


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
    known, habits = Coin.objects.in_bulk(), _habits()
    offered = [
        _row(client, coin, known.get(coin.code), habits[coin.code]) for coin in client.coins() if coin.code in merchant
    ]
    if not offered:
        # Taken at its word, an empty answer would end all sales at once.
        raise UnreadableAnswer("NOWPayments lists no coin that is switched on in our account")
    fields = [field.name for field in concrete_fields(Coin) if not field.primary_key]
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


def needs_memo(coin: str) -> bool:
    return Coin.objects.filter(code=coin, needs_memo=True).exists()


def offered() -> list[Coin]:
    """Return the coins on offer: those of COINS_FIRST, then the ones that customers use most, then by name."""
    first = {code: place for place, code in enumerate(settings.COINS_FIRST)}

    def rank(coin: Coin) -> tuple[int, int, str, str]:
        return first.get(coin.code, len(first)), -coin.recent_uses, coin.name.lower(), coin.code

    return sorted(Coin.objects.filter(is_offered=True), key=rank)


def least_price() -> Decimal | None:
    """Return the price below which no coin is taken, or None where some coin's minimum is not known."""
    minimums = list(Coin.objects.filter(is_offered=True).values_list("minimum", flat=True))
    known = [minimum for minimum in minimums if minimum is not None]
    return min(known) if known and len(known) == len(minimums) else None


def _row(client: NowPaymentsClient, coin: nowpayments.Coin, known: Coin | None, habit: Habit) -> Coin:
    minimum, rate = _minimum(client, coin.code), _rate(client, coin.code)
    return Coin(
        code=coin.code,
        name=coin.name[:80],
        ticker=coin.ticker[:16],
        network=coin.network[:32],
        # A pattern cut short would refuse good addresses; none at all refuses nothing.
        wallet_regex=coin.wallet_regex if len(coin.wallet_regex) <= 300 else "",
        takes_memo=coin.takes_memo,
        needs_memo=coin.needs_memo,
        memo_regex=coin.memo_regex if len(coin.memo_regex) <= 300 else "",
        minimum=minimum,
        # An old price serves a customer better than none: it is only shown, and the payment has its own.
        rate=known.rate if rate is None and known else rate,
        recent_uses=habit.uses,
        usual_minutes=habit.minutes or usual_minutes(coin.network),
        refreshed_at=Now(),
    )


def _habits() -> defaultdict[str, Habit]:
    """Count the newest payments by coin, and measure how long their coins took to be confirmed."""
    finished = Payment.objects.filter(status=Payment.Status.FINISHED, created_at__gt=Now() - RECENT)
    rows = finished.order_by("-created_at").values_list("pay_currency", "coins_seen_at", "finished_at")[:SAMPLE]
    uses: defaultdict[str, int] = defaultdict(int)
    minutes: defaultdict[str, list[float]] = defaultdict(list)
    for code, seen, done in rows:
        uses[code] += 1
        if seen and done and done > seen:
            minutes[code].append((done - seen) / timedelta(minutes=1))
    habits = {code: Habit(number, _usual(minutes[code])) for code, number in uses.items()}
    return defaultdict(Habit, habits)


def _usual(minutes: list[float]) -> int | None:
    return min(ceil(median(minutes)), 999) if len(minutes) >= LEAST_MEASURED else None


def _rate(client: NowPaymentsClient, code: str) -> Decimal | None:
    try:
        rate = client.estimate(ESTIMATED, settings.STORE_CURRENCY, code) / ESTIMATED
    except ProviderError as err:
        logger.warning("the price in %s is not known: %s", code, err)
        return None
    # With all its digits: a coin that is worth next to nothing must not end the list of all the others.
    return rate.quantize(nowpayments.UNIT, context=Context(prec=40)) or None


def _minimum(client: NowPaymentsClient, code: str) -> Decimal | None:
    try:
        answer = client.min_amount(code, code, settings.STORE_CURRENCY)
    except ProviderError as err:
        logger.warning("the minimum of %s is not known: %s", code, err)
        return None
    minimum = answer.fiat_equivalent
    # Rounded up: a price between the two would be let through here and refused by the provider.
    return None if minimum is None else min(minimum, Decimal(10**9)).quantize(CENT, rounding=ROUND_UP)

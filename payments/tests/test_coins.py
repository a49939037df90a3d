from datetime import timedelta
from decimal import Decimal

import pytest
import responses
from django.db.models.functions import Now
from django.utils import timezone

from payments.coins import FRESH_SECONDS, check_payable, least_price, refresh, refresh_if_stale
from payments.exceptions import TooSmall, UnknownCoin
from payments.models import Coin
from payments.tasks import refresh_coins
from payments.tests.factories import make_coin, make_payment, url

pytestmark = pytest.mark.django_db


def coin(code, **members):
    return {"code": code.upper(), "name": code.title(), "enable": True, "network": code, **members}


def provider(wire, *coins, merchant=("BTC", "ETH"), minimum="19.001"):
    wire.get(url("/merchant/coins"), json={"selectedCurrencies": list(merchant)})
    wire.get(url("/full-currencies"), json={"currencies": list(coins)})
    wire.get(url("/min-amount"), json={"min_amount": "0.0001", "fiat_equivalent": minimum})
    wire.get(url("/estimate"), json={"estimated_amount": "0.00172"})


def test_the_coins_of_our_account_are_offered_with_their_minimum(wire):
    provider(wire, coin("btc", wallet_regex="^bc1"), coin("eth", extra_id_exists=True), coin("doge"))
    assert refresh() == 2
    assert list(Coin.objects.values_list("code", "name", "network", "wallet_regex", "needs_memo", "minimum")) == [
        ("btc", "Btc", "btc", "^bc1", False, Decimal("19.01")),
        ("eth", "Eth", "eth", "", True, Decimal("19.01")),
    ]


def test_a_coin_that_went_is_no_longer_offered_and_comes_back(wire):
    make_coin("eth")
    provider(wire, coin("btc"))
    refresh()
    assert list(Coin.objects.values_list("code", "is_offered")) == [("btc", True), ("eth", False)]
    wire.reset()
    provider(wire, coin("eth"))
    refresh()
    assert list(Coin.objects.order_by("code").values_list("code", "is_offered")) == [("btc", False), ("eth", True)]


def test_text_that_no_column_holds_is_cut_and_a_pattern_is_left_out(wire):
    provider(wire, coin("btc", name="B" * 100, network="N" * 40, wallet_regex="x" * 301))
    refresh()
    row = Coin.objects.get()
    assert [len(row.name), len(row.network), row.wallet_regex] == [80, 32, ""]


@pytest.mark.parametrize(
    ("minimum", "kept"), [(None, None), ("1e15", Decimal("1000000000.00")), ("0.001", Decimal("0.01"))]
)
def test_a_minimum_is_rounded_up_and_bounded(wire, minimum, kept):
    provider(wire, coin("btc"), minimum=minimum)
    refresh()
    assert Coin.objects.get().minimum == kept


def test_the_price_in_a_coin_is_an_estimate_and_an_old_one_is_better_than_none(wire):
    provider(wire, coin("btc", ticker="XBT"), coin("eth"))
    refresh()
    assert list(Coin.objects.values_list("code", "ticker", "rate")) == [
        ("btc", "xbt", Decimal("0.0000172")),
        ("eth", "", Decimal("0.0000172")),
    ]
    asked = [call.request.params for call in wire.calls if "/estimate" in call.request.url]
    assert asked[0] == {"amount": "100", "currency_from": "eur", "currency_to": "btc"}
    wire.replace(responses.GET, url("/estimate"), status=429)
    refresh()
    assert set(Coin.objects.values_list("rate", flat=True)) == {Decimal("0.0000172")}


def test_a_coin_remembers_how_often_it_was_used_and_how_long_it_took(wire):
    now = timezone.now()
    for minutes in (2, 4, 4.5, 9, 60):
        seen = now - timedelta(minutes=minutes)
        make_payment(status="finished", pay_currency="btc", coins_seen_at=seen, finished_at=now)
    make_payment(status="finished", pay_currency="btc", created_at=now - timedelta(days=91))
    make_payment(status="waiting", pay_currency="btc")
    make_payment(status="finished", pay_currency="eth", coins_seen_at=now, finished_at=now + timedelta(minutes=77))
    provider(wire, coin("btc"), coin("eth"))
    refresh()
    # Five of btc are enough to know better; one of eth is not.
    assert list(Coin.objects.values_list("code", "recent_uses", "usual_minutes")) == [("btc", 5, 5), ("eth", 1, 5)]


def test_a_minimum_that_nobody_tells_is_not_known(wire, caplog):
    provider(wire, coin("btc"))
    wire.replace(responses.GET, url("/min-amount"), status=500)
    refresh()
    assert Coin.objects.get().minimum is None
    assert "the minimum of btc is not known" in caplog.text


@pytest.mark.parametrize("path", ["/merchant/coins", "/full-currencies"])
@pytest.mark.parametrize("answer", [{"status": 429, "body": "<html>"}, {"status": 500}, {"body": "{}["}, {"json": []}])
def test_without_an_answer_the_coins_stay_as_they_are(wire, path, answer):
    make_coin("eth", refreshed_at=Now() - timedelta(days=1))
    provider(wire, coin("btc"))
    wire.replace(responses.GET, url(path), **answer)
    assert refresh_if_stale() == 0
    assert list(Coin.objects.values_list("code", "is_offered")) == [("eth", True)]


def test_fresh_coins_are_not_asked_for_again(wire):
    make_coin("btc", refreshed_at=Now() - timedelta(seconds=FRESH_SECONDS - 10))
    provider(wire, coin("btc"), coin("eth"))
    assert refresh_coins() == 0
    assert list(wire.calls) == []


def test_the_task_refreshes_stale_coins(wire):
    make_coin("btc", refreshed_at=Now() - timedelta(seconds=FRESH_SECONDS + 10))
    provider(wire, coin("btc"), coin("eth"))
    assert [refresh_coins(), refresh_coins()] == [2, 0]


def test_what_can_be_paid_with():
    make_coin("btc", minimum=Decimal("24.99"))
    make_coin("eth", minimum=None)
    make_coin("old", is_offered=False)
    for price, code in (("24.99", "btc"), ("25.00", "btc"), ("0.01", "eth")):
        check_payable(price=Decimal(price), coin=code)
    with pytest.raises(TooSmall) as caught:
        check_payable(price=Decimal("24.98"), coin="btc")
    assert [caught.value.coin, caught.value.minimum] == ["btc", Decimal("24.99")]
    for code in ("old", "nothing", "", "BTC"):
        with pytest.raises(UnknownCoin):
            check_payable(price=Decimal(100), coin=code)


@pytest.mark.parametrize(
    ("minimums", "least"),
    [(["3.00", "2.50"], Decimal("2.50")), (["3.00", None], None), ([], None)],
)
def test_the_least_price_is_known_if_every_coin_has_a_minimum(minimums, least):
    for number, minimum in enumerate(minimums):
        make_coin(f"c{number}", minimum=minimum)
    make_coin("old", minimum=Decimal("0.10"), is_offered=False)
    assert least_price() == least


def test_a_provider_that_refuses_its_coins_takes_none_away(wire, caplog):
    make_coin("btc")
    Coin.objects.update(refreshed_at=Now() - timedelta(seconds=FRESH_SECONDS + 1))
    wire.get(url("/merchant/coins"), status=503)
    assert refresh_if_stale() == 0
    assert Coin.objects.get().is_offered
    assert "the coins could not be refreshed" in caplog.text


def test_a_store_without_any_coin_says_what_it_waits_for(wire, caplog):
    wire.get(url("/merchant/coins"), status=503)
    assert refresh_if_stale() == 0
    assert "Nobody can pay before NOWPayments sends its first list of coins" in caplog.text


def test_a_payment_whose_coins_were_never_seen_counts_as_use_and_measures_nothing(wire):
    make_payment(status="finished", pay_currency="btc", finished_at=timezone.now())
    provider(wire, coin("btc"))
    refresh()
    assert Coin.objects.get(code="btc").recent_uses == 1


def test_a_refresh_that_takes_long_is_not_begun_twice(wire):
    again = []

    def slow(_request):
        again.append(refresh_if_stale())
        return 200, {}, '{"selectedCurrencies": ["BTC"]}'

    provider(wire, coin("btc"))
    wire.remove(responses.GET, url("/merchant/coins"))
    wire.add_callback(responses.GET, url("/merchant/coins"), slow)
    assert [refresh_if_stale(), again] == [1, [0]]


@pytest.mark.parametrize(("needed", "rate"), [("250000000000000", "2500000000000"), ("1e-30", None), ("9e19", "9e17")])
def test_a_coin_worth_next_to_nothing_or_nearly_everything_hides_no_other(wire, needed, rate):
    provider(wire, coin("btc"), coin("eth"))
    wire.upsert("GET", url("/estimate"), json={"estimated_amount": needed})
    assert refresh() == 2
    assert [row.rate for row in Coin.objects.all()] == [rate and Decimal(rate)] * 2

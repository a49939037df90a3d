"""The arithmetic of `tools.bench.simulation`, against what queueing theory knows exactly."""

import math
import random
from dataclasses import replace

import pytest

from tools.bench.queueing import Budget, Clock, Station
from tools.bench.simulation import COSTS, Setup, Shop, answer, fit, utilisation

pytestmark = pytest.mark.once


def sojourns(*, rate, mean, servers, customers):
    """Return how long each customer of an M/M/c station stays there, in order."""
    draw, clock, station, stays, at = random.Random(7), Clock(), Station("any", servers), [], 0.0

    def customer():
        came = clock.now
        yield from clock.use(station, draw.expovariate(1 / mean))
        stays.append(clock.now - came)

    for _ in range(customers):
        at += draw.expovariate(rate)
        clock.start(customer(), at=at)
    clock.run()
    return sorted(stays), station.utilisation(clock.now)


def erlang_c(servers, load):
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**n / math.factorial(n) for n in range(servers)) + last)


@pytest.mark.parametrize(("servers", "rate"), [(1, 0.5), (2, 1.6), (5, 4.0)])
def test_a_station_is_as_slow_as_erlang_says(servers, rate):
    stays, busy = sojourns(rate=rate, mean=1.0, servers=servers, customers=30_000)
    expected = 1 + erlang_c(servers, rate) / (servers - rate)
    assert [sum(stays) / len(stays), busy] == [
        pytest.approx(expected, rel=0.05),
        pytest.approx(rate / servers, rel=0.02),
    ]


def test_percentiles_of_one_server_are_those_of_the_exponential_distribution():
    stays, _ = sojourns(rate=0.5, mean=1.0, servers=1, customers=30_000)
    p50, p95 = (stays[int(len(stays) * share)] for share in (0.5, 0.95))
    assert [p50, p95] == [pytest.approx(2 * math.log(2), rel=0.05), pytest.approx(2 * math.log(20), rel=0.05)]


def test_a_budget_lets_two_seconds_worth_through_at_once_and_then_its_rate():
    budget = Budget("any", 5)
    assert [budget.take(0.0, leaving=0.5) for _ in range(5)] == [0.0] * 5
    assert budget.take(0.0, leaving=0.5) == pytest.approx(0.2)
    assert [budget.take(0.0) for _ in range(5)] == [0.0] * 5
    assert [budget.take(0.0), budget.take(0.1)] == [pytest.approx(0.2), pytest.approx(0.1)]
    assert [budget.take(0.2), budget.take(100.0), Budget("none", 0).take(0.0)] == [0.0, 0.0, 0.0]


def test_rereads_of_open_payments_yield_to_new_ones_as_long_as_there_is_room_for_those():
    """Fails if payments that nobody looks at are read before new ones: a quarter of those was refused then."""
    few, more, many = (answer(Setup(rate=rate, pages=0, polls=0, nowpayments=5), orders=600) for rate in (0.2, 0.5, 1))
    assert [few.refused, more.refused < 0.02, many.refused > 0.05] == [0.0, True, True]
    unread = Setup(rate=1, pages=0, polls=0, nowpayments=5, open_minutes=0)
    assert answer(unread, orders=600).refused < 0.1


@pytest.mark.parametrize("one_machine", [False, True])
def test_the_simulated_shop_does_the_work_that_the_arithmetic_counts(one_machine):
    setup = Setup(rate=4, pages=2, polls=3, one_machine=one_machine)
    shop = Shop(setup, seed=3)
    shop.run(1500)
    known, now = utilisation(setup), shop.clock.now
    cpu = {station.name: station.utilisation(now) for station in shop.cpu.values()}
    cpu["seats for mails"] = shop.seats["orders"].utilisation(now)
    assert cpu == {name: pytest.approx(known[name], rel=0.06) for name in cpu}
    assert len(shop.waits) == 1500


def test_without_waiting_an_order_takes_the_sum_of_its_steps():
    setup = Setup(rate=0.01, pages=0, polls=0, provider_ms=200, mail_ms=100)
    cost = COSTS["paid"]
    cpu = (cost.web + cost.worker + cost.postgresql + cost.redis) / 1000
    assert answer(setup, orders=2000).p50 == pytest.approx(4 * 0.2 + 0.1 + cpu, rel=0.02)


def test_what_binds_is_named_and_a_queue_that_only_grows_has_no_percentiles():
    small = answer(Setup(rate=1, nowpayments=5, kinguin=10), orders=200)
    assert [small.binds, small.is_stable, small.utilisation["NOWPayments budget"]] == ["NOWPayments budget", True, 0.8]
    assert small.utilisation["Kinguin budget"] == pytest.approx(0.3)
    large = answer(Setup(rate=1000))
    assert [large.is_stable, large.p95] == [False, math.inf]


@pytest.mark.parametrize("rate", [5, 50, 1000])
def test_the_fewest_machines_are_enough_and_one_fewer_is_not(rate):
    def busiest(setup):
        return max(share for name, share in utilisation(setup).items() if name != "Redis CPU")

    found = fit(Setup(rate=rate))
    kinds = [kind for kind in ("web", "worker", "database_cores") if getattr(found, kind) > 1]
    fewer = [replace(found, **{kind: getattr(found, kind) - 1}) for kind in kinds]
    assert [busiest(found) <= 0.7, all(busiest(setup) > 0.7 for setup in fewer)] == [True, True]

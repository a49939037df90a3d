"""Every payment story with the real sandbox over HTTP: told in order, then in every order and number there is."""

import dataclasses
from pathlib import Path

import pytest

from bitloot.tests.services import wait_until
from fulfillment import pipeline
from fulfillment.models import Reservation
from orders.models import Order
from payments import creation
from payments.models import Payment
from payments.tasks import drain_payments
from payments.tests.stories import STORIES
from payments.tests.world import World, signed
from storage.models import Key
from webhooks.models import WebhookLog
from webhooks.tasks import drain_webhooks

pytestmark = pytest.mark.django_db
DOCUMENT = Path(__file__).parents[2] / "docs" / "payments.md"


def tell(world, events):
    for event in events:
        ipn = event.happen(world)
        if ipn is not None:
            world.deliver(ipn)


def test_there_are_enough_stories():
    assert len({story.name for story in STORIES}) == len(STORIES) >= 60


def test_the_documentation_tells_each_story():
    told = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    assert told[-len(STORIES) :] == [story.row for story in STORIES]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_story_ends_where_it_should(world, story):
    tell(world, (*story.before, *story.events, *story.after))
    assert {
        "order": world.order_now(),
        "payments": world.payments_now(),
        "timeline": world.timeline(),
        "mails": world.mails(),
        "alerts": world.alerts(),
        "refunds": world.refunds(),
        "inbox": world.inbox(),
        "refused": tuple(world.refused),
    } == {name: value for name, value in dataclasses.asdict(story).items() if name in OUTCOME}
    page = world.page()
    assert (page["status"], page["amount_due"]) == (story.order.split(":")[0], f"{world.amount_due():.2f}")


OUTCOME = ("order", "payments", "timeline", "mails", "alerts", "refunds", "inbox", "refused")
SHUFFLED = [story for story in STORIES if story.events and not story.has_faults]


@pytest.mark.once
@pytest.mark.no_cover  # each story was told above; to watch the lines of every order of it takes two thirds longer
@pytest.mark.parametrize("story", SHUFFLED, ids=lambda story: story.name)
def test_no_order_of_ipns_changes_the_end(world, story):
    """Deliver a story's IPNs in each order, each of them repeated and replayed, after and while the provider moves."""
    tell(world, story.before)
    tales = Tales(world, story.events)
    told = tales.in_order()
    late = tales.late()
    assert len(late) == 1
    assert late == {story.unseen or told}
    assert tales.meanwhile() <= {told, *late}
    if not story.needs_ipn:
        assert tales.without_ipns() in late


class Tales:
    """All the ways in which the store can come to hear of what happened at the provider."""

    def __init__(self, world, events):
        self.world = world
        self.truths, self.ipns = [dict(world.truth)], []
        for event in events:
            self.ipns.append(event.happen(world))
            self.truths.append(dict(world.truth))
        self.last = len(events)
        self.ends = {}

    def in_order(self):
        """Return the end if each IPN arrives before the provider moves on."""
        with self.world.undone():
            for ipn, truth in zip(self.ipns, self.truths[1:], strict=True):
                self.world.restore(truth)
                self.world.deliver(ipn)
            return self.world.settled()

    def late(self):
        """Return the ends of every order in which the IPNs come when all is over."""
        return self._ends(self.last, frozenset(range(self.last)))

    def meanwhile(self):
        """Return the ends of every order in which the provider moves on and the IPNs come in between."""
        return self._ends(0, frozenset(range(self.last)))

    def without_ipns(self):
        """Return the end if no IPN arrives and the sweep asks when all is over."""
        with self.world.undone():
            self.world.restore(self.truths[self.last])
            self.world.sweep()
            return self.world.settled()

    def _ends(self, position, waiting):
        """Return every end from here on. A state seen before, on another way, is not tried again."""
        self.world.restore(self.truths[position])
        state = (position, waiting, self.world.rows())
        if state not in self.ends:
            self.ends[state] = self._explored(position, waiting)
        return self.ends[state]

    def _explored(self, position, waiting):
        if position == self.last and not waiting:
            return {self._end()}
        ends = set(self._ends(position + 1, waiting)) if position < self.last else set()
        for number in waiting:
            if number < position:
                with self.world.undone():
                    self.world.restore(self.truths[position])
                    self.world.deliver(self.ipns[number])
                    ends |= self._ends(position, waiting - {number})
        return ends

    def _end(self):
        """Return this end; everything that came comes once more, and is replayed, and must change nothing."""
        end = self.world.everything()
        with self.world.undone():
            for ipn in self.ipns:
                self.world.deliver(ipn)
            self.world.replay_everything()
            assert self.world.everything() == end
        return self.world.settled()


# --- the rule, field by field, through GET /payment/{id}

OTHER_ORDER = "5f0f2e8c-6ad3-4b0e-8d7b-2f6f0a6f4a11"
MUTATIONS = {
    "payment_id": [1, 0, -5, "77", "", None, True, 4870000042, [], "0x10"],
    "order_id": [OTHER_ORDER, "", None, 7, "null", OTHER_ORDER.upper(), "-", [], {}, " "],
    "parent_payment_id": [1, "1", 4870000042, "4870000042", 9 * 10**18, "abc", -1, 1.5, True, [1]],
    "price_amount": [24.98, 25, 0, 1, 2499, "24.9", "24.991", None, "NaN", -24.99],
    "price_currency": ["usd", "gbp", "btc", "", None, "eu", "euro", "e ur", 1, ["eur"]],
    "pay_currency": ["eth", "btcln", "wbtc", "usdttrc20", "", None, "bt", "btc ", 1, ["btc"]],
    "payment_status": ["waiting", "confirming", "confirmed", "sending", "FINISHED", "finished ", "", None, 5, "done"],
    "actually_paid": [0, None, "0", 1e-9, "0.0004", "NaN", "Infinity", "1e999", -1, "٣"],
}


@pytest.mark.once
@pytest.mark.parametrize(("name", "value"), [(name, value) for name in MUTATIONS for value in MUTATIONS[name]])
def test_a_payment_with_one_wrong_field_pays_nothing(world, name, value):
    world.choose("btc")
    world.deliver(world.says(0, "finished", paid=1, silent=False, **{name: value}))
    world.catch_up()
    world.sweep()
    order = Order.objects.get(pk=world.order.pk)
    assert order.status in ("pending", "held", "underpaid")
    assert order.paid_at is None
    assert not Reservation.objects.exists()
    assert not Payment.objects.filter(status="finished").exists()
    assert "payment_received" not in world.mails()


def test_each_field_was_mutated_ten_ways():
    assert {name: len({repr(value) for value in values}) for name, values in MUTATIONS.items()} == dict.fromkeys(
        MUTATIONS, 10
    )


EQUALS = [
    {"payment_status": "finished"},
    {"price_amount": "24.99"},
    {"price_amount": "24.9900"},
    {"price_amount": "2499e-2"},
    {"price_currency": "EUR"},
    {"pay_currency": "BTC"},
    {"parent_payment_id": None},
    {"parent_payment_id": 0},
    {"parent_payment_id": "0"},
    {"parent_payment_id": ""},
    {"actually_paid": "0.00043087"},
    {"actually_paid": "4.3087e-4"},
    {"outcome_amount": None},
    {"updated_at": "yesterday"},
    {"pay_amount": 0.0001},
    {"order_description": "💸 \u2028 <b>"},
    {"purchase_id": "5077125051"},
    {"something_new": {"nested": [1, 2]}},
]


@pytest.mark.parametrize("fields", EQUALS, ids=str)
def test_the_same_in_other_words_pays(world, fields):
    world.choose("btc")
    world.deliver(world.says(0, "finished", paid=1, **fields))
    assert (world.order_now(), world.payments_now()) == ("paid", ("finished",))


# --- without any stand-in of ours between the sandbox and the store


@pytest.mark.django_db(transaction=True)
def test_a_story_over_the_wire_from_coin_to_key(live_server, client, sandbox, settings, monkeypatch):
    """The sandbox posts its own IPNs to the served store; the second payment of the delivered order buys nothing."""
    sandbox.control("config", {"deliver": "auto", "deliver_after_ms": 0})
    settings.SITE_URL = live_server.url
    # The sandbox keeps its line to the server; the server's threads must not keep theirs to the database.
    monkeypatch.setitem(settings.DATABASES["default"], "CONN_MAX_AGE", 0)
    world = World(client, sandbox)
    first, second = (creation.start_payment(order=world.order, coin=coin).external_id for coin in ("btc", "eth"))
    sandbox.pay(first)
    heard(lambda: Order.objects.get().status == "paid")
    deliver_everything()
    sandbox.pay(second, "over")
    heard(lambda: Payment.objects.get(external_id=second).status == "review")
    assert (Order.objects.get().status, Key.objects.count(), Reservation.objects.count()) == ("fulfilled", 1, 1)
    assert Payment.objects.get(external_id=second).reason == "second_payment"
    assert world.mails() == ("payment_received", "key_ready")
    heard(lambda: all("finished" in ipns_answered(sandbox, payment) for payment in (first, second)))
    assert set(WebhookLog.objects.values_list("status", flat=True)) == {"processed"}


def ipns_answered(sandbox, payment):
    lines = sandbox.control(f"ledger?what=webhook_sent&order_id={payment}")["ledger"]
    return {line["detail"]["event"] for line in lines if line["detail"]["outcome"] == "200"}


def heard(is_so):
    def look():
        drain_webhooks()
        return is_so()

    wait_until(look, seconds=60, what="the sandbox's IPNs")


def deliver_everything():
    reservation = Reservation.objects.get()

    def look():
        pipeline.advance(reservation.pk)
        return Order.objects.get().status == "fulfilled"

    wait_until(look, seconds=60, what="the key")


def test_our_own_signature_is_accepted_too(world):
    """The sandbox and this test sign with code that shares nothing: an agreement on the wrong text would show."""
    world.choose("btc")
    ipn = signed({"payment_id": int(world.payments[0]), "payment_status": "waiting", "fee": {"b": 1, "a": 2.5}})
    world.deliver(ipn)
    assert (world.inbox(), world.refused) == (("processed",), [])
    drain_payments()

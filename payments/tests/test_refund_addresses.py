import uuid
from datetime import timedelta
from time import monotonic

import pytest
from django.utils import timezone

from bitloot.core.decisions import DecisionRefused
from orders.models import Alert
from orders.tests.database import between
from orders.tests.factories import make_order
from payments.exceptions import AddressRefused
from payments.models import RefundAddress
from payments.refund_addresses import MOST_ADDRESSES, give_address
from payments.tests.decisions import give, money_in, now, refund_of, send, story
from payments.tests.factories import ADDRESS, make_coin

pytestmark = pytest.mark.django_db
Q, P = ADDRESS, ADDRESS[:-1] + "p"


def test_an_address_may_be_changed_until_the_coins_are_sent():
    make_coin(wallet_regex="^bc1[a-z0-9]{39}$")
    refund = refund_of(money_in())
    first = give(refund, f" {Q} ")
    assert (first.address, first.destination.rests_until) == (Q, None)
    changed = give(refund, P)
    assert (changed.address, list(refund.addresses.values_list("address", flat=True))) == (P, [Q, P])
    assert [line for kind, line, _ in story(refund.order) if "address" in line] == [
        "The address for the refund was given: it ends in …qqqqqq.",
        "The address for the refund was changed: it ends in …qqqqqp.",
    ]
    RefundAddress.objects.update(rests_until=None)
    send(refund)
    with pytest.raises(AddressRefused, match="is not waiting for an address"):
        give(refund)


def test_the_same_address_again_is_no_change():
    refund = refund_of(money_in())
    give(refund), give(refund)
    assert (refund.addresses.count(), Alert.objects.get(kind="refund_to_send").times) == (1, 1)


def test_every_address_is_mailed_to_the_customer():
    refund = refund_of(money_in())
    give(refund, Q)
    until = give(refund, P).destination.rests_until
    mails = refund.order.emails.filter(kind="refund_address").order_by("id").values_list("facts", flat=True)
    assert list(mails) == [
        {"coins": "0.0012 BTC", "address": "…qqqqqq"},
        {"coins": "0.0012 BTC", "address": "…qqqqqp", "until": until.isoformat()},
    ]


def test_staff_are_mailed_about_every_address():
    refund = refund_of(money_in())
    give(refund, Q)
    until = give(refund, P).destination.rests_until
    alerts = Alert.objects.filter(kind="refund_to_send").order_by("pk")
    assert [(alert.status, alert.message, alert.emails.count()) for alert in alerts] == [
        (
            "closed",
            f"The customer gave an address for refund {refund.pk}, ending in …qqqqqq."
            " Send 0.0012 BTC, then enter the transaction id.",
            1,
        ),
        (
            "open",
            f"The customer gave an address for refund {refund.pk}, ending in …qqqqqp."
            f" It replaces another one: send 0.0012 BTC after {until:%d %B, %H:%M} UTC.",
            1,
        ),
    ]


def test_an_address_that_replaced_another_one_rests_before_it_is_paid(settings):
    settings.REFUND_REST_HOURS = 24
    refund = refund_of(money_in())
    give(refund, Q)
    rests = give(refund, P).destination.rests_until - timezone.now()
    assert timedelta(hours=23, minutes=59) < rests <= timedelta(hours=24)
    with pytest.raises(DecisionRefused, match="rests until"):
        send(refund)
    RefundAddress.objects.update(rests_until=timezone.now())
    send(refund)
    assert now(refund) == "sent"


def test_addresses_are_not_changed_without_end():
    refund = refund_of(money_in())
    for number in range(MOST_ADDRESSES):
        give(refund, f"bc1address{number}")
    with pytest.raises(AddressRefused, match="changed too often"):
        give(refund, "bc1address-more")
    assert refund.addresses.count() == MOST_ADDRESSES


def test_a_pattern_that_takes_forever_is_stopped_and_says_nothing():
    make_coin(wallet_regex="(a|aa)+$(?<=b)")
    refund = refund_of(money_in())
    begun = monotonic()
    assert give(refund, "a" * 60).address == "a" * 60
    assert monotonic() - begun < 60


@pytest.mark.parametrize(
    ("coin", "memo", "refused"),
    [
        ({"takes_memo": True}, "", None),
        ({"takes_memo": True}, "12345", None),
        (
            {"takes_memo": True, "memo_regex": "^[0-9]{1,10}$"},
            "none",
            "not a memo or tag for Btc. Leave the field empty",
        ),
        ({"takes_memo": True}, "None", "not a memo or tag for Btc. Leave the field empty"),
        ({"takes_memo": True, "needs_memo": True}, "n/a", "not a memo or tag for Btc. Your wallet shows it"),
        ({"takes_memo": True, "needs_memo": True}, "", "needs a memo or tag"),
        ({"takes_memo": True, "memo_regex": "^[0-9]{1,10}$"}, "x77", "not a memo or tag"),
        ({"takes_memo": True, "memo_regex": "(["}, "x77", None),
        ({}, "77", "has no memo or tag"),
    ],
)
def test_the_memo_follows_the_rules_of_its_coin(coin, memo, refused):
    make_coin(**coin)
    refund = refund_of(money_in())
    if refused is None:
        assert give(refund, extra_id=memo).extra_id == memo
        return
    with pytest.raises(AddressRefused, match=refused):
        give(refund, extra_id=memo)
    assert not refund.addresses.exists()


@pytest.mark.parametrize(
    "address",
    ["", "bc1", "bc1" + "q" * 40, "BC1" + "q" * 39, "bc1" + "q" * 38 + "é", "bc1 " + "q" * 39, "x" * 201, "<script>"],
)
def test_what_is_no_address_of_the_coin_is_refused(address):
    make_coin(wallet_regex="^bc1[a-z0-9]{39}$")
    refund = refund_of(money_in())
    with pytest.raises(AddressRefused, match="not an address"):
        give_address(order=refund.order, refund_id=refund.pk, address=address)
    assert not RefundAddress.objects.exists()


@pytest.mark.parametrize(
    ("pattern", "address", "is_link"),
    [
        ("^bc1[a-z0-9]{39}$", "bitcoin:bc1" + "q" * 39, True),
        ("^bc1[a-z0-9]{39}$", "BITCOIN:BC1" + "Q" * 39 + "?amount=0.1", True),
        ("", "bitcoin:bc1" + "q" * 39 + "?amount=0.1", True),
        ("^(bitcoincash:)?q[a-z0-9]{41}$", "bitcoincash:q" + "p" * 41, False),
        ("", "kaspa:q" + "p" * 41, False),
        ("", "rDNFdMyuwHB2Qn2LP8vLqkMBNTvZpHqDqy:123", False),
    ],
)
def test_a_payment_link_is_named_as_one_and_an_address_with_a_colon_is_not(pattern, address, is_link):
    make_coin(wallet_regex=pattern)
    refund = refund_of(money_in())
    if is_link:
        with pytest.raises(AddressRefused, match="Give only the address in it"):
            give_address(order=refund.order, refund_id=refund.pk, address=address)
    else:
        give_address(order=refund.order, refund_id=refund.pk, address=address)
    assert RefundAddress.objects.exists() is not is_link


@pytest.mark.parametrize(
    ("address", "is_one"),
    [("x" * 7, False), ("x" * 8, True), ("x" * 200, True), ("x" * 201, False), ("x x" * 3, False), ("é" * 9, False)],
)
def test_without_a_pattern_an_address_is_8_to_200_visible_characters(address, is_one):
    refund = refund_of(money_in())
    if is_one:
        give_address(order=refund.order, refund_id=refund.pk, address=address)
    else:
        with pytest.raises(AddressRefused, match="This is not an address"):
            give_address(order=refund.order, refund_id=refund.pk, address=address)
    refund.refresh_from_db()
    assert refund.address == (address if is_one else "")


@pytest.mark.parametrize("pattern", ["", "([", "(?<name"])
def test_a_pattern_that_says_nothing_stops_nobody(pattern):
    make_coin(wallet_regex=pattern)
    refund = refund_of(money_in())
    assert give_address(order=refund.order, refund_id=refund.pk, address=ADDRESS).address == ADDRESS


def test_a_coin_we_no_longer_know_takes_any_address():
    refund = refund_of(money_in())
    assert give_address(order=refund.order, refund_id=refund.pk, address=ADDRESS).address == ADDRESS


@pytest.mark.parametrize("memo", ["", " ", "a b", "m" * 101])
def test_a_coin_with_memos_needs_one(memo):
    make_coin(takes_memo=True, needs_memo=True)
    refund = refund_of(money_in())
    with pytest.raises(AddressRefused, match="memo or tag"):
        give_address(order=refund.order, refund_id=refund.pk, address=ADDRESS, extra_id=memo)
    kept = give_address(order=refund.order, refund_id=refund.pk, address=ADDRESS, extra_id=" 12345 ")
    assert kept.extra_id == "12345"


def test_an_address_is_for_a_refund_of_the_same_order():
    refund, other = refund_of(money_in()), make_order()
    for order, refund_id in ((other, refund.pk), (refund.order, uuid.uuid4())):
        with pytest.raises(AddressRefused):
            give_address(order=order, refund_id=refund_id, address=ADDRESS)


def test_an_address_that_comes_while_the_coins_are_sent_is_refused():
    """It fails without the second look, under the lock: the first one still saw a refund that waits."""
    refund = give(refund_of(money_in()), Q)
    rows = type(refund).objects.filter(pk=refund.pk)
    with between("payments_refund", lambda: rows.update(status="sent")), pytest.raises(AddressRefused):
        give(refund, P)
    assert list(refund.addresses.values_list("address", flat=True)) == [Q]

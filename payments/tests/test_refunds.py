import itertools
from decimal import Decimal

import pytest

from bitloot.core.decisions import DecisionRefused
from orders.alerts import raise_alert
from orders.models import Alert
from orders.tests.factories import make_order, make_product
from payments import refunds, settlement
from payments.balance import surplus_of
from payments.exceptions import NoSurplus
from payments.models import Payment, Refund
from payments.tests.decisions import HALF, TXID, WHY, give, mails, money_in, now, refund_of, refused, send, story
from payments.tests.factories import ADDRESS, ASKED, make_facts, make_payment, make_refund_address
from storage.services import store_key

pytestmark = pytest.mark.django_db
_numbers = itertools.count(1)


# --- give back


@pytest.mark.parametrize("order_status", ["pending", "underpaid", "held", "paid", "fulfilling", "expired", "cancelled"])
def test_a_refund_owes_the_order_back(order_status):
    payment = money_in(make_order(status=order_status))
    refund = refund_of(payment)
    assert (refund.status, refund.amount, refund.currency) == ("requested", Decimal("0.0012"), "btc")
    assert (refund.order, refund.payment, refund.reason) == (payment.order, payment, WHY)
    assert (now(payment), now(payment.order), payment.order.reason) == ("review", "refund_due", "refund_requested")
    assert mails(payment.order) == ["refund_asked"]
    facts = {"coins": "0.0012 BTC", "refund": "all", "undelivered": False}
    assert payment.order.emails.get(kind="refund_asked").facts == facts
    assert story(payment.order) == [
        ("refund", "0.0012 BTC go back to the customer.", "ada"),
        ("order", "The payment goes back.", "ada"),
    ]


@pytest.mark.parametrize(("kind", "request_"), [("all", refunds.request_refund), ("share", refunds.request_share)])
def test_the_coins_that_a_decision_names_are_those_that_go_back(kind, request_):
    order = make_order(make_product(price="10.00"), quantity=4, status="held")
    parts_of(order, 3)
    payment = paid(order, "0.0030")
    named = refunds.coins_of(payment, kind)
    request_(payment, actor="ada", reason=WHY)
    assert named == Refund.objects.get().amount


@pytest.mark.parametrize("reason", ["", "   ", "ok", "1234"])
@pytest.mark.parametrize("request_", [refunds.request_refund, refunds.request_share, refunds.request_surplus])
def test_a_refund_needs_a_reason(request_, reason):
    order = make_order(make_product(price="10.00"), quantity=4, status="held")
    parts_of(order, 3)
    payment = paid(order, "0.0030")
    with refused("Give a reason, in a few words: it is kept with the decision."):
        request_(payment, actor="ada", reason=reason)
    assert (now(order), Refund.objects.exists()) == ("held", False)


def test_five_characters_are_a_reason_to_refund():
    assert refunds.request_refund(money_in(), actor="ada", reason="fraud").reason == "fraud"


def test_a_long_reason_to_refund_is_cut_to_what_its_column_takes():
    assert refunds.request_refund(money_in(), actor="ada", reason="x" * 400).reason == "x" * 200


@pytest.mark.parametrize("request_", [refunds.request_refund, refunds.request_share])
def test_a_refund_closes_the_alerts_that_asked_for_it(request_):
    order = make_order(make_product(price="10.00"), quantity=4, status="held")
    parts_of(order, 3)
    payment = paid(order, "0.0030")
    for kind, row in (("payment_review", payment), ("overpaid", payment), ("order_held", order)):
        raise_alert(kind, row, "Look.", order=order)
    request_(payment, actor="ada", reason=WHY)
    closed = Alert.objects.filter(status="closed").order_by("kind")
    overpaid_by = {refunds.request_refund: "ada", refunds.request_share: "automatic: it goes back"}[request_]
    assert list(closed.values_list("kind", "closed_by")) == [
        ("order_held", "ada"), ("overpaid", overpaid_by), ("payment_review", "ada"),
    ]  # fmt: skip


def test_a_delivered_order_keeps_its_keys():
    payment = money_in(make_order(status="fulfilled"), "finished")
    refund_of(payment)
    assert now(payment.order) == "fulfilled"


def test_an_order_that_stands_on_another_payment_goes_on():
    order = make_order(status="paid")
    make_payment(order, "finished")
    refund_of(money_in(order))
    assert now(order) == "paid"


@pytest.mark.parametrize("fields", [{"actually_paid": Decimal(0)}, {"status": "refunded"}])
def test_what_did_not_come_does_not_go_back(fields):
    with refused("No coins came with this payment, or they went back already."):
        refund_of(money_in(**fields))
    assert not Refund.objects.exists()


@pytest.mark.parametrize("status", ["requested", "sent", "done"])
def test_a_payment_goes_back_once(status):
    payment = money_in()
    Refund.objects.filter(pk=refund_of(payment).pk).update(status=status)
    with refused("This payment already has a refund; look at that one."):
        refund_of(payment)
    assert Refund.objects.count() == 1


def test_every_payment_with_money_of_an_order_goes_back_once():
    order = make_order(status="held")
    part, whole = make_payment(order, **HALF), money_in(order)
    make_payment(order)
    money_in(order, "refunded")
    first = refund_of(part)
    assert now(order) == "refund_due"
    assert {refund.payment_id for refund in order.refunds.all()} == {part.pk, whole.pk}
    refunds.owe_back(order)
    assert order.refunds.count() == 2
    assert order.refunds.exclude(pk=first.pk).get().reason == "refund_requested"


@pytest.mark.parametrize(("reason", "kept"), [("supplier_cancelled", "supplier_cancelled"), ("", "refund due")])
def test_money_that_the_machine_owes_back_keeps_the_orders_reason(reason, kept):
    payment = money_in(make_order(status="refund_due", reason=reason))
    refunds.owe_back(payment.order)
    assert payment.refunds.get().reason == kept
    assert story(payment.order) == [("refund", "0.0012 BTC go back to the customer.", "")]


def test_coins_that_come_after_the_refund_wait_for_staff():
    payment = money_in()
    refund_of(payment)
    Payment.objects.filter(pk=payment.pk).update(actually_paid=Decimal("0.0020"))
    refunds.owe_back(payment.order)
    assert payment.refunds.get().amount == Decimal("0.0012")


def test_a_surplus_that_goes_back_already_does_not_keep_the_rest():
    payment = paid(make_order(status="held"), "0.0030")
    refunds.request_surplus(payment, actor="ada", reason=WHY)
    refunds.owe_back(payment.order)
    assert sorted(payment.refunds.values_list("kind", "amount")) == [
        ("all", Decimal("0.0024")), ("surplus", Decimal("0.0006")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "reason", "undelivered"),
    [
        ("refund_due", "supplier_cancelled", True),
        ("refund_due", "decided_by_staff", False),
        ("refund_due", "", False),
        ("held", "supplier_cancelled", False),
    ],
)
def test_the_customer_reads_whether_the_supplier_is_why_the_money_goes_back(status, reason, undelivered):
    order = money_in(make_order(status=status, reason=reason)).order
    refunds.owe_back(order)
    assert order.emails.get(kind="refund_asked").facts["undelivered"] is undelivered


# --- how much


def parts_of(order, *units):
    """Deliver keys for the order's items: as many of each as given."""
    for item, number in zip(order.items.order_by("title"), units, strict=True):
        for _ in range(number):
            code = f"S{next(_numbers)}"
            store_key(item=item, supplier_key_id=code, plaintext=code.encode(), content_type="text/plain")


def paid(order, paid="0.0024", asked="0.0024", **fields):
    coins = {
        "pay_amount": Decimal(asked),
        "actually_paid": Decimal(paid),
        "reason": "",
        "finished_at": order.created_at,
    }
    return money_in(order, "finished", **{**coins, **fields})


def test_a_surplus_goes_back_beside_the_order():
    payment = paid(make_order(status="fulfilled"), "0.0030")
    refund = refunds.request_surplus(payment, actor="ada", reason=WHY)
    assert (refund.kind, refund.amount, refund.worth) == ("surplus", Decimal("0.0006"), 0)
    facts = {"coins": "0.0006 BTC", "refund": "surplus", "undelivered": False}
    assert refund.order.emails.get(kind="refund_asked").facts == facts
    give(refund), send(refund), refunds.mark_done(refund, actor="ada")
    assert mails(refund.order) == ["refund_asked", "refund_address", "refund_sent", "refund_arrived"]
    sent = refund.order.emails.get(kind="refund_sent").facts
    assert sent == {"coins": "0.0006 BTC", "address": f"…{ADDRESS[-6:]}", "transaction": TXID}
    assert refund.order.emails.get(kind="refund_arrived").facts == {"coins": "0.0006 BTC"}
    assert (now(payment), now(payment.order)) == ("finished", "fulfilled")
    with refused("Nothing came beyond what was asked for, or it has a refund already."):
        refunds.request_surplus(payment, actor="ada", reason=WHY)


def test_several_refunds_of_a_payment_never_exceed_what_arrived():
    payment = paid(make_order(status="fulfilled"), "0.0030")
    refunds.request_surplus(payment, actor="ada", reason=WHY)
    rest = refund_of(payment)
    assert (rest.kind, rest.amount, rest.worth) == ("all", Decimal("0.0024"), payment.price_amount)
    with pytest.raises(DecisionRefused, match="already has a refund"):
        refund_of(payment)
    Payment.objects.filter(pk=payment.pk).update(actually_paid=Decimal("0.0031"))
    late = refund_of(Payment.objects.get(pk=payment.pk))
    assert (late.amount, late.worth) == (Decimal("0.0001"), 0)
    for number, refund in enumerate(payment.refunds.order_by("created_at")):
        assert now(payment) == "finished"
        give(refund), send(refund, f"{TXID}{number}"), refunds.mark_done(refund, actor="ada")
    assert now(payment) == "refunded"


@pytest.mark.parametrize("status", ["paid", "fulfilling", "partially_fulfilled", "held", "failed"])
def test_the_share_that_was_not_delivered_goes_back(status):
    order = make_order(make_product(price="10.00"), quantity=4, status=status)
    parts_of(order, 3)
    payment = paid(order, "0.0030")
    refunds.request_share(payment, actor="ada", reason=WHY)
    refund = order.refunds.get()
    assert (refund.kind, refund.amount, refund.worth) == ("share", Decimal("0.0012"), Decimal("10.00"))
    assert now(order) == "refund_due"
    assert story(order)[-3:] == [
        ("staff", WHY, "ada"),
        ("order", "The money for what was not delivered goes back.", "ada"),
        ("refund", "0.0012 BTC go back to the customer.", ""),
    ]
    assert not Alert.objects.filter(kind="refund_of_delivered").exists()
    give(refund), send(refund), refunds.mark_done(refund, actor="ada")
    assert (now(payment), now(order)) == ("finished", "refunded")


def test_a_share_is_rounded_down():
    order = make_order(make_product(price="10.00"), quantity=3, status="held")
    parts_of(order, 1)
    payment = paid(order, "0.0010", "0.0010", price_amount=Decimal("10.00"))
    refunds.request_share(payment, actor="ada", reason=WHY)
    refund = order.refunds.get()
    assert (refund.amount, refund.worth) == (Decimal("0.00066666"), Decimal("6.66"))


@pytest.mark.parametrize("units", [0, 4])
def test_a_share_is_less_than_all(units):
    order = make_order(make_product(price="10.00"), quantity=4, status="held")
    parts_of(order, units)
    payment = paid(order)
    refuses_a_share(payment, "Only a part that was delivered can be kept.")


@pytest.mark.parametrize(("units", "kind"), [(0, "all"), (3, "share"), (4, "all")])
def test_a_share_is_owed_back_only_of_what_was_delivered_in_part(units, kind):
    order = make_order(make_product(price="10.00"), quantity=4, status="held")
    parts_of(order, units)
    refunds.owe_back(paid(order).order)
    assert order.refunds.get().kind == kind


def refuses_a_share(payment, sentence):
    with refused(sentence):
        refunds.request_share(payment, actor="ada", reason=WHY)


def test_only_the_money_of_an_order_that_can_still_be_owed_back_is_shared_out():
    order = make_order(make_product(price="10.00"), quantity=4, status="held")
    parts_of(order, 3)
    refuses_a_share(make_payment(order, "waiting"), "No coins came with this payment, or they went back already.")
    refuses_a_share(money_in(order, "review"), "This payment is not what the order was paid with.")
    one, _other = paid(order), paid(order)
    refuses_a_share(one, "This payment is not what the order was paid with.")
    delivered = make_order(make_product(price="10.00"), quantity=4, status="fulfilled")
    parts_of(delivered, 3)
    refuses_a_share(paid(delivered), "The money of an order that is “fulfilled” is not shared out.")


def test_a_share_is_given_back_once():
    order = make_order(make_product(price="10.00"), quantity=4, status="held")
    parts_of(order, 3)
    payment = paid(order)
    refunds.request_share(payment, actor="ada", reason=WHY)
    order.move("held", message="Looked at again.")
    refuses_a_share(payment, "This payment already has a refund; look at that one.")


def test_an_order_whose_coins_the_provider_sent_back_is_refunded_at_once():
    order = make_order(status="held")
    payment = make_payment(order, "refunded", actually_paid=Decimal("0.0012"))
    settlement.alert(order, payment, "refunded")
    order.mark_refund_due(reason="payment_refunded", message="Owed back.")
    assert now(order) == "refunded"
    assert Alert.objects.get(kind="payment_review").closed_by == "automatic: the order is refunded"
    assert story(order)[-1] == ("order", "The payment provider had sent your coins back.", "")


def test_an_order_is_not_refunded_while_other_coins_of_it_are_owed():
    order = make_order(status="held")
    make_payment(order, "refunded", actually_paid=Decimal("0.0012"))
    money_in(order)
    order.mark_refund_due(reason="payment_refunded", message="Owed back.")
    assert (now(order), order.refunds.get().status) == ("refund_due", "requested")


def test_an_order_is_refunded_at_once_though_it_had_a_refund_that_is_done():
    order = make_order(status="held")
    make_payment(order, "refunded", actually_paid=Decimal("0.0012"))
    Refund.objects.create(order=order, amount=1, currency="btc", reason="by hand", status="done")
    order.mark_refund_due(reason="payment_refunded", message="Owed back.")
    assert now(order) == "refunded"


def test_an_order_without_money_is_not_refunded_by_owing_it_back():
    order = make_payment(make_order(status="held"), "expired").order
    order.mark_refund_due(reason="decided_by_staff", message="Owed back.")
    assert (now(order), order.refunds.count()) == ("refund_due", 0)


def test_an_order_that_is_owed_back_in_parts_returns_a_share_of_each_payment():
    order = make_order(make_product(price="10.00"), quantity=4, status="partially_fulfilled")
    parts_of(order, 1)
    part = make_payment(order, "partially_paid", actually_paid=1, pay_amount=2, credit=Decimal("20.00"))
    paid(order, "0.0012", "0.0012", price_amount=Decimal("20.00"))
    stray = money_in(order, "review", actually_paid=Decimal("0.5"))
    order.mark_refund_due(reason="supplier_cancelled", message="Owed back.")
    assert sorted(order.refunds.values_list("kind", "amount", "worth")) == [
        ("all", Decimal("0.5"), 0),
        ("share", Decimal("0.0009"), Decimal("15.00")),
        ("share", Decimal("0.75"), Decimal("15.00")),
    ]
    assert stray.refunds.get().kind == "all"
    assert part.refunds.get().amount == Decimal("0.75")


def test_staff_are_mailed_about_a_refund_of_delivered_keys():
    order = make_order(make_product(price="10.00"), quantity=4, status="fulfilled")
    parts_of(order, 4)
    refund = refund_of(paid(order))
    alert = Alert.objects.get(kind="refund_of_delivered")
    assert (alert.about_pk, alert.order, alert.emails.count()) == (str(refund.pk), order, 1)
    assert alert.message == (f"0.0024 BTC go back to the customer of {order}, who keeps keys of 40.00 EUR. ada: {WHY}")


def test_a_refund_of_delivered_keys_that_nobody_decided_names_bitloot():
    order = make_order(make_product(price="10.00"), quantity=4, status="held", reason="supplier_cancelled")
    parts_of(order, 4)
    refunds.owe_back(paid(order).order)
    message = Alert.objects.get(kind="refund_of_delivered").message
    assert message.endswith("who keeps keys of 40.00 EUR. BitLoot: supplier_cancelled")


@pytest.mark.parametrize(
    ("units", "before", "takes_two"),
    [
        (0, "0", False),
        (1, "0", False),  # 10.00 of 50.00: a fifth
        (2, "0", True),
        (5, "0", True),
        (2, "30.00", True),  # and what went back before pays for nothing any more
    ],
)
def test_giving_back_the_price_of_delivered_keys_takes_two(settings, units, before, takes_two):
    settings.APPROVAL_LIMIT, settings.APPROVAL_SHARE = Decimal(100), Decimal("0.2")
    order = make_order(make_product(price="10.00"), quantity=5, status="fulfilled")
    parts_of(order, units)
    payment = paid(order)
    if Decimal(before):
        Refund.objects.create(
            order=order, payment=payment, amount=Decimal("0.0001"), worth=before, currency="btc", reason=WHY
        )
    assert refunds.refund_takes_two(payment, {}) is takes_two


def test_a_second_payment_of_a_delivered_order_goes_back_without_alarm():
    order = make_order(make_product(price="10.00"), quantity=1, status="fulfilled")
    parts_of(order, 1)
    paid(order)
    refund_of(money_in(order, reason="second_payment"))
    assert not Alert.objects.filter(kind="refund_of_delivered").exists()


@pytest.mark.parametrize("word", ["finished", "partially_paid"])
def test_coins_that_come_after_all_went_back_are_for_a_person_and_can_go_back(word):
    payment = make_payment()
    settlement.apply(payment, make_facts(payment))
    all_sent_back(payment)
    assert (
        settlement.apply(payment, make_facts(payment, word, actually_paid=ASKED * 2))
        == "review: finished_after_refunded"
    )
    payment.refresh_from_db()
    assert refunds.request_refund(payment, actor="ada", reason=WHY).amount == ASKED


def test_coins_that_come_while_all_goes_back_are_told_as_a_surplus():
    payment = make_payment()
    settlement.apply(payment, make_facts(payment))
    refund_of(payment)
    for _ in range(2):
        settlement.apply(payment, make_facts(payment, actually_paid=ASKED * 2))
    payment.refresh_from_db()
    assert [surplus_of(payment), Alert.objects.filter(kind="overpaid").count()] == [ASKED, 1]


def test_a_surplus_that_went_back_with_a_share_goes_back_once():
    """Fails if a share counts as nothing of the surplus: the customer could ask for coins that paid for their key."""
    order = make_order(make_product(price="10.00"), quantity=4, status="held")
    parts_of(order, 3)
    payment = paid(order, "0.0030")
    assert surplus_of(payment) > 0
    refunds.request_share(payment, actor="ada", reason=WHY)
    with pytest.raises(NoSurplus):
        refunds.ask_for_surplus(order)


# --- the customer asks


def test_a_customer_asks_for_the_surplus_once():
    payment = paid(make_order(status="paid"), "0.0030")
    refund = refunds.ask_for_surplus(payment.order)
    assert (refund.kind, refund.amount, refund.reason) == (
        "surplus", Decimal("0.0006"), "The customer asked for the surplus."
    )  # fmt: skip
    assert story(payment.order) == [("refund", "0.0006 BTC go back to the customer.", "")]
    with pytest.raises(NoSurplus):
        refunds.ask_for_surplus(payment.order)


@pytest.mark.parametrize("arrived", ["0.0024", "0.00249", "0.0025"])
def test_a_few_coins_more_are_no_surplus_to_ask_for(arrived):
    with pytest.raises(NoSurplus):
        refunds.ask_for_surplus(paid(make_order(status="paid"), arrived).order)


# --- what staff read


@pytest.mark.parametrize(
    ("constant", "name", "label", "permission", "consequence", "done"),
    [
        (
            "REFUND", "refund", "Refund all", "payments.refund_payment",
            "The customer is asked for an address, and you send the coins to it by hand. An order that is not delivered"
            " ends with it, unless another payment paid it; keys that were delivered stay with the customer.",
            "all its coins go back. The customer is asked for an address; an alert tells you when it is there.",
        ),
        (
            "REFUND_SURPLUS", "refund-surplus", "Refund the surplus", "payments.refund_surplus",
            "What came beyond the price goes back. The order and its keys are not touched.",
            "the surplus goes back. The customer is asked for an address; an alert tells you when it is there.",
        ),
        (
            "REFUND_SHARE", "refund-share", "Refund what was not delivered", "payments.refund_share",
            "The customer keeps the keys that they have and gets the money for the others, which will not be bought."
            " The order ends with it.",
            "the money for the rest goes back. The customer is asked for an address; an alert tells you when it is"
            " there.",
        ),
        (
            "MARK_SENT", "sent", "Mark as sent", "payments.send_refund",
            "First send exactly this amount, in this coin, to this address from your wallet: BitLoot sends none.",
            "sent. The customer sees the transaction; mark it done when the coins have arrived.",
        ),
        (
            "MARK_SENT_ELSEWHERE", "sent-elsewhere", "Sent to an earlier address", "payments.send_elsewhere",
            "Only if the customer gave another address after you had sent the coins. The ledger then names the address"
            " that was paid; nothing goes to the newest one.",
            "sent, to the earlier address. The customer sees the transaction; mark it done when the coins have"
            " arrived.",
        ),
        (
            "MARK_DONE", "done", "Mark as done", "payments.finish_refund",
            "First look the transaction up on the network: the coins have arrived, and nothing more is owed.",
            "done. With its last refund the order counts as refunded.",
        ),
    ],
)  # fmt: skip
def test_staff_read_what_a_decision_does_and_what_happens_next(constant, name, label, permission, consequence, done):
    decision = getattr(refunds, constant)
    assert (decision.name, decision.label, decision.permission) == (name, label, permission)
    assert (decision.consequence, decision.done) == (consequence, done)


def all_sent_back(payment):
    refund = refund_of(payment)
    make_refund_address(refund)
    refunds.mark_sent(refund, actor="ada", transaction_id=TXID, destination=refund.destination_id)
    refunds.mark_done(refund, actor="ada")

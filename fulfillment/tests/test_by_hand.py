"""What staff do with keys by hand, and what stops them: units that are missing, replacements, shredding."""

import threading

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, connections
from django.db.models.functions import Now
from django.urls import reverse

from bitloot.core.decisions import DecisionRefused, Secret
from bitloot.tests.staff import make_staff
from fulfillment import by_hand, kinguin, services
from fulfillment.by_hand import KEEP, SHRED, Code
from fulfillment.exceptions import CodeKnown, CodesRefused, NotDeliverable, PermitOpen
from fulfillment.kinguin import SupplierEvent
from fulfillment.models import Reservation
from fulfillment.tests.world import HOUR, age, finish, paid, posts, purchases, run
from orders.models import Alert, Email, Order, OrderEvent
from storage.models import Key
from storage.sealing import MasterKeys, open_sealed

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("supplier")]
CODE = "CANARY-TYPED-BY-HAND"


def opened(key):
    return open_sealed(key.sealed(bytes(key.ciphertext)), key.binding, keys=MasterKeys.from_settings()).decode()


def type_in(reservation, *serials, reason="Bought elsewhere."):
    codes = [Code(str(reservation.item_id), serial) for serial in serials]
    order = Order.objects.get(pk=reservation.item.order_id)
    by_hand.deliver_by_hand(order=order, codes=codes, reason=reason, actor="kim")
    reservation.refresh_from_db()
    reservation.item.order.refresh_from_db()


@pytest.fixture
def partly(product, sandbox):
    """Two units were bought, and one of them came."""
    sandbox.control("config", {"deliver": "manual"})
    reservation = run(Reservation.objects.get(item__order=paid((product, 2))))
    sandbox.control(f"orders/{reservation.supplier_order_id}/deliver", {"count": 1})
    return run(reservation)


@pytest.fixture
def delivered(reservation):
    return finish(reservation)


def key_of(reservation):
    return reservation.keys.select_related("item__order", "item__product").get()


def boss(client):
    client.force_login(make_staff(superuser=True))
    return client


def decide(client, row, decision, **fields):
    """Fill in the decision's page and send it; return what staff read then."""
    meta = row._meta
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_decide", args=[row.pk, decision.name])
    page = client.get(url)
    if page.status_code != 200:
        return client.get(page.url).content.decode()
    answer = client.post(url, {"seen": page.context["seen"], **fields}, follow=True)
    return answer.content.decode()


# --- deliver by hand


def test_units_that_a_supplier_never_sent_are_typed(partly):
    with pytest.raises(PermitOpen, match="may still deliver"):
        type_in(partly, CODE)
    age(partly, reserved_at=Now() - 25 * HOUR, polls=20)
    run(partly)
    assert (partly.status, partly.reason) == ("held", "no_keys")
    with pytest.raises(CodesRefused, match="needs 1 codes, 2 were typed"):
        type_in(partly, CODE, "ANOTHER")
    type_in(partly, CODE)
    assert (partly.status, partly.manual, partly.item.order.status) == ("delivered", True, "fulfilled")
    assert Key.objects.filter(item=partly.item).count() == 2
    assert not Alert.objects.filter(status="open").exists()


def test_units_that_a_supplier_took_back_are_typed(partly, sandbox):
    sandbox.control(f"orders/{partly.supplier_order_id}/cancel", {})
    run(partly)
    assert (partly.status, partly.reason) == ("held", "partly_cancelled")
    type_in(partly, CODE)
    assert (partly.status, partly.item.order.status) == ("delivered", "fulfilled")


def test_a_key_that_cannot_be_used_is_held_at_once_and_typed(product, sandbox):
    sandbox.fault("kinguin.delivery", "odd_keys", times=1, args={"serial": {"code": "A"}})
    reservation = Reservation.objects.get(item__order=paid((product, 1)))
    for _ in range(20):
        if run(reservation).status == "held":
            break
    assert (reservation.status, reservation.reason) == ("held", "unreadable_key")
    type_in(reservation, CODE)
    assert (reservation.status, reservation.item.order.status) == ("delivered", "fulfilled")


def test_key_that_came_before_is_held_and_another_is_typed(product, sandbox):
    finish(Reservation.objects.get(item__order=paid((product, 1))))
    sandbox.fault("kinguin.delivery", "key_duplicate", times=1)
    second = Reservation.objects.get(item__order=paid((product, 1)))
    for _ in range(20):
        if run(second).status == "held":
            break
    assert (second.status, second.reason) == ("held", "foreign_key")
    assert Alert.objects.filter(kind="key_sold_twice", order=second.item.order, status="open").count() == 1
    assert not second.keys.exists()
    type_in(second, CODE)
    assert (second.status, second.item.order.status) == ("delivered", "fulfilled")


def test_one_code_for_two_units_of_one_order_is_held(product, sandbox):
    sandbox.fault("kinguin.delivery", "odd_keys", times=1, args={"serial": "SAME0-SAME0-SAME0"})
    reservation = Reservation.objects.get(item__order=paid((product, 2)))
    for _ in range(20):
        if run(reservation).status == "held":
            break
    assert (reservation.status, reservation.reason) == ("held", "foreign_key")
    assert Alert.objects.filter(kind="key_sold_twice", status="open").exists()


def test_code_that_was_given_before_is_refused_and_told(reservation, product):
    type_in(reservation, CODE)
    other = Reservation.objects.get(item__order=paid((product, 1)))
    with pytest.raises(CodeKnown) as caught:
        type_in(other, f" {CODE}\r\n")
    caught.value.afterwards()
    alert = Alert.objects.get(kind="key_sold_twice")
    assert (alert.order, other.keys.exists()) == (other.item.order, False)
    assert CODE not in alert.message + str(caught.value)


def test_keys_that_come_after_typed_ones_are_surplus(partly, sandbox):
    age(partly, reserved_at=Now() - 25 * HOUR, polls=20)
    run(partly)
    type_in(partly, CODE)
    claims = {"kind": "order", "event_type": "order.status", "external_id": partly.external_id}
    services.handle_supplier_event(SupplierEvent(**claims, order_id=partly.supplier_order_id, status="completed"))
    assert Alert.objects.get(status="open").kind == "surplus"


def test_nothing_is_typed_for_money_that_went_back(reservation):
    reservation.item.order.hold_unpaid(message="The payment was refunded by the provider.")
    with pytest.raises(NotDeliverable, match="money back"):
        type_in(reservation, CODE)
    assert not Key.objects.exists()


def test_page_asks_for_one_code_per_missing_unit_and_keeps_none_of_them(partly, client):
    boss(client)
    order = partly.item.order
    assert "may still deliver" in decide(client, order, by_hand.DELIVER_BY_HAND)
    age(partly, reserved_at=Now() - 25 * HOUR, polls=20)
    run(partly)
    url = reverse("admin:orders_order_decide", args=[order.pk, "deliver-by-hand"])
    page = client.get(url)
    field = f"code_{partly.item_id}_1"
    assert [name for name in page.context["form"].fields if name.startswith("code_")] == [field]
    incomplete = client.post(url, {"seen": page.context["seen"], field: CODE}).content.decode()
    assert "Say why" in incomplete
    assert CODE not in incomplete
    said = decide(client, order, by_hand.DELIVER_BY_HAND, reason="Bought elsewhere.", **{field: CODE})
    assert "the codes are sealed" in said
    order.refresh_from_db()
    assert order.status == "fulfilled"
    kept = [*LogEntry.objects.values(), *OrderEvent.objects.values(), *Email.objects.values(), *Alert.objects.values()]
    assert CODE not in repr([*kept, *Key.objects.values(), *Reservation.objects.values()]) + said
    assert "Bought elsewhere." in LogEntry.objects.latest("pk").change_message


def test_page_tells_staff_of_a_code_that_was_given_before(reservation, product, client):
    type_in(reservation, CODE)
    other = Reservation.objects.get(item__order=paid((product, 1)))
    fields = {f"code_{other.item_id}_1": CODE, "reason": "Bought elsewhere."}
    said = decide(boss(client), other.item.order, by_hand.DELIVER_BY_HAND, **fields)
    assert "was given to another unit before" in said
    assert Alert.objects.get(kind="key_sold_twice").order == other.item.order
    assert not other.keys.exists()


# --- replace a key


def test_key_of_an_order_whose_money_goes_back_meanwhile_is_not_replaced(delivered):
    old = key_of(delivered)
    assert old.item.order.status == "fulfilled"  # as it was read
    Order.objects.update(status="refund_due")
    with pytest.raises(DecisionRefused, match="while the money stays with us"):
        by_hand.replace_by_hand(old, actor="kim", reason="It was used.", code=Secret(CODE), old_key=KEEP)
    with pytest.raises(DecisionRefused, match="while the money stays with us"):
        by_hand.rebuy(old, actor="kim", reason="It was used.", old_key=KEEP)


@pytest.mark.parametrize("old_key", [SHRED, KEEP])
def test_replaced_by_hand_the_order_stays_fulfilled(delivered, old_key):
    old = key_of(delivered)
    by_hand.replace_by_hand(old, actor="kim", reason="It was used.", code=Secret(CODE), old_key=old_key)
    old.refresh_from_db()
    new = Key.objects.get(replaces=old)
    assert old.status == ("shredded" if old_key == SHRED else "stored")
    assert opened(new) == CODE
    order = Order.objects.get()
    assert (order.status, order.emails.filter(kind="key_replaced").count()) == ("fulfilled", 1)
    note = order.events.filter(kind="staff").last()
    assert (note.message, note.actor) == ("A key is replaced by hand: It was used.", "kim")
    assert [key.pk for key in services.keys_of(order)] == ([new.pk] if old_key == SHRED else [old.pk, new.pk])
    with pytest.raises(DecisionRefused, match="replaced already"):
        by_hand.replace_by_hand(old, actor="kim", reason="Again.", code=Secret("B"), old_key=KEEP)


def test_bought_again_under_a_name_of_its_own(delivered, sandbox):
    old = key_of(delivered)
    by_hand.rebuy(old, actor="kim", reason="It was used.", old_key=SHRED)
    again = Reservation.objects.get(replaces=old)
    assert again.external_id == str(old.pk)
    with pytest.raises(DecisionRefused, match="being bought"):
        by_hand.rebuy(old, actor="lee", reason="Twice.", old_key=SHRED)
    finish(again)
    old.refresh_from_db()
    order = Order.objects.get()
    assert (again.status, order.status, old.status) == ("delivered", "fulfilled", "shredded")
    assert [len(purchases(sandbox, row)) for row in (delivered, again)] == [1, 1]
    assert again.calls.filter(call="find").count() == 1
    assert order.emails.filter(kind="key_replaced").count() == 1
    assert [key.replaces_id for key in services.keys_of(order)] == [old.pk]
    newest = key_of(again)
    by_hand.rebuy(newest, actor="kim", reason="That one was used, too.", old_key=KEEP)
    finish(Reservation.objects.get(replaces=newest))
    assert len(services.keys_of(order)) == 2


def test_old_key_opens_until_the_new_one_is_there(delivered, sandbox):
    sandbox.control("config", {"deliver": "manual"})
    old = key_of(delivered)
    by_hand.rebuy(old, actor="kim", reason="It was used.", old_key=SHRED)
    again = run(Reservation.objects.get(replaces=old))
    assert again.status == "given"
    assert [key.pk for key in services.keys_of(Order.objects.get())] == [old.pk]


def test_a_purchase_found_under_its_name_is_adopted_and_not_made_again(delivered, sandbox):
    old = key_of(delivered)
    by_hand.rebuy(old, actor="kim", reason="It was used.", old_key=SHRED)
    again = Reservation.objects.select_related("item__order", "item__product").get(replaces=old)
    product = again.item.product
    kinguin.client().reserve(
        external_id=again.external_id, product_id=product.supplier_product_id, offer_id="", quantity=1,
        price=product.max_cost, text_only=True,
    )  # fmt: skip
    run(again)
    assert (again.status, again.reason, again.permits.count()) == ("held", "found_at_supplier", 0)
    finish(again)
    assert len(posts(sandbox, again)) == 1
    assert Order.objects.get().status == "fulfilled"


def test_a_replacement_without_answer_is_searched_for_and_not_typed_meanwhile(delivered, sandbox):
    old = key_of(delivered)
    sandbox.fault("kinguin.order.create", "5xx_after", times=1)
    by_hand.rebuy(old, actor="kim", reason="It was used.", old_key=SHRED)
    again = run(Reservation.objects.get(replaces=old))
    assert again.status == "unknown"
    with pytest.raises(DecisionRefused, match="may still deliver"):
        by_hand.replace_by_hand(old, actor="kim", reason="Faster.", code=Secret(CODE), old_key=SHRED)
    finish(again)
    assert len(posts(sandbox, again)) == 1


def test_a_replacement_that_cannot_be_bought_leaves_the_order_and_is_typed(delivered, sandbox):
    old = key_of(delivered)
    sandbox.fault("kinguin.order.create", "out_of_stock", times=1)
    by_hand.rebuy(old, actor="kim", reason="It was used.", old_key=SHRED)
    again = run(Reservation.objects.get(replaces=old))
    assert (again.status, again.reason, again.item.order.status) == ("held", "out_of_stock", "fulfilled")
    age(again, waiting_since=Now() - 25 * HOUR)
    sandbox.fault("kinguin.order.create", "out_of_stock", times=1)
    run(again)
    assert (again.status, again.item.order.status) == ("cancelled", "fulfilled")
    assert not Email.objects.filter(kind="delayed").exists()
    by_hand.replace_by_hand(old, actor="kim", reason="Bought elsewhere.", code=Secret(CODE), old_key=KEEP)
    again.refresh_from_db()
    assert (again.status, again.manual) == ("delivered", True)
    assert opened(Key.objects.get(replaces=old)) == CODE
    assert old.__class__.objects.get(pk=old.pk).status != "shredded"


@pytest.mark.parametrize("status", ["held", "refund_due", "refunded", "fulfilling"])
def test_only_a_delivered_key_is_replaced(delivered, status):
    old = key_of(delivered)
    Order.objects.update(status=status)
    old = key_of(delivered)
    for refused in (by_hand.objection_to_rebuying, by_hand.objection_to_replacing_by_hand):
        assert "once its order is delivered" in refused(old)


def test_key_of_a_dialect_without_search_is_not_bought_again(delivered, settings):
    settings.KINGUIN_API = "orders"
    assert "no search" in by_hand.objection_to_rebuying(key_of(delivered))


def test_page_replaces_a_key_and_keeps_no_code(delivered, client):
    old = key_of(delivered)
    said = decide(boss(client), old, by_hand.REPLACE_BY_HAND, reason="It was used.", code=CODE, old_key=SHRED)
    assert "the customer gets a mail" in said
    assert Key.objects.filter(replaces=old).exists()
    kept = [*LogEntry.objects.values(), *OrderEvent.objects.values(), *Email.objects.values()]
    assert CODE not in repr(kept) + said


def test_page_lets_a_dear_replacement_wait_for_a_second_person(delivered, client, settings):
    old = key_of(delivered)
    fields = {"reason": "It was used.", "old_key": SHRED}
    settings.APPROVAL_LIMIT = 1
    assert "second member of staff" in decide(boss(client), old, by_hand.REBUY, **fields)
    assert not Reservation.objects.filter(replaces=old).exists()


def test_page_needs_the_permission_to_buy_again(delivered, client):
    client.force_login(make_staff("storage.view_key", "fulfillment.replace_by_hand"))
    url = reverse("admin:storage_key_decide", args=[key_of(delivered).pk, "rebuy"])
    assert client.get(url).status_code == 403


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_who_replace_one_key_at_once_one_does(delivered):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer")
    old, start, done, refused = key_of(delivered), threading.Barrier(2), [], []

    def replace(number):
        key = Key.objects.select_related("item__order", "item__product").get(pk=old.pk)
        start.wait()
        try:
            if number:
                by_hand.rebuy(key, actor="kim", reason="It was used.", old_key=SHRED)
            else:
                by_hand.replace_by_hand(key, actor="lee", reason="Used.", code=Secret(CODE), old_key=SHRED)
            done.append(number)
        except DecisionRefused:
            refused.append(number)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=replace, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # By hand may still take the place of a purchase that has not begun; then that one is over.
    assert Reservation.objects.filter(replaces=old).count() == 1
    assert Key.objects.filter(replaces=old).count() == (0 in done)
    assert done


# --- shred a key


def test_shredded_key_is_gone_for_its_customer(delivered, client):
    key = key_of(delivered)
    said = decide(boss(client), key, by_hand.SHRED_KEY, reason="The customer asked for it.")
    assert "nobody can open it again" in said
    key.refresh_from_db()
    event = Order.objects.get().events.filter(kind="key", to_status="shredded").get()
    assert (key.status, bool(event.actor)) == ("shredded", True)
    with pytest.raises(DecisionRefused, match="shredded already"):
        by_hand.shred_key(key, actor="kim", reason="Again.")


def test_key_of_an_item_that_is_being_delivered_is_not_shredded(partly):
    with pytest.raises(DecisionRefused, match="still being delivered"):
        by_hand.shred_key(key_of(partly), actor="kim", reason="A mistake.")

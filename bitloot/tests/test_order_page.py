"""The staff's page of an order: why it waits, what happened, and every decision from one place."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models.functions import Now

from bitloot.core.admin.formatting import link
from bitloot.tests.staff import button_of, make_rows, make_staff, page_of
from fulfillment.models import Reservation, SupplierCall
from orders.models import Email, Order, OrderEvent
from orders.tests.factories import make_email, make_order
from payments.models import Payment
from storage.models import KeyAccess
from webhooks.models import WebhookLog

pytestmark = pytest.mark.django_db


def text(answer):
    return " ".join(answer.content.decode().split())


def lines(client, order):
    return client.get(page_of(order)).context["story"]["lines"]


def test_head_says_why_it_waits_and_by_when(boss):
    rows = make_rows()
    rows.approval.delete()
    Order.objects.update(status="held", reason="out_of_stock")
    Reservation.objects.update(
        status="held", reason="out_of_stock", supplier_order_id=None, waiting_since=Now() - timedelta(hours=1)
    )
    page = text(boss.get(page_of(rows.order)))
    assert "It waits for stock at the supplier. The supplier has too little of it now." in page
    assert re.search(r"The money is owed back on \d+ \w+, \d\d:\d\d UTC\.", page)
    assert "Ember Drift" in page


def test_new_order_waits_for_its_payment(boss):
    assert "It waits for the customer" in text(boss.get(page_of(make_order())))


def test_story_merges_all_that_happened_newest_first(boss):
    rows = make_rows()
    boss.post(button_of(rows.order, "mail_fresh_link"))
    kinds = {line.kind for line in lines(boss, rows.order)}
    assert {"order", "webhook", "supplier", "mail", "opened", "staff"} <= kinds
    moments = [line.at for line in lines(boss, rows.order)]
    assert moments == sorted(moments, reverse=True)
    assert boss.user.username in {line.actor for line in lines(boss, rows.order)}


def test_same_call_many_times_is_one_line(boss):
    rows = make_rows()
    OrderEvent.objects.filter(order=rows.order).update(at=Now() - timedelta(hours=1))
    for model in (WebhookLog, KeyAccess):  # of the same moment they would stand between two calls
        model.objects.update(**{"at" if model is KeyAccess else "received_at": Now() - timedelta(hours=1)})
    Email.objects.update(created_at=Now() - timedelta(hours=1))
    for _ in range(20):
        SupplierCall.objects.create(reservation=rows.reservation, call="read", outcome="ok", milliseconds=1)
    (asked,) = [line for line in lines(boss, rows.order) if "Call “read”" in line.text]
    assert asked.times == 20


def test_search_that_found_nothing_does_not_read_as_success(boss):
    rows = make_rows()
    SupplierCall.objects.create(
        reservation=rows.reservation, call="find", outcome="OutOfStock", milliseconds=1, detail="nothing there"
    )
    assert "Call “find” to the supplier: nothing there" in text(boss.get(page_of(rows.order)))


def test_every_decision_is_taken_from_here_and_leads_back(boss):
    rows = make_rows()
    rows.approval.delete()  # it asks for “Refund all”, which is not offered again meanwhile
    page = text(boss.get(page_of(rows.order)))
    decisions = [(rows.order, "mail_fresh_link"), (rows.order, "correct-email"), (rows.alert, "close")]
    decisions += [(rows.payment, "refund"), (rows.payment, "read_again"), (rows.reservation, "run_now")]
    assert [name for row, name in decisions if button_of(row, name) not in page] == []
    Email.objects.filter(pk=rows.email.pk).update(status="failed")
    answer = boss.get(page_of(rows.order))
    (mails,) = [card for card in answer.context["cards"] if card.title == "Mails"]
    again = next(choice for row in mails.rows for choice in row["choices"] if choice["label"] == "Send again")
    assert boss.post(again["url"])["Location"] == page_of(rows.order)


def test_older_mails_are_folded_away_but_for_those_that_failed(boss):
    order = make_rows().order
    Email.objects.all().delete()
    mails = [make_email("fresh_link", order=order, status="sent", sent_at=Now()) for _ in range(9)]
    Email.objects.filter(pk=mails[1].pk).update(status="failed", sent_at=None, error="It came back.")
    answer = boss.get(page_of(order))
    (card,) = [card for card in answer.context["cards"] if card.title == "Mails"]
    assert [row["name"] for row in card.rows] == [link(mail, mail.title) for mail in [*mails[:3:-1], mails[1]]]
    assert [row["name"] for row in card.older] == [link(mails[at], mails[at].title) for at in (3, 2, 0)]
    folded = text(answer).partition('<details id="older-mails" class="older"><summary>3 older</summary>')[2]
    inside = folded.partition("</details>")[0]
    assert [page_of(mail) in inside for mail in mails] == [at in (0, 2, 3) for at in range(9)]


def test_few_mails_are_not_folded(boss):
    order = make_rows().order
    assert "<details" not in text(boss.get(page_of(order)))


def test_impossible_decisions_are_not_shown(boss):
    rows = make_rows()
    Order.objects.update(status="fulfilled", fulfilled_at=Now())
    Reservation.objects.update(status="delivered")
    shown = {choice["label"] for choice in boss.get(page_of(rows.order)).context["order_choices"]}
    assert shown == {"Mail a fresh link", "Correct the e-mail address"}


def test_purchase_shows_cost_price_cap_and_margin(boss):
    rows = make_rows()
    Reservation.objects.update(cost=Decimal("4.00"), price_cap=Decimal("5.00"))
    (card,) = [card for card in boss.get(page_of(rows.order)).context["cards"] if card.title == "Purchases"]
    facts = dict(card.rows[0]["facts"])
    price = rows.item.unit_price
    assert (facts["Price"], facts["Cap"], facts["Cost"]) == (f"{price} EUR", "5.00 EUR", "4.00 EUR")
    assert facts["Margin"].startswith(f"{price - 4} EUR, ")


def test_cards_and_story_show_only_what_they_may_see(client):
    rows = make_rows()
    client.force_login(make_staff("orders.view_order"))
    answer = client.get(page_of(rows.order))
    assert [card.title for card in answer.context["cards"]] == ["Customer"]
    assert answer.context["story"]["lines"] == []
    client.force_login(make_staff("orders.view_order", "payments.view_payment"))
    assert [card.title for card in client.get(page_of(rows.order)).context["cards"]] == ["Customer", "Payments"]


def test_reason_is_a_word_with_its_sentence(boss):
    make_rows()
    Order.objects.update(status="held", reason="too_expensive")
    listed = text(boss.get("/admin/orders/order/"))
    assert (
        'href="/admin/runbook/#reservation-too_expensive" title="It costs more than its cap, or leaves too little'
        in listed
    )
    assert ">Too expensive</a>" in listed
    assert "too_expensive" not in re.sub(r'href="[^"]*"', "", listed)


def test_order_of_a_refused_purchase_is_named_after_the_purchase(boss):
    make_rows()
    Order.objects.update(status="held", reason="refused")
    assert "The supplier refused the purchase." in text(boss.get("/admin/orders/order/"))


def test_list_reads_as_facts(boss):
    rows = make_rows()
    Order.objects.update(status="fulfilled", fulfilled_at=rows.order.paid_at + timedelta(seconds=42))
    listed = text(boss.get("/admin/orders/order/"))
    assert rows.order.email.replace("@", "@<wbr>") in listed
    for cell in ('data-label="Product" class="field-product">Ember Drift', 'class="field-coin">BTC', ">42 s<"):
        assert cell in listed, cell
    assert Payment.objects.count() == 1


def test_buttons_of_several_rows_are_told_apart_by_those_who_only_hear_them(boss):
    rows = make_rows()
    Email.objects.filter(pk=rows.email.pk).update(status="sent")
    rows.approval.delete()  # or “Refund all” waits already
    make_email("key_ready", order=rows.order, status="sent")
    page = text(boss.get(page_of(rows.order)))
    assert 'aria-label="Send again: Delayed"' in page
    assert 'aria-label="Send again: Key ready"' in page
    assert f'aria-label="Refund all: {rows.payment.external_id}"' in page


def test_payment_shows_the_memo_without_which_its_address_is_not_whole(boss):
    rows = make_rows()
    Payment.objects.update(payin_extra_id="881532883")
    assert 'data-copy="881532883"' in text(boss.get(page_of(rows.order)))

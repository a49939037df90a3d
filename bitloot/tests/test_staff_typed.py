"""What staff typed is not lost, and a page that stops them says what happened and what they can do."""

import pytest
from django.test import Client

from bitloot.tests.staff import button_of, make_rows, make_staff, page_of, text
from fulfillment.models import Reservation
from orders.models import Order, OrderItem
from payments.models import Refund

pytestmark = pytest.mark.django_db
REASON = "The customer mistyped it, see ticket 4711."


def sent(client, row, name, **fields):
    """Open the page of a decision and send its form."""
    url = button_of(row, name)
    return client.post(url, {"seen": client.get(url).context["seen"], **fields})


def said(answer):
    return [str(message) for message in answer.context["messages"]]


def test_refused_decision_that_is_still_open_keeps_what_was_typed(boss, rows):
    answer = sent(boss, rows.order, "correct-email", email=rows.order.email, reason=REASON)
    assert "The order has this address already." in said(answer)[0]
    assert (answer.status_code, answer.context["form"].data["reason"]) == (200, REASON)
    assert REASON in text(answer)


def test_what_changed_meanwhile_is_shown_above_what_was_typed_and_then_counts_as_seen(boss, rows):
    url = button_of(rows.order, "hold")
    Order.objects.update(status="fulfilling")
    seen = boss.get(url).context["seen"]
    Order.objects.update(status="paid")
    answer = boss.post(url, {"seen": seen, "reason": REASON})
    assert "changed meanwhile" in said(answer)[0]
    assert REASON in text(answer)
    assert boss.post(url, {"seen": answer.context["seen"], "reason": REASON}).status_code == 302
    assert Order.objects.get().status == "held"


def test_code_that_was_refused_is_not_shown_again_but_asked_for(boss, rows):
    OrderItem.objects.update(quantity=2)  # of which one has its key
    Order.objects.update(status="held")
    Reservation.objects.update(status="held", supplier_order_id=None)
    answer = sent(boss, rows.order, "deliver-by-hand", reason=REASON, **{f"code_{rows.item.pk}_1": " "})
    assert "No code was typed." in said(answer)[0]
    answer = sent(boss, rows.order, "deliver-by-hand", reason="", **{f"code_{rows.item.pk}_1": "AAAA-SECRET"})
    assert "AAAA-SECRET" not in text(answer)
    assert "Codes are not shown again: type them once more." in text(answer)


def test_mistyped_transaction_id_stays_in_its_field(boss, rows):
    Refund.objects.update(status="requested", transaction_id="", destination=rows.refund_address)
    fields = {"transaction_id": "f4184fc5 96403b9d", "destination": rows.refund_address.pk}
    answer = sent(boss, rows.refund, "sent", **fields)
    assert answer.context["form"].errors == {"transaction_id": ["Enter the transaction id as the network shows it."]}
    assert 'value="f4184fc5 96403b9d"' in text(answer)


def test_address_that_the_form_carried_is_not_carried_on(boss, rows):
    """The customer gave another one meanwhile: the form that is written anew would show that and record the earlier."""
    Refund.objects.update(status="requested", transaction_id="", destination=rows.refund_address)
    fields = {"transaction_id": "f4184fc596403b9d", "destination": rows.refund_address.pk + 1}
    assert sent(boss, rows.refund, "sent", **fields)["Location"] == page_of(rows.refund)


@pytest.mark.parametrize(("back", "leads_to"), [("/admin/", "/admin/"), ("//evil.example/", None), ("", None)])
def test_who_leaves_a_form_comes_back_to_where_it_was_opened(boss, rows, back, leads_to):
    page = text(boss.get(f"{button_of(rows.order, 'correct-email')}?back={back}"))
    assert f'<a class="closelink" href="{leads_to or page_of(rows.order)}">Leave it as it is</a>' in page


# --- the session ended, or another began, while a form was open ---


def test_press_after_the_session_ended_says_so_and_leads_back_to_its_page(client, rows):
    page = f"http://testserver{page_of(rows.order)}?from=here"
    answer = client.post(button_of(rows.order, "mail_fresh_link"), headers={"Referer": page}, follow=True)
    assert answer.redirect_chain == [(f"/admin/login/?next={page_of(rows.order)}%3Ffrom%3Dhere", 302)]
    assert "You were signed out, and what you just sent was not carried out." in text(answer)


@pytest.mark.parametrize("page", ["", "https://evil.example/admin/", "http://testserver/orders/find"])
def test_press_that_came_from_no_page_of_the_admin_leads_home(client, rows, page):
    answer = client.post(button_of(rows.order, "mail_fresh_link"), headers={"Referer": page})
    assert answer["Location"] == "/admin/login/?next=/admin/"


def test_form_that_is_older_than_the_session_is_refused_in_words_for_staff(rows):
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(make_staff(superuser=True))
    answer = careful.post(button_of(rows.order, "mail_fresh_link"))
    assert answer.status_code == 403
    assert "Nothing was changed. The form was older than your session" in text(answer)
    assert '<a href="/admin/" class="button">Back to the admin</a>' in text(answer)


# --- what they may not do is not offered, and refused in words for staff ---


def test_staff_without_the_permission_are_told_whom_to_ask(client, rows):
    client.force_login(make_staff("orders.view_order"))
    answer = client.post(button_of(rows.order, "mail_fresh_link"))
    assert answer.status_code == 403
    assert "Your permissions do not cover this" in text(answer)
    assert "Ask a colleague whose permissions cover it" in text(answer)


@pytest.mark.parametrize(("permission", "is_offered"), [("view_webhooklog", False), ("rehearse_webhook", True)])
def test_only_those_who_may_rehearse_are_offered_it(client, permission, is_offered):
    log = make_rows().log
    client.force_login(make_staff("webhooks.view_webhooklog", f"webhooks.{permission}"))
    page = text(client.get(page_of(log)))
    assert ("What would a replay change?" in page) == is_offered
    assert client.get(f"/admin/webhooks/webhooklog/replay/?id__in={log.pk}").status_code == (200 if is_offered else 403)


@pytest.mark.parametrize(("permission", "is_offered"), [("view_user", False), ("change_user", True)])
def test_only_those_who_may_change_an_account_are_offered_its_password(client, permission, is_offered):
    client.force_login(make_staff("auth.view_user", f"auth.{permission}"))
    page = text(client.get(page_of(make_staff())))
    assert ("../password/" in page) == is_offered

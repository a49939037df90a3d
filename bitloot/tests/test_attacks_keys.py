"""Opening keys leaves evidence: which key, when, with which link, from where; and it is limited and announced."""

import uuid

import pytest
from django.db import connection
from django.db.models import F

from bitloot.tests.staff import make_rows, make_staff, page_of
from orders.access import make_token
from orders.models import Email, Order
from storage.models import Key, KeyAccess
from storage.services import store_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows():
    rows = make_rows()
    with connection.cursor() as cursor:  # the model refuses to delete the row that make_rows made
        cursor.execute("DELETE FROM storage_keyaccess")
    return rows


def reveal(client, order, purpose="api", body=None, **extra):
    headers = {"Authorization": f"Bearer {make_token(order, purpose)}", "User-Agent": "Mozilla/5.0 (evidence)"}
    path = f"/api/fulfillment/{order.id}/reveal"
    return client.post(path, body or {}, content_type="application/json", headers=headers, **extra)


def test_each_opening_is_a_row_that_shows_who_and_with_which_link(client, rows):
    reveal(client, rows.order, REMOTE_ADDR="203.0.113.77")
    Order.objects.update(link_generation=F("link_generation") + 1)
    rows.order.refresh_from_db()
    reveal(client, rows.order, "mail", REMOTE_ADDR="2001:db8:1:2:3:4:5:6")
    reveal(client, rows.order, REMOTE_ADDR="::ffff:203.0.113.78")
    fields = ["key_id", "order_id", "token", "generation", "network", "agent"]
    same = [rows.key.pk, rows.order.pk]
    assert [list(access) for access in KeyAccess.objects.order_by("id").values_list(*fields)] == [
        [*same, "api", 1, "203.0.113.0/24", "Mozilla/5.0 (evidence)"],
        [*same, "mail", 2, "2001:db8:1:2::/64", "Mozilla/5.0 (evidence)"],
        [*same, "api", 2, "203.0.113.0/24", "Mozilla/5.0 (evidence)"],
    ]


def test_row_is_neither_changed_nor_deleted(client, rows):
    reveal(client, rows.order)
    access = KeyAccess.objects.get()
    for attack in (access.save, access.delete):
        with pytest.raises(TypeError):
            attack()


def test_one_key_is_opened_and_the_others_stay_closed(client, rows):
    other = store_key(item=rows.item, supplier_key_id="another", plaintext=b"OTHER-KEY", content_type="text/plain")
    answer = reveal(client, rows.order, body={"keys": [str(other.pk)]})
    assert [key["id"] for key in answer.json()["keys"]] == [str(other.pk)]
    assert Key.objects.get(pk=rows.key.pk).viewed_at is None
    assert KeyAccess.objects.get().key_id == other.pk
    assert len(reveal(client, rows.order).json()["keys"]) == 2


def test_keys_that_are_not_the_orders_are_refused(client, rows):
    stranger = make_rows().key
    for keys in ([str(stranger.pk)], [str(uuid.uuid4())], ["x"], [str(rows.key.pk), str(stranger.pk)], [], "x", [1]):
        assert reveal(client, rows.order, body={"keys": keys}).status_code == 422
    assert not KeyAccess.objects.filter(order=rows.order).exists()


def test_key_opens_twenty_times_an_hour(client, rows, settings):
    settings.THROTTLE_SCALE = 1
    answers = [reveal(client, rows.order) for _ in range(21)]
    assert [answer.status_code for answer in answers] == [200] * 20 + [429]
    assert answers[-1].json()["code"] == "opened_too_often"
    assert KeyAccess.objects.count() == 20


@pytest.mark.parametrize(("is_on", "mails"), [(True, 1), (False, 0)])
def test_customer_is_told_of_the_first_opening(client, rows, settings, is_on, mails):
    settings.KEY_OPENED_MAIL = is_on
    for _ in range(3):
        reveal(client, rows.order)
    assert rows.order.emails.filter(kind=Email.Kind.KEY_OPENED).count() == mails


def test_staff_see_the_openings_on_the_order(client, rows):
    reveal(client, rows.order, REMOTE_ADDR="203.0.113.77")
    client.force_login(make_staff("orders.view_order", "storage.view_keyaccess"))
    page = client.get(page_of(rows.order)).content.decode()
    assert "203.0.113.0/24" in page
    assert "Mozilla/5.0 (evidence)" in page
